"""`trilho alerts`: are the channels really wired, what waits in the outbox, and what was given up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from trilho.cli.session import Session, group, verb
from trilho.errors import Unreachable, UsageError

if TYPE_CHECKING:
    from trilho.watch.alerts.outbox import Outbox

Dead = Annotated[bool, typer.Option("--dead", help="Only those that were given up.")]
Alerts = Annotated[list[str] | None, typer.Argument(metavar="[ALERT]...", help="Alerts by id; by default all.")]
Only = Annotated[list[str] | None, typer.Argument(metavar="[CHANNEL]...", help="Channels; by default all.")]


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""
    alerts = typer.Typer()
    app.add_typer(alerts, name="alerts")

    @group(alerts)
    def list_(here: Session, dead: Dead = False) -> None:
        """List alerts, sent, waiting or given up; try channels."""
        from trilho.govern.wording import moment

        project, state, box = here.project, here.project.state(), outbox(here)
        given_up, waiting = box.dead(project.name), [] if dead else box.waiting(project.name)
        shown = [] if dead else state.alerts
        if shown:
            here.table(("sent", "channel", "incident"), [(moment(t), x.channel, x.incident) for t, x in shown])
        for alert, attempts, problem in waiting:
            here.say(f"waiting: {alert}, {attempts} attempts: {problem}" if attempts else f"waiting: {alert}")
        for alert, attempts, problem in given_up:
            here.say(f"given up: {alert}, {attempts} attempts: {problem}")
        if not (shown or waiting or given_up):
            here.say("No alert was given up." if dead else "No alert was sent yet.")
        sent = [{"time": t, "alert": x.alert, "channel": x.channel, "incident": x.incident} for t, x in shown]
        next_ = "trilho alerts test" if project.settings.watch.alerts else "trilho config watch.alerts"
        here.done("trilho alerts resend" if given_up else next_, model=project.name, sent=sent,
                  waiting=_listed(waiting), dead=_listed(given_up))  # fmt: skip

    @verb(alerts, "resend", examples=["trilho alerts resend", "trilho alerts resend ALERT"])
    def resend(here: Session, alert: Alerts = None) -> None:
        """Try alerts that were given up again, from the first try on.

        The platform that is up sends them, or else the next `trilho watch`.
        """
        name, box = here.project.name, outbox(here)
        dead = {found for found, _, _ in box.dead(name)}
        for one in alert or []:
            if one not in dead:
                raise UsageError(f"{name}: no alert {one} was given up", hint=here.command("trilho alerts --dead"))
        count = box.resend(name, alert or [])
        here.say(f"{count} alerts are tried again." if count != 1 else "1 alert is tried again.")
        here.done("trilho alerts", model=name, resent=count)

    @verb(alerts, "test", examples=["TRILHO_SLACK_WEBHOOK=https://... trilho alerts test", "trilho alerts test slack"])
    def test(here: Session, channel: Only = None) -> None:
        """Send a test message to every channel of [watch] alerts, or to those named."""
        from trilho.watch.alerts.outbox import send_test
        from trilho.watch.alerts.telling import Voice

        settings = here.project.settings
        channels = channel or settings.watch.alerts
        if not channels:
            here.say("Alerts go to the console only: [watch] alerts names no channel.")
            here.done("trilho config watch.alerts", channels={})
            return
        lacks: dict[str, list[str]] = {}
        voice = Voice(settings.watch.language)
        found = send_test(here.project.name, channels, tables=settings.alerts, voice=voice, lacks=lacks)
        for name, problem in found.items():
            here.say(f"{name}: {problem or 'taken'}", *(f"  could not {lack}" for lack in lacks.get(name, [])))
        failed = {name: problem for name, problem in found.items() if problem}
        if failed:
            said = "; ".join(f"{name}: {problem}" for name, problem in failed.items())
            raise Unreachable(f"{len(failed)} of {len(found)} channels failed: {said}", hint=_wire(here, failed))
        here.done("trilho up", channels=found, lacks=lacks)


def outbox(here: Session) -> Outbox:
    """Give the outbox of the project at hand."""
    from trilho.watch.alerts.outbox import Outbox

    return Outbox.of(here.project.settings, here.project.home)


def _wire(here: Session, failed: Iterable[str]) -> str:
    """Say what to set for the channels that failed."""
    from trilho.config.watching import WELL_KNOWN

    tables = here.project.settings.alerts
    names = list(failed)
    variables = [f"TRILHO_{name.upper()}_WEBHOOK" for name in names if name not in tables and name in WELL_KNOWN]
    others = [f"[alerts.{name}]" for name in names if name in tables or name not in WELL_KNOWN]
    parts = [f"set {', '.join(variables)}"] if variables else []
    return "; ".join([*parts, *([f"look at {', '.join(others)} in trilho.toml"] if others else [])])


def _listed(rows: list[tuple[str, int, str]]) -> list[dict[str, object]]:
    return [{"alert": alert, "attempts": attempts, "problem": problem} for alert, attempts, problem in rows]
