"""`trilho serve PACKAGE`: one model package, answered for until Ctrl-C."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from trilho.cli.stopping import until_told
from trilho.errors import UsageError

if TYPE_CHECKING:
    from trilho.cli.session import Session

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Asked:
    """What was asked of an endpoint, of a package or of a project."""

    port: int | None
    host: str
    workers: int | None
    entries: str | None
    opened: bool


def found(folder: Path | None, what: str) -> str | None:
    """Give the package that is meant, None where a project is. Raises UsageError for what is neither."""
    if "://" in what:
        return what
    path = (folder or Path()) / what
    if (path / "manifest.json").is_file() and not (path / "trilho.toml").is_file():
        return str(path)
    if what and not (path / "trilho.toml").is_file():
        known = "is neither a model package (no manifest.json) nor a project (no trilho.toml)"
        raise UsageError(f"{path} {known if path.is_dir() else 'is no folder'}", hint="trilho serve --help")
    return None


def check_exposed(asked: Asked, guarded: bool, way: str) -> None:
    """Raise UsageError where anybody could ask, and nobody said so."""
    if asked.host not in LOOPBACK and not guarded and not asked.opened:
        fact = f"--host {asked.host} can be reached from other machines, and no caller would be asked who it is"
        raise UsageError(fact, hint=f"{way}, or --open where something in front of it asks")


def serve(
    here: Session,
    package: str,
    asked: Asked,
    *,
    log: str,
    version: int,
    python: Path | None,
    keys: Sequence[str],
) -> None:
    """Serve a package until told to stop."""
    from trilho.serve.interpreter import interpreter_for
    from trilho.serve.standalone import Options, Server, bring

    check_exposed(asked, bool(keys), "--api-key env:NAME")
    folder = bring(package)
    interpreter = interpreter_for(folder, python)
    more = ["--entries", asked.entries] if asked.entries else []
    more += [part for key in keys for part in ("--api-key", key)]
    more += ["--open"] if asked.opened else []
    kept = _log_folder(log, folder)
    options = Options(asked.port or 0, asked.host, version, asked.workers or 1, kept, more)
    with until_told() as stop:
        server = Server(interpreter, folder, options)
        facts = server.wait_until_ready(stop)
        if facts is not None:
            _announce(here, folder, facts, options, bool(keys))
        code = server.wait(stop) if facts is not None else server.end()
    here.say("Stopped." if code == 0 else f"The server ended with exit code {code}.")
    if code:
        raise typer.Exit(code if code > 0 else 1)


def _log_folder(log: str, package: Path) -> Path | None:
    """Give the folder of a package's lines: the one named, or as in a project, below .trilho."""
    from trilho.serve.endpoint import read_json

    if log == "none":
        return None
    name = str((read_json(package / "manifest.json") or {}).get("name") or "model")
    return Path(log) if log else Path(".trilho") / "log" / name


def _announce(here: Session, package: Path, facts: dict[str, Any], options: Any, keyed: bool) -> None:
    """Say where and how it answers."""
    from trilho.serve.endpoint import read_json
    from trilho.serve.standalone import example

    address, name = facts["address"], (read_json(package / "manifest.json") or {}).get("name")
    path, why = facts.get("path", ""), facts.get("why", "")
    header = ["x-api-key: KEY"] if keyed else []
    protocols = {"vertex": "POST /predict", "open inference v2": f"POST /v2/models/{name}/infer"}
    here.say(f"{name}, version {options.version}: {address}")
    here.facts([
        ("asks", "; ".join(f"{way} ({which})" for which, way in protocols.items())),
        ("says", "GET /, /health, /metrics, /profile, /docs, /openapi.json"),
        ("labels", 'POST /labels {"labels": [{"id": "ID OF A PREDICTION", "value": 1}]}' if options.log else None),
        ("path", f"{path}{f': {why}' if why else ''}" if path else None),
        ("workers", str(options.workers)),
        ("log", str(options.log) if options.log else "none: nothing that is answered is kept (--log DIR)"),
    ])  # fmt: skip
    here.say("Ctrl-C stops it.")
    told = {
        name: facts.get(name) for name in ("model", "path", "why", "stages", "pid", "memory_bytes") if name in facts
    }
    here.done(
        example(package, address, header), address=address, version=options.version, package=str(package),
        protocols=protocols, log=None if options.log is None else str(options.log), workers=options.workers, **told,
    )  # fmt: skip
