"""What a hostile or an unlucky user does to `trilho adopt`: names, places, secrets, and processes that live on."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trilho.adopt.adoption import find_exposed, told_secrets
from trilho.adopt.capture.run import MARK, _end
from trilho.adopt.scaffold import nearest_name, package_of
from trilho.adopt.scratch import scratch_folder
from trilho.adopt.standard.tree import drafted
from trilho.adopt.survey import without_secrets
from trilho.errors import TrilhoError, Unreachable, UsageError


@pytest.mark.parametrize("name", ["numbers", "tests", "trilho-runtime", "trilho", "json"])
def test_no_package_hides_a_module(name: str) -> None:
    with pytest.raises(UsageError, match="there is a module"):
        package_of(name)
    assert package_of(nearest_name(name)) == f"{name}-model".replace("-", "_")


def test_a_library_of_the_notebook_keeps_its_name() -> None:
    assert package_of("pandas") == "pandas"
    with pytest.raises(UsageError, match="pandas already"):
        package_of("pandas", {"pandas"})
    assert nearest_name("pandas", {"pandas"}) == "pandas-model"


def test_accents_lose_their_marks_only() -> None:
    assert nearest_name("Previsão de Café") == "previsao-de-cafe"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def make(draft: Path) -> None:
    (draft / ".venv" / "bin").mkdir(parents=True)
    (draft / ".venv" / "bin" / "tool").write_text(f"#!{draft}/.venv/bin/python\n")
    (draft / "trilho.toml").write_text("")


def fail(folder: Path, error: BaseException) -> None:
    with drafted(folder) as draft:
        make(draft)
        raise error


def come_between(folder: Path) -> None:
    with drafted(folder) as draft:
        make(draft)
        folder.mkdir()
        (folder / "mine.txt").write_text("mine")


def stop_run(digest: str, checkpoint: str) -> None:
    with scratch_folder(digest) as folder:
        if checkpoint:
            (folder / checkpoint).write_text("{}")
        raise TrilhoError("it was stopped")


def test_a_draft_takes_its_place_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "project"
    with drafted(folder) as draft:
        make(draft)
        assert not folder.exists()
    assert (folder / ".venv" / "bin" / "tool").read_text() == f"#!{folder}/.venv/bin/python\n"
    assert names(tmp_path / "new") == ["project"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    with drafted(folder) as draft:
        make(draft)
    assert names(folder) == [".venv", "trilho.toml"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("no"), OSError(errno.ENOENT, "gone")])
def test_nothing_is_left_of_a_draft_that_failed(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        fail(tmp_path / "new" / "project", error)
    assert names(tmp_path) == []


def test_a_full_disk_is_said_in_two_lines(tmp_path: Path) -> None:
    with pytest.raises(TrilhoError, match="No space left on device") as told:
        fail(tmp_path / "project", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "file"))
    assert told.value.hint
    assert names(tmp_path) == []


def test_what_came_meanwhile_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    with pytest.raises(UsageError, match="is there already"):
        come_between(folder)
    assert names(tmp_path) == ["project"]
    assert names(folder) == ["mine.txt"]


def test_one_process_makes_a_folder(tmp_path: Path) -> None:
    (tmp_path / f".project.{os.getppid()}.part").mkdir()
    with pytest.raises(Unreachable, match=f"process {os.getppid()}"), drafted(tmp_path / "project"):
        pass


def test_what_a_killed_process_left_goes(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / f".project.{gone.pid}.part" / "project").mkdir(parents=True)
    with drafted(tmp_path / "project") as draft:
        make(draft)
    assert names(tmp_path) == ["project"]


def test_a_file_is_no_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(TrilhoError, match="cannot be made"), drafted(tmp_path / "file" / "project"):
        pytest.fail("this must be known before the notebook runs")


def test_a_checkpoint_outlives_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(TrilhoError, match="stopped"):
        stop_run("a" * 64, "checkpoint.json")
    with scratch_folder("a" * 64) as again:
        assert (again / "checkpoint.json").exists()
    assert not again.exists()
    with pytest.raises(TrilhoError, match="stopped"):
        stop_run("b" * 64, "")
    assert not (again.parent / ("b" * 32)).exists()


def test_an_old_checkpoint_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    old = tmp_path / "trilho" / "adopt" / "old"
    old.mkdir(parents=True)
    os.utime(old, (0, 0))
    with scratch_folder("c" * 64):
        assert not old.exists()


def test_secrets_are_counted_and_never_repeated(tmp_path: Path) -> None:
    key = "AKIA" + "Z7Q2M4N8P1R5T9V3"
    notebook = tmp_path / "nb.ipynb"
    notebook.write_text(f'{{"source": "key = {key}"}}')
    binary = tmp_path / "model.bin"
    binary.write_bytes(b"\0" + key.encode())
    found = find_exposed({"src/a.py": f'k = "{key}"\n'}, {"notebooks/nb.ipynb": notebook, "data/model.bin": binary})
    assert found == {"src/a.py": 1, "notebooks/nb.ipynb": 1}
    told = told_secrets(found)
    assert [finding.file for finding in told] == ["notebooks/nb.ipynb", "src/a.py"]
    assert [".gitignore" in finding.message for finding in told] == [True, False]
    assert key not in repr(told)


@pytest.mark.parametrize(("url", "shown"), [
    ("https://bob:pw@example.com/a.csv?token=t#x", "https://example.com/a.csv?..."),
    ("https://example.com/a.csv", "https://example.com/a.csv"),
    ("gs://bucket/a.csv", "gs://bucket/a.csv"),
    ("data/a?.csv", "data/a?.csv"),
])  # fmt: skip
def test_an_address_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="it is found by /proc")
def test_what_left_the_kernels_group_is_ended_too(tmp_path: Path) -> None:
    code = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], " \
           "start_new_session=True); print(p.pid, flush=True)"  # fmt: skip
    kernel = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True,
        env={**os.environ, MARK: str(tmp_path)},
    )  # fmt: skip
    assert kernel.stdout is not None
    orphan = int(kernel.stdout.readline())
    kernel.wait()
    assert Path(f"/proc/{orphan}").exists()
    _end(kernel, tmp_path)
    for _ in range(100):
        status = Path(f"/proc/{orphan}/stat")
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.05)
    else:
        pytest.fail("it still runs")
