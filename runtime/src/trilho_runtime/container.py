"""What an image of ours runs, wherever it runs: Vertex AI, Cloud Run, Kubernetes, docker run.

    python -m trilho_runtime.container [PACKAGE] [what trilho_runtime.server takes]

It reads the environment: AIP_* or PORT say where to listen, TRILHO_* the rest. One package is served by this process,
or by TRILHO_WORKERS of them; several, a folder each in TRILHO_PACKAGES, by a process each behind the router, as
TRILHO_ROUTES says (JSON, or a file of it that may be written anew while it runs).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

DEFAULTS = ("/model", "/app/package")
NOWHERE = "/tmp/trilho"  # noqa: S108  labels are kept there when nobody said where
EVERYWHERE = "0.0.0.0"  # noqa: S104  a container's port is reached from outside of it
VALUES = {
    "TRILHO_NAME": "--name",
    "TRILHO_MASK": "--mask",
    "TRILHO_TOPIC": "--topic",
    "TRILHO_PROFILE_TOPIC": "--profile-topic",
    "TRILHO_PROFILES": "--profiles",
    "TRILHO_PROFILE_SECONDS": "--profile-seconds",
    "TRILHO_DECISION": "--decision",
    "TRILHO_HISTORY": "--history",
    "TRILHO_ENTRIES": "--entries",
    "TRILHO_EXTRA_FIELDS": "--extra-fields",
    "TRILHO_MAX_ROWS": "--max-rows",
}
SWITCHES = {"TRILHO_FSYNC": "--fsync"}
NO = ("", "0", "false", "no")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve what the environment says."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    env = os.environ
    if env.get("TRILHO_PACKAGES") or (env.get("TRILHO_ROUTES") and not _named(given)):
        return _several(given, env)
    return _one(given, env)


def _one(given: Sequence[str], env: Mapping[str, str]) -> int:
    """Serve one package, in this process or in several."""
    package = [] if _named(given) else [_package(env)]
    version = ["--version", env["TRILHO_VERSION"]] if env.get("TRILHO_VERSION") else []
    labels = ["--label-dir", _labels(env)] if env.get("TRILHO_LOG") else []
    arguments = [
        *address(env),
        *version,
        *serving(env),
        *callers(env),
        *body(env),
        *notes(env),
        *labels,
        *package,
        *given,
    ]
    return _serve(arguments, env)


def _serve(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    workers = env.get("TRILHO_WORKERS") or "1"
    if workers == "1":
        from trilho_runtime.server import main as serve

        return serve(arguments)
    from trilho_runtime.workers import main as serve_together

    return serve_together(["--workers", workers, *arguments])


def _several(given: Sequence[str], env: Mapping[str, str]) -> int:
    """Serve several versions, a process each, behind the router."""
    from trilho_runtime.processes.fleet import Fleet
    from trilho_runtime.processes.plan import Plan, PlanError, read_plan, versions_in

    folder = env.get("TRILHO_PACKAGES", "")

    def read() -> Plan:
        packages = versions_in(Path(folder)) if folder else {}
        return read_plan(_routes(env, packages), packages)

    def server(number: int, package: str) -> Sequence[str]:
        workers = env.get("TRILHO_WORKERS") or "1"
        module = ["trilho_runtime.server"] if workers == "1" else ["trilho_runtime.workers", "--workers", workers]
        own = ["--host", "127.0.0.1", "--port", "0", "--version", str(number)]
        return [*module, package, *own, *serving(env), *body(env), *notes(env), *given]

    durable = [flag for name, flag in SWITCHES.items() if on(env.get(name))]
    router = [
        "trilho_runtime.route",
        *address(env),
        *callers(env),
        *body(env),
        *notes(env),
        *durable,
        "--label-dir",
        _labels(env),
    ]
    try:
        fleet = Fleet(read, server, router)
    except PlanError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return fleet.run()


def _routes(env: Mapping[str, str], packages: Mapping[int, str]) -> str:
    """Give the routes' text: given as it is, in a file, or all for the one version that there is."""
    from trilho_runtime.processes.plan import PlanError

    told = env.get("TRILHO_ROUTES", "")
    if told.lstrip().startswith("{"):
        return told
    if told:
        try:
            return Path(told).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not text"
            raise PlanError(f"TRILHO_ROUTES is {told}: {why}", "a file of routes, or their JSON") from None
    if len(packages) == 1:
        return f'{{"versions": [{{"version": {next(iter(packages))}, "share": 100}}]}}'
    known = ", ".join(map(str, sorted(packages))) or "none"
    raise PlanError(
        f"TRILHO_PACKAGES is {env.get('TRILHO_PACKAGES')}, with the versions {known}; TRILHO_ROUTES is not set"
    )


def _package(env: Mapping[str, str]) -> str:
    named = env.get("TRILHO_PACKAGE") or env.get("AIP_STORAGE_URI")
    return named or next((place for place in DEFAULTS if Path(place).is_dir()), DEFAULTS[0])


def _named(given: Sequence[str]) -> bool:
    return bool(given) and not given[0].startswith("-")


def address(env: Mapping[str, str]) -> list[str]:
    """Give where to listen: Vertex AI names the port in AIP_HTTP_PORT, Cloud Run in PORT.

    >>> address({"PORT": "9000"})
    ['--host', '0.0.0.0', '--port', '9000']
    """
    port = env.get("AIP_HTTP_PORT") or env.get("PORT") or "8080"
    return ["--host", env.get("TRILHO_HOST") or EVERYWHERE, "--port", port]


def serving(env: Mapping[str, str]) -> list[str]:
    """Give how to serve a version; its lines and its profile lie below TRILHO_LOG.

    >>> serving({"TRILHO_LOG": "/log", "TRILHO_FSYNC": "1"})
    ['--log', '/log/predictions', '--profiles', '/log/profiles', '--fsync']
    """
    log = env.get("TRILHO_LOG")
    told = ["--log", f"{log}/predictions", "--profiles", f"{log}/profiles"] if log else []
    told += [part for name, flag in VALUES.items() if env.get(name) for part in (flag, env[name])]
    return told + [flag for name, flag in SWITCHES.items() if on(env.get(name))]


def notes(env: Mapping[str, str]) -> list[str]:
    """Give how the server's own log is written: as JSON where Cloud Logging reads it.

    >>> notes({"K_SERVICE": "bikes"}), notes({"K_SERVICE": "bikes", "TRILHO_NOTES": "text"}), notes({})
    (['--notes', 'json'], ['--notes', 'text'], [])
    """
    cloud = "json" if env.get("K_SERVICE") or env.get("AIP_MODE") or env.get("AIP_HTTP_PORT") else ""
    told = env.get("TRILHO_NOTES") or cloud
    return ["--notes", told] if told else []


def body(env: Mapping[str, str]) -> list[str]:
    """Give how large a request may be."""
    return ["--max-body", env["TRILHO_MAX_BODY"]] if env.get("TRILHO_MAX_BODY") else []


def callers(env: Mapping[str, str]) -> list[str]:
    """Give who may call; keys stay in the environment or in their file, where no list of processes shows them.

    On Vertex AI the platform has asked before a request comes here.

    >>> callers({"TRILHO_API_KEYS": "key-of-a-caller-1", "TRILHO_CALLERS": "a@b.c d@e.f"})
    ['--api-key', 'env:TRILHO_API_KEYS', '--caller', 'a@b.c', '--caller', 'd@e.f']
    """
    told = ["--api-key", "env:TRILHO_API_KEYS"] if env.get("TRILHO_API_KEYS") else []
    told += ["--api-key", f"file:{env['TRILHO_API_KEYS_FILE']}"] if env.get("TRILHO_API_KEYS_FILE") else []
    told += ["--audience", env["TRILHO_AUDIENCE"]] if env.get("TRILHO_AUDIENCE") else []
    told += [part for email in env.get("TRILHO_CALLERS", "").replace(",", " ").split() for part in ("--caller", email)]
    platform = env.get("AIP_HTTP_PORT") or env.get("AIP_MODE")
    return told + (["--open"] if platform or on(env.get("TRILHO_OPEN")) else [])


def on(value: str | None) -> bool:
    """Say whether a variable switches something on.

    >>> [on(value) for value in ("1", "true", "0", "no", None)]
    [True, True, False, False, False]
    """
    return (value or "").lower() not in NO


def _labels(env: Mapping[str, str]) -> str:
    return f"{env.get('TRILHO_LOG') or NOWHERE}/labels"


if __name__ == "__main__":
    sys.exit(main())
