"""`trilho alerts`: are the channels really wired, and what waits in the outbox."""

from __future__ import annotations

import typer

from trilho.cli.session import Session, group, verb
from trilho.errors import Unreachable


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""
    alerts = typer.Typer()
    app.add_typer(alerts, name="alerts")

    @group(alerts)
    def list_(here: Session) -> None:
        """List alerts that were sent or wait; try the channels."""
        from trilho.govern.wording import moment
        from trilho.watch.alert import Outbox

        project, state = here.project, here.project.state()
        channels = project.settings.watch.alerts
        waiting = Outbox(project.home / "watch.sqlite", channels).waiting(project.name)
        if state.alerts:
            here.table(("sent", "channel", "incident"), [(moment(t), x.channel, x.incident) for t, x in state.alerts])
        for alert, attempts, problem in waiting:
            here.say(f"waiting: {alert}, {attempts} attempts: {problem}")
        if not state.alerts and not waiting:
            here.say("No alert was sent yet.")
        sent = [{"time": t, "alert": x.alert, "channel": x.channel, "incident": x.incident} for t, x in state.alerts]
        here.done("trilho alerts test" if channels else "trilho config watch.alerts", model=project.name, sent=sent,
                  waiting=[{"alert": a, "attempts": n, "problem": p} for a, n, p in waiting])  # fmt: skip

    @verb(alerts, "test", examples=["TRILHO_SLACK_WEBHOOK=https://... trilho alerts test"])
    def test(here: Session) -> None:
        """Send a test message to every channel of [watch] alerts."""
        from trilho.watch.alert import send_test

        channels = here.project.settings.watch.alerts
        if not channels:
            here.say("Alerts go to the console only: [watch] alerts names no channel.")
            here.done("trilho config watch.alerts", channels={})
            return
        found = send_test(here.project.name, channels)
        for channel, problem in found.items():
            here.say(f"{channel}: {problem or 'taken'}")
        failed = {channel: problem for channel, problem in found.items() if problem}
        if failed:
            said = "; ".join(f"{channel}: {problem}" for channel, problem in failed.items())
            names = ", ".join(f"TRILHO_{channel.upper()}_WEBHOOK" for channel in failed)
            raise Unreachable(f"{len(failed)} of {len(found)} channels failed: {said}", hint=f"set {names}")
        here.done("trilho up", channels=found)
