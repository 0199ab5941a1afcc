"""Starts the kernel: `python start.py JOB`, with the notebook's own interpreter.

Its modules are loaded under a name that no notebook imports, and its folder leaves the import path at once.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import types

PACKAGE = "_trilho_kernel"


def main() -> None:
    """Restrict this process, then run the notebook."""
    folder = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path or ".") != folder]
    package = types.ModuleType(PACKAGE)
    package.__path__ = [folder]
    sys.modules[PACKAGE] = package
    sys.dont_write_bytecode = True
    with open(sys.argv[1], encoding="utf-8") as text:
        job = json.load(text)
    landlock = importlib.import_module(f"{PACKAGE}.landlock")
    enforced = (
        job["enforce"]
        and sys.platform == "linux"
        and landlock.restrict_writes([job["scratch"], "/dev/shm"], ["/dev/null", "/dev/tty", "/dev/zero", "/dev/full"])
    )
    for handle in (job["keeper"], job["events"]):
        os.set_inheritable(handle, False)
    _die_with_parent(job["keeper"])
    events = os.fdopen(job["events"], "w", buffering=1, encoding="utf-8")
    own = os.getpid()

    def tell(kind: str, **told: object) -> None:
        if os.getpid() == own:
            events.write(json.dumps({"kind": kind, **told}) + "\n")

    sys.argv = [""]
    session = importlib.import_module(f"{PACKAGE}.session")
    session.Session(job, "landlock" if enforced else "hooked", tell).run()
    tell("end")
    sys.stdout.flush()
    os._exit(0)  # what the notebook left running, threads and atexit handlers included, has no say in it


def _die_with_parent(keeper: int) -> None:
    """Kill this process group when the other end of the pipe is closed, which a kill -9 does too."""
    if keeper < 0:
        return

    def wait() -> None:
        os.read(keeper, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    main()
