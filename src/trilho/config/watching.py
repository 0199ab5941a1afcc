"""[watch] and [alerts]: what is watched, how loudly, and who hears of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, model_validator

from trilho.config.values import UNITS, Duration, Rate, Table

WELL_KNOWN = ("slack", "teams")  # channels that need no table
Secret = Annotated[str, Field(pattern=r"^secret://[A-Za-z0-9][\w.-]*$")]


class Watch(Table):
    """What is watched, and how loudly."""

    window: Duration = timedelta(days=1)
    """How much served time one reading covers, by the model's time column or else by the clock."""
    false_alarms: Rate = 1 / UNITS["year"]
    """The promise: how often, on average, all of the model's detectors together may alarm for nothing."""
    shares: dict[Literal["inputs", "predictions", "quality", "loss"], Annotated[float, Field(ge=0)]] = {}
    """How that total is shared; by default { inputs = 0.4, predictions = 0.1, quality = 0.1, loss = 0.4 }."""
    tolerance: Literal["auto"] | Annotated[float, Field(ge=0, lt=1)] = "auto"
    """How far (total variation) a feature may move without being called drift."""
    degradation: Annotated[float, Field(ge=0)] = 0.1
    """By what share the loss may grow over the held-out rows' before it counts as worse (0.1 is a tenth)."""
    minimum: float | None = None
    """The metric's lowest acceptable value, such as 0.7 for an AUC (for an error, its highest): incidents are graded by
    the way to it. Without one what `degradation` allows stands in."""
    ignore: list[str] = []
    """Columns that are not watched; the key, the time and the target never are."""
    alerts: list[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]] = []
    """Where alerts go besides the console: "slack", "teams", or names of [alerts.NAME] tables."""
    cooldown: Duration = timedelta(days=1)
    """An incident whose cause alarms again within this time of its end is opened again, instead of a new one."""
    language: Literal["en", "pt-BR"] = "en"
    """The language of alerts."""
    runbook: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None
    """The address of what to do about this model; every alert links it."""


class Alert(Table):
    """A channel that alerts go to, by name: [alerts.NAME], listed in watch.alerts.

    A channel named slack or teams without a table, or without an address, takes it from TRILHO_SLACK_TOKEN,
    TRILHO_SLACK_WEBHOOK or TRILHO_TEAMS_WEBHOOK.
    """

    kind: Literal["slack", "teams", "webhook", "email", "apprise"]
    """Slack, Teams (a Workflows webhook), a receiver of CloudEvents over HTTP, e-mail, or whatever Apprise reaches."""
    address: Secret | None = None
    """Where to send, as "secret://NAME": the value is a webhook's address, or for email and apprise Apprise's, such as
    mailtos://USER:PASSWORD@HOST?to=TEAM@HOST."""
    token: Secret | None = None
    """For slack: a bot's token, as "secret://NAME", instead of an address; it threads, updates and adds the chart.
    Without one TRILHO_SLACK_TOKEN holds or names it."""
    room: str | None = None
    """For slack with a token: the channel's id, such as "C0123ABCD"; by default TRILHO_SLACK_CHANNEL."""
    secret: Secret | None = None
    """As "secret://NAME": for webhook the key that bodies are signed with, without one they are not; for slack the
    app's signing secret, which lets a button of its messages acknowledge."""

    @model_validator(mode="after")
    def _whole(self) -> Alert:
        if self.kind != "slack" and (self.token or self.room):
            raise ValueError(f"token and room: kind {self.kind!r} has none; allowed: only for kind slack")
        if self.kind not in ("webhook", "slack") and self.secret:
            raise ValueError(f"secret: kind {self.kind!r} has none; allowed: only for kinds webhook and slack")
        if self.kind in ("webhook", "email", "apprise") and self.address is None:
            raise ValueError(f'address: kind {self.kind!r} needs one, such as "secret://alerts"')
        if self.token and not self.room:
            raise ValueError('room: a bot needs the channel\'s id; allowed: such as "C0123ABCD"')
        return self
