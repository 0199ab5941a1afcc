"""Packages from the shell: verify one, sign one, make keys."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trilho_runtime.model.manifest import PackageError
from trilho_runtime.model.signing import SIGNING_KEY, sign, write_keys

HINT = "take the package from the store again"


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a model package's files against its manifest, sign it, or make keys to sign with."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m trilho_runtime.package", description=main.__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verify = verbs.add_parser("verify", help="check every file's digest, and the signature where keys are trusted")
    verify.add_argument("folder", type=Path)
    trust = "a public key; a package that none of them signed is refused"
    verify.add_argument("--trust", type=Path, action="extend", nargs="+", metavar="FILE", help=trust)
    signed = verbs.add_parser("sign", help="sign a package's manifest, which lists all else")
    signed.add_argument("folder", type=Path)
    signed.add_argument("--key", type=Path, metavar="FILE", required=True, help="a private key in PEM")
    keys = verbs.add_parser("keys", help="make a private key, and its public one beside it")
    keys.add_argument("--out", type=Path, metavar="FILE", required=True)
    given = parser.parse_args(arguments)
    try:
        told = {"verify": _verify, "sign": _sign, "keys": _keys}[given.verb](given)
    except (PackageError, OSError) as error:
        text = str(error)
        sys.stderr.write(f"{text}\n" if "\nHint: " in text else f"{text}\nHint: {HINT}\n")
        return 1
    sys.stdout.write(f"{told}\n")
    return 0


def _verify(given: Any) -> str:
    from trilho_runtime.package import open_package

    package = open_package(given.folder, given.trust)
    signed = f", and {package.signed_by} has signed it" if package.signed_by else ""
    manifest = package.manifest
    return f"{manifest['name']}: {len(manifest['files'])} files are what the manifest says{signed}"


def _sign(given: Any) -> str:
    from trilho_runtime.package import open_package

    package = open_package(given.folder, ())  # what is signed must be whole
    return f"{package.manifest['name']}: signed with the key {sign(given.folder, given.key)}"


def _keys(given: Any) -> str:
    public, name = write_keys(given.out)
    return f"{given.out}: keep it, and name it in {SIGNING_KEY}\n{public}: the key {name}; give it to those who load"
