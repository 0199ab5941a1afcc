"""The standard's Dockerfile, built for real where buildah is; the base is made by debootstrap, no registry needed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trilho.adopt.scaffold import write_project
from trilho.adopt.standard.pins import version_of

ROOT = Path(__file__).resolve().parents[2]
BASE = "localhost/trilho-test-base"
EPOCH = 1_700_000_000
UNREACHED = ("ould not find a version", "onnection", "emporary failure in name resolution", "SSLError")
LIBRARIES = ("click", "granian", "numpy", "orjson")
pytestmark = pytest.mark.timeout(1200)


def buildah(*words: str | Path, check: bool = True) -> str:
    environment = {**os.environ, "STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}
    done = subprocess.run(
        ["buildah", *map(str, words)], capture_output=True, text=True, check=False, env=environment, cwd=ROOT
    )
    assert done.returncode == 0 or not check, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image of Debian's with its Python, kept from run to run; it stands for python:3.11-slim."""
    if shutil.which("buildah") is None or shutil.which("make") is None:
        pytest.skip("buildah is not installed: apt-get install buildah debootstrap")
    if buildah("images", "--quiet", BASE, check=False).strip():
        return probed(BASE)
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        pytest.skip(f"{BASE} is not there, and cannot be made: apt-get install debootstrap, as root")
    root = tmp_path_factory.mktemp("base") / "root"
    packages = "--include=ca-certificates,python3,python3-venv"
    words = ["debootstrap", "--variant=minbase", packages, "bookworm", str(root)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"debootstrap failed: {done.stdout[-200:]}")
    (root / "usr" / "local" / "bin" / "python").symlink_to("/usr/bin/python3")
    try:
        container = buildah("from", "scratch").strip()
        buildah("add", "--quiet", container, root, "/")
        buildah("commit", "--quiet", container, BASE)
        buildah("rm", container)
    except AssertionError as error:
        pytest.skip(f"buildah can make no image here: {str(error)[:200]}")
    shutil.rmtree(root, ignore_errors=True)
    return probed(BASE)


def probed(image: str) -> str:
    """Give the image, if a container of it can run a command on this machine at all."""
    container = buildah("from", image, check=False).strip()
    said = buildah("run", container, "--", "python", "-c", "print(6 * 7)", check=False) if container else ""
    buildah("rm", container, check=False)
    if said.strip() != "42":
        pytest.skip("buildah can run no container here")
    return image


@pytest.fixture(scope="module")
def project(base: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a lock of few libraries, and wheels of ours beside it."""
    folder = tmp_path_factory.mktemp("image") / "rides"
    write_project(folder, "rides", "regression")
    (folder / "requirements.lock").write_text("".join(f"{name}=={version_of(name)}\n" for name in LIBRARIES))
    (folder / "src" / "rides" / "features.py").chmod(0o600)  # as by a strict umask
    for source in (ROOT, ROOT / "runtime"):
        words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "wheels")]
        subprocess.run(words, cwd=source, check=True, capture_output=True)
    (folder.parent / "pip.conf").write_text("[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n")
    return folder


def build(project: Path, target: str, image: str, *flags: str) -> None:
    certificates, pip = "/etc/ssl/certs", project.parent / "pip.conf"
    volumes = f"--volume {certificates}:{certificates}:ro --volume {pip}:/etc/pip.conf:ro"
    words = [
        "make", target, "ENGINE=buildah", f"IMAGE=localhost/{image}", f"SOURCE_DATE_EPOCH={EPOCH}",
        f"TRILHO_PACKAGE=trilho=={version_of('trilho')}",
        f"RUNTIME_PACKAGE=trilho-runtime=={version_of('trilho-runtime')}",
        f"BUILD_FLAGS=--isolation chroot --from {BASE} {volumes} {' '.join(flags)}",
    ]  # fmt: skip
    environment = {**os.environ, "STORAGE_DRIVER": "vfs"}
    done = subprocess.run(words, cwd=project, capture_output=True, text=True, check=False, env=environment)
    said = done.stdout + done.stderr
    if done.returncode != 0 and any(sign in said for sign in UNREACHED):
        pytest.skip("the image's libraries cannot be fetched: no package index is reached")
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


@pytest.fixture(scope="module")
def images(project: Path) -> Iterator[dict[str, str]]:
    """Both images of the project, removed afterwards."""
    build(project, "image", "standard-test")
    build(project, "serving", "standard-test")
    yield {target: f"localhost/standard-test:{target}" for target in ("training", "serving")}
    buildah("rmi", "localhost/standard-test:training", "localhost/standard-test:serving", check=False)


def inside(image: str, script: str) -> list[str]:
    container = buildah("from", image).strip()
    try:
        return buildah("run", container, "--", "sh", "-c", script).splitlines()
    finally:
        buildah("rm", container)


def test_the_training_image_has_two_interpreters_and_nobodys_rights(images: dict[str, str]) -> None:
    script = (
        "id -u; pwd; python -c 'import numpy, trilho_runtime.step; print(trilho_runtime.__name__)'; "
        '"$TRILHO_PLATFORM_PYTHON" -m trilho --version; cat "$TRILHO_SOURCE"/rides/features.py | head -1; '
        "python -c 'import trilho' 2>&1 | tail -1; python -m pip --version 2>&1 | tail -1"
    )
    said = inside(images["training"], script)
    assert said[:4] == ["10001", "/project", "trilho_runtime", f"trilho {version_of('trilho')}"]
    assert said[4].startswith('"""Raw rows to features')
    assert said[5] == "ModuleNotFoundError: No module named 'trilho'"
    assert said[6].endswith("No module named pip")


def test_the_serving_image_serves_and_holds_no_code_and_no_platform(images: dict[str, str]) -> None:
    said = inside(images["serving"], "id -u; ls /opt; ls -A /project; python -m trilho_runtime.server --help | head -1")
    assert said[:2] == ["10001", "project"]
    assert said[2].startswith("usage: python -m trilho_runtime.server")
    config = json.loads(buildah("inspect", "--type", "image", images["serving"]))["OCIv1"]["config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["python", "-m", "trilho_runtime.container"]
    assert config.get("Cmd") is None


def test_every_file_has_the_time_of_the_commit(images: dict[str, str]) -> None:
    for image in images.values():
        assert inside(image, f"find /opt /project -newermt @{EPOCH} -type f | head -3") == []


def test_the_same_commit_gives_the_same_layers(project: Path, images: dict[str, str]) -> None:
    build(project, "serving", "standard-test-again", "--no-cache")

    def layers(image: str) -> list[str]:
        found = json.loads(buildah("inspect", "--type", "image", image))["OCIv1"]["rootfs"]["diff_ids"]
        return [str(one) for one in found]

    again = "localhost/standard-test-again:serving"
    try:
        assert layers(again) == layers(images["serving"])
    finally:
        buildah("rmi", again, check=False)
