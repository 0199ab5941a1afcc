from __future__ import annotations

import builtins
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trilho_runtime.model.manifest import PackageError
from trilho_runtime.model.signing import check_signature, sign, write_keys
from trilho_runtime.model.verify import main
from trilho_runtime.package import open_package


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two pairs of keys, ours and theirs."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        write_keys(folder / name)
    return folder


@pytest.fixture(scope="module")
def signed(package: Path, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's package, signed with our key; not to be changed."""
    folder = Path(shutil.copytree(package, tmp_path_factory.mktemp("signed") / "package"))
    sign(folder, keys / "ours")
    return folder


@pytest.fixture
def own_signed(signed: Path, tmp_path: Path) -> Path:
    """A copy of the signed package that a test may change."""
    return Path(shutil.copytree(signed, tmp_path / "package"))


def test_a_signed_package_opens_for_who_trusts_its_key(signed: Path, keys: Path) -> None:
    name = json.loads((signed / "manifest.sig").read_text())["key"]
    assert len(name) == 16
    assert open_package(signed, [keys / "theirs.pub", keys / "ours.pub"]).signed_by == name
    assert open_package(signed, [(keys / "ours.pub").read_text()]).signed_by == name
    assert open_package(signed).signed_by is None  # nobody is trusted in particular: its digests are enough


def test_the_signature_is_of_the_manifests_bytes(signed: Path, keys: Path) -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    told = json.loads((signed / "manifest.sig").read_text())
    assert (told["schema"], told["algorithm"]) == (1, "ed25519")
    digest = hashlib.sha256((signed / "manifest.json").read_bytes()).digest()
    public: Any = load_pem_public_key((keys / "ours.pub").read_bytes())
    public.verify(bytes.fromhex(told["signature"]), digest)
    assert told["key"] == hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def test_who_trusts_keys_opens_nothing_else(own_signed: Path, keys: Path) -> None:
    with pytest.raises(PackageError, match=r"manifest\.sig: it is signed by the key .*, the key .* is trusted"):
        open_package(own_signed, [keys / "theirs.pub"])
    (own_signed / "manifest.sig").unlink()
    with pytest.raises(PackageError, match=f"{own_signed}: it is not signed, and only packages of the key"):
        open_package(own_signed, [keys / "ours.pub"])


def _swap(folder: Path) -> None:
    told = json.loads((folder / "manifest.sig").read_text())
    told["signature"] = "00" * 64
    (folder / "manifest.sig").write_text(json.dumps(told))


def _space(folder: Path) -> None:
    (folder / "manifest.json").write_bytes((folder / "manifest.json").read_bytes() + b" ")


def _text(folder: Path) -> None:
    told = json.loads((folder / "manifest.sig").read_text())
    (folder / "manifest.sig").write_text(json.dumps({**told, "signature": "not hexadecimal"}))


@pytest.mark.parametrize("change", [_swap, _space, _text])
def test_a_signature_of_something_else_is_refused(own_signed: Path, keys: Path, change: Any) -> None:
    change(own_signed)
    with pytest.raises(PackageError, match=r"manifest\.json: it is not what the key [0-9a-f]{16} signed"):
        open_package(own_signed, [keys / "ours.pub"])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 2, "algorithm": "ed25519"}', '{"schema": 1}', "\x00"])
def test_a_signature_that_is_none_is_refused(own_signed: Path, keys: Path, text: str) -> None:
    (own_signed / "manifest.sig").write_text(text)
    with pytest.raises(PackageError, match=r"manifest\.sig: it (is no signature|cannot be read)"):
        open_package(own_signed, [keys / "ours.pub"])


def test_nothing_of_an_untrusted_package_is_read_but_its_manifest(
    own_signed: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (own_signed / "manifest.json").write_text("{")  # not even parsed
    monkeypatch.setattr("trilho_runtime.package.check_files", lambda *_: pytest.fail("files were read"))
    with pytest.raises(PackageError, match="it is not what the key"):
        open_package(own_signed, [keys / "ours.pub"])


def test_a_signed_package_is_still_held_to_its_digests(own_signed: Path, keys: Path) -> None:
    (own_signed / "lock.txt").write_text("changed")
    with pytest.raises(PackageError, match=r"lock\.txt: its digest is "):
        open_package(own_signed, [keys / "ours.pub"])


def test_the_environment_may_name_the_keys(own_signed: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = [str(keys / "theirs.pub"), str(keys / "ours.pub")]
    monkeypatch.setenv("TRILHO_TRUSTED_KEYS", os.pathsep.join(both))
    assert open_package(own_signed).signed_by
    monkeypatch.setenv("TRILHO_TRUSTED_KEYS", "".join(Path(file).read_text() for file in both))
    assert open_package(own_signed).signed_by
    monkeypatch.setenv("TRILHO_TRUSTED_KEYS", both[0])
    with pytest.raises(PackageError, match="it is signed by the key"):
        open_package(own_signed)
    assert open_package(own_signed, ()).signed_by is None
    monkeypatch.setenv("TRILHO_TRUSTED_KEYS", str(keys / "absent.pub"))
    with pytest.raises(PackageError, match=r"absent\.pub: No such file"):
        open_package(own_signed)


def test_a_key_that_is_none_is_named_and_never_shown(own_signed: Path, keys: Path, tmp_path: Path) -> None:
    secret = (keys / "ours").read_text()
    cases: list[tuple[str | Path, str]] = [
        (keys / "ours.pub", "is no private key in PEM without a password"),
        (tmp_path / "absent", "No such file"),
        (secret.replace("MC4", "XX4"), "the key given is no private key"),
    ]
    for key, says in cases:
        with pytest.raises(PackageError, match=says) as caught:
            sign(own_signed, key)
        assert "\nHint: make " in str(caught.value)
        assert secret.splitlines()[1] not in str(caught.value)
    with pytest.raises(PackageError, match="is no public key in PEM"):
        check_signature(own_signed, b"", [keys / "ours"])
    assert sign(own_signed, secret) == sign(own_signed, keys / "ours")


@pytest.fixture
def _no_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    known = builtins.__import__

    def fail(name: str, *given: Any, **more: Any) -> Any:
        if name.startswith("cryptography"):
            raise ImportError(name)
        return known(name, *given, **more)

    monkeypatch.setattr(builtins, "__import__", fail)


@pytest.mark.usefixtures("_no_cryptography")
def test_without_cryptography_it_is_said_how_to_get_it(signed: Path, keys: Path) -> None:
    for call in (lambda: sign(signed, keys / "ours"), lambda: open_package(signed, [keys / "ours.pub"])):
        with pytest.raises(PackageError) as caught:
            call()
        assert str(caught.value).splitlines() == [
            "signatures need the package cryptography, which is not installed here",
            "Hint: pip install cryptography",
        ]
    assert open_package(signed).manifest["name"] == "tiny"


def test_keys_sign_and_verify_are_commands(package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, key = Path(shutil.copytree(package, tmp_path / "package")), tmp_path / "keys" / "mine"
    assert main(["keys", "--out", str(key)]) == 0
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    name = capsys.readouterr().out.split("the key ")[1][:16]
    assert main(["keys", "--out", str(key)]) == 1
    assert (
        capsys.readouterr().err
        == f"{key} is there already; no key is overwritten\nHint: name another file with --out\n"
    )
    assert main(["sign", str(folder), "--key", str(key)]) == 0
    assert capsys.readouterr().out == f"tiny: signed with the key {name}\n"
    assert main(["verify", str(folder), "--trust", f"{key}.pub"]) == 0
    assert capsys.readouterr().out.endswith(f" files are what the manifest says, and {name} has signed it\n")
    (folder / "lock.txt").write_text("")
    assert main(["sign", str(folder), "--key", str(key)]) == 1
    assert "lock.txt: its digest is" in capsys.readouterr().err
    command = [sys.executable, "-m", "trilho_runtime.package", "verify", str(package), "--trust", f"{key}.pub"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{package}: it is not signed, and only packages of the key {name}")
