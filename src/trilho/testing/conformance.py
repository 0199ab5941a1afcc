"""What makes a backend right: one check per promise of a port, the same for every implementation.

A check is a function of a factory and of a place that it may write to: an empty folder, for runners and schedulers the
root of their artifacts (a URI, or a folder as text). The factory gives the implementation, a fresh instance on each
call, on the same data. An assertion that fails is a promise that is broken. In a test of a backend of your own:

    @pytest.mark.parametrize("check", conformance.ARTIFACT_STORE, ids=conformance.title)
    def test_my_store(check, tmp_path):
        check(lambda: MyStore(...), tmp_path)
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from trilho.core.digest import digest_path
from trilho.core.ports import ArtifactStore, NotFound, RemoteJob, RemoteStatus, Runner, Scheduler
from trilho.errors import DataError, TrilhoError

P = TypeVar("P")
Make = Callable[[], P]
Check = Callable[[Make[P], Path], None]
RemoteCheck = Callable[[Make[P], str], None]

WAIT_SECONDS = 60.0


def title(check: Callable[..., None]) -> str:
    """Give a check's name as a sentence.

    >>> title(finds_what_another_put)
    'finds what another put'
    """
    return check.__name__.replace("_", " ")


# ---- ArtifactStore ---------------------------------------------------------------------------------------------


def names_a_file_by_its_content(make: Make[ArtifactStore], folder: Path) -> None:
    """A file comes back byte for byte, under the digest of its content and not of its name."""
    one, same = _file(folder / "one.bin", b"\x00\x01" * 5000), _file(folder / "same.bin", b"\x00\x01" * 5000)
    store = make()
    digest = store.put(one)
    assert digest == digest_path(one) == store.put(same)
    assert store.path(digest).read_bytes() == one.read_bytes()


def keeps_a_folder_with_its_names(make: Make[ArtifactStore], folder: Path) -> None:
    """A folder comes back with its files, nested ones too, and counts as one artifact."""
    source = folder / "model"
    _file(source / "manifest.json", b"{}")
    _file(source / "parts" / "a b.bin", b"1")
    _file(source / "parts" / "empty", b"")
    store = make()
    digest = store.put(source)
    found = store.path(digest)
    assert digest_path(found) == digest
    assert sorted(str(path.relative_to(found)) for path in found.rglob("*") if path.is_file()) == [
        "manifest.json",
        "parts/a b.bin",
        "parts/empty",
    ]


def keeps_an_empty_folder(make: Make[ArtifactStore], folder: Path) -> None:
    """A folder without files is an artifact too."""
    (folder / "nothing").mkdir(parents=True)
    store = make()
    found = store.path(store.put(folder / "nothing"))
    assert found.is_dir()
    assert list(found.iterdir()) == []


def does_not_follow_its_source(make: Make[ArtifactStore], folder: Path) -> None:
    """What was put stays as it was, whatever happens to the file that it was put from."""
    source = _file(folder / "data.csv", b"1,2")
    store = make()
    digest = store.put(source)
    source.write_bytes(b"3,4")
    assert store.path(digest).read_bytes() == b"1,2"
    assert store.put(source) != digest


def knows_what_it_has(make: Make[ArtifactStore], folder: Path) -> None:
    """`has` and `use` say what is there; `path` of anything else is an error with words."""
    store = make()
    absent = "0" * 64
    assert not store.has(absent)
    assert not store.use(absent)
    raises(DataError, lambda: store.path(absent))
    digest = store.put(_file(folder / "x", b"x"))
    assert store.has(digest)
    assert store.use(digest)


def refuses_what_is_not_there(make: Make[ArtifactStore], folder: Path) -> None:
    """To put a file that does not exist is an error with words."""
    raises(DataError, lambda: make().put(folder / "absent"))


def finds_what_another_put(make: Make[ArtifactStore], folder: Path) -> None:
    """What one process put is there for the next."""
    digest = make().put(_file(folder / "x", b"of the first"))
    other = make()
    assert other.has(digest)
    assert other.path(digest).read_bytes() == b"of the first"


def is_put_at_once_by_many(make: Make[ArtifactStore], folder: Path) -> None:
    """Several who put the same folder at the same time all succeed, and it is whole."""
    source = folder / "folder"
    for number in range(5):
        _file(source / f"{number}.bin", bytes([number]) * 1000)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(make().put(source))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert found == [digest_path(source)] * 4
    assert digest_path(make().path(found[0])) == found[0]


ARTIFACT_STORE: tuple[Check[ArtifactStore], ...] = (
    names_a_file_by_its_content,
    keeps_a_folder_with_its_names,
    keeps_an_empty_folder,
    does_not_follow_its_source,
    knows_what_it_has,
    refuses_what_is_not_there,
    finds_what_another_put,
    is_put_at_once_by_many,
)


# ---- Runner ----------------------------------------------------------------------------------------------------


def runs_to_the_end(make: Make[Runner], root: str) -> None:
    """A pipeline that was submitted succeeds, with each of its tasks, on the parameters that it was given."""
    runner, job = make(), job_of(root, HELLO, parameters={"word": "olá"})
    assert job.run in runner.submit(job)
    status = until_ended(runner, job.run)
    assert (status.state, status.error) == ("succeeded", None)
    assert {task.name: task.state for task in status.tasks} == {"first": "succeeded", "second": "succeeded"}
    assert "said olá" in runner.log(job.run, "first")


def submits_once(make: Make[Runner], root: str) -> None:
    """The same run submitted again is the same job, also when it has ended."""
    job = job_of(root, HELLO)
    name = make().submit(job)
    assert make().submit(job) == name
    assert until_ended(make(), job.run).state == "succeeded"
    assert make().submit(job) == name
    assert make().status(job.run).state == "succeeded"


def says_what_failed(make: Make[Runner], root: str) -> None:
    """A task that fails fails the run; what needs it does not run, and its log is kept."""
    runner, job = make(), job_of(root, HELLO, first="echo out of luck; exit 3")
    runner.submit(job)
    status = until_ended(runner, job.run)
    assert status.state == "failed"
    assert status.error
    states = {task.name: task.state for task in status.tasks}
    assert states["first"] == "failed"
    assert states.get("second", "skipped") in ("skipped", "pending")
    assert "out of luck" in runner.log(job.run, "first")


def cancels(make: Make[Runner], root: str) -> None:
    """A run that is cancelled ends soon, as cancelled; to cancel it again changes nothing."""
    runner, job = make(), job_of(root, HELLO, first="sleep 300")
    runner.submit(job)
    _until(lambda: runner.status(job.run).ended or _states(runner.status(job.run)).get("first") == "running")
    runner.cancel(job.run)
    status = until_ended(runner, job.run)
    assert status.state == "cancelled"
    assert "succeeded" not in _states(status).values()
    runner.cancel(job.run)
    assert runner.status(job.run).state == "cancelled"


def knows_its_runs(make: Make[Runner], root: str) -> None:
    """A run that was never submitted is not found, whatever is asked of it."""
    runner = make()
    raises(NotFound, lambda: runner.status("r-never-submitted"))
    raises(NotFound, lambda: runner.cancel("r-never-submitted"))


def is_found_by_another(make: Make[Runner], root: str) -> None:
    """Who knows the run's id finds the run: the process that submitted it need not live."""
    job = job_of(root, HELLO)
    make().submit(job)
    assert until_ended(make(), job.run).state == "succeeded"


RUNNER: tuple[RemoteCheck[Runner], ...] = (
    runs_to_the_end,
    submits_once,
    says_what_failed,
    cancels,
    knows_its_runs,
    is_found_by_another,
)


# ---- Scheduler -------------------------------------------------------------------------------------------------


def keeps_a_schedule(make: Make[Scheduler], root: str) -> None:
    """A schedule is listed as it was made, with the time of its next run."""
    name = f"s-{uuid.uuid4().hex[:8]}"
    id_ = make().create(job_of(root, HELLO, run=name), "30 4 * * 1", "America/Sao_Paulo")
    found = next(one for one in make().list() if one.id == id_)
    assert (found.name, found.cron, found.timezone) == (name, "30 4 * * 1", "America/Sao_Paulo")
    assert not found.paused
    assert found.next is not None
    make().delete(id_)


def pauses_and_resumes(make: Make[Scheduler], root: str) -> None:
    """A paused schedule has no next run until it is resumed."""
    scheduler = make()
    id_ = scheduler.create(job_of(root, HELLO, run=f"s-{uuid.uuid4().hex[:8]}"), "0 3 * * *", "UTC")
    scheduler.pause(id_)
    paused = next(one for one in make().list() if one.id == id_)
    assert (paused.paused, paused.next) == (True, None)
    scheduler.resume(id_)
    resumed = next(one for one in make().list() if one.id == id_)
    assert not resumed.paused
    assert resumed.next is not None
    scheduler.delete(id_)


def forgets_what_was_deleted(make: Make[Scheduler], root: str) -> None:
    """A deleted schedule is gone, and like one that never was: not found."""
    scheduler = make()
    id_ = scheduler.create(job_of(root, HELLO, run=f"s-{uuid.uuid4().hex[:8]}"), "0 3 * * *", "UTC")
    scheduler.delete(id_)
    assert id_ not in [one.id for one in make().list()]
    for verb in (scheduler.pause, scheduler.resume, scheduler.delete):
        raises(NotFound, partial(verb, id_))


SCHEDULER: tuple[RemoteCheck[Scheduler], ...] = (keeps_a_schedule, pauses_and_resumes, forgets_what_was_deleted)


# ---- what the checks are made of -------------------------------------------------------------------------------

HELLO = {"first": 'echo "said $0"', "second": "true"}
"""Two tasks, the second after the first; each is a command of a shell that is given the pipeline's word."""


def job_of(
    root: str,
    commands: Mapping[str, str],
    *,
    run: str = "",
    parameters: Mapping[str, Any] | None = None,
    **other: str,
) -> RemoteJob:
    """Give a job of shell commands, each after the one before, in an image that every machine stands for."""
    run = run or f"r-{uuid.uuid4().hex[:12]}"
    return RemoteJob(
        run=run,
        model="conformance",
        document=document_of({**commands, **other}),
        parameters=parameters or {},
        root=root,
        labels={"trilho-model": "conformance", "trilho-run": run},
    )


def document_of(commands: Mapping[str, str]) -> dict[str, Any]:
    """Give the IR of shell commands in a row, each given the parameter `word`."""
    tasks: dict[str, Any] = {}
    for name in commands:
        tasks[name] = {
            "taskInfo": {"name": name},
            "componentRef": {"name": f"comp-{name}"},
            "cachingOptions": {},
            "inputs": {"parameters": {"word": {"componentInputParameter": "word"}}},
            **({"dependentTasks": [list(tasks)[-1]]} if tasks else {}),
        }
    definitions = {"parameters": {"word": {"parameterType": "STRING"}}}
    word = {"parameters": {"word": {"parameterType": "STRING", "defaultValue": "nothing", "isOptional": True}}}
    return {
        "schemaVersion": "2.1.0",
        "sdkVersion": "trilho",
        "pipelineInfo": {"name": "conformance"},
        "root": {"inputDefinitions": word, "dag": {"tasks": tasks}},
        "components": {
            f"comp-{name}": {"executorLabel": f"exec-{name}", "inputDefinitions": definitions} for name in commands
        },
        "deploymentSpec": {
            "executors": {
                f"exec-{name}": {
                    "container": {
                        "image": "python:3.12",
                        "command": ["sh", "-c", text],
                        "args": ["{{$.inputs.parameters['word']}}"],
                    }
                }
                for name, text in commands.items()
            }
        },
    }


def until_ended(runner: Runner, run: str) -> RemoteStatus:
    """Wait for a run's end, as long as a check may take."""
    _until(lambda: runner.status(run).ended)
    return runner.status(run)


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not true():
        assert time.monotonic() < deadline, f"nothing after {WAIT_SECONDS:g} s"
        time.sleep(0.1)


def _states(status: RemoteStatus) -> dict[str, str]:
    return {task.name: task.state for task in status.tasks}


def _file(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def raises(kind: type[TrilhoError], call: Callable[[], object]) -> None:
    """Assert that a call raises an error of ours, with words."""
    raised: TrilhoError | None = None
    try:
        call()
    except kind as error:
        raised = error
    assert raised is not None, f"{kind.__name__} was to be raised"
    assert raised.fact
