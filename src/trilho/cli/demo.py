"""`trilho demo`: the whole line on two real models."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from trilho.cli.session import Session, verb


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""

    @verb(app, "demo", examples=["trilho demo", "trilho demo --json --no-console"])
    def demo(
        here: Session,
        console: Annotated[
            bool, typer.Option("--console/--no-console", help="Stay up at the end until Ctrl-C.")
        ] = True,
        examples: Annotated[
            Path | None, typer.Option("--examples", metavar="DIR", help="The example projects.")
        ] = None,
        home: Annotated[Path, typer.Option("--home", metavar="DIR", help="Where it keeps everything.")] = Path(
            ".trilho-demo"
        ),
        port: Annotated[
            int, typer.Option("--port", min=0, max=65535, help="The console's port; 0 takes a free one.")
        ] = 0,
    ) -> None:
        """Run the whole line on two real models, over years of data.

        Train, release, serve, watch, alarm, retrain, promote: the later periods are played as real requests.
        """
        from rich.console import Console

        from trilho.demo.run import find_examples, running_demo
        from trilho.demo.show import print_results, progress_display

        screen = Console(stderr=here.as_json)
        found = find_examples(examples)
        with ExitStack() as stack:
            stack.enter_context(_told())
            with progress_display(screen) as show:
                run = stack.enter_context(running_demo(found, home.resolve(), port, show))
            print_results(run, screen)
            if here.as_json:
                here.done(_next(found, home), **{k: v for k, v in run.to_json().items() if k != "schema"})
            if console:
                here.say(f"Console: {run.console}  (Ctrl-C stops everything)")
                with suppress(KeyboardInterrupt):
                    threading.Event().wait()
        if not here.as_json:
            here.say(f"Next: {_next(found, home)}")


@contextmanager
def _told() -> Iterator[None]:
    """Let SIGTERM end the demo as Ctrl-C does, also where a script that started it had Ctrl-C ignored."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _next(examples: Path, home: Path) -> str:
    return f"TRILHO_HOME={home.resolve()} trilho -C {examples / 'bike-demand'} journal"
