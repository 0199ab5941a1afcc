"""Channels by their names: from [alerts] tables, or from what the environment says of slack and teams."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from trilho.config import Alert
from trilho.core.vault import reveal
from trilho.errors import ConfigError
from trilho.watch.alerts.anywhere import Anywhere
from trilho.watch.alerts.letter import Channel, Undelivered
from trilho.watch.alerts.slack import SlackBot, SlackWebhook
from trilho.watch.alerts.teams import Teams
from trilho.watch.alerts.webhook import Webhook

TOKEN, ROOM, SIGNING = "TRILHO_SLACK_TOKEN", "TRILHO_SLACK_CHANNEL", "TRILHO_SLACK_SIGNING_SECRET"
WEBHOOK = "TRILHO_{}_WEBHOOK"
API = "TRILHO_SLACK_API"  # another address of Slack's API, as GovSlack has


@dataclass(frozen=True)
class Directory:
    """The channels of a project, by name. Addresses and keys are read when they are used, and never stored."""

    names: tuple[str, ...] = ()
    tables: Mapping[str, Alert] = field(default_factory=dict)

    def table(self, name: str) -> Alert:
        """Give what is known of a channel; of slack and teams the kind, when there is no table."""
        found = self.tables.get(name)
        if found is None and name not in ("slack", "teams"):
            raise ConfigError(f"no channel is named {name!r}", hint=f"add a table [alerts.{name}] to trilho.toml")
        return found or Alert.model_validate({"kind": name})

    def route(self, name: str) -> str:
        """Name where a channel leads: two projects with the same share one storm, and one silence."""
        text = json.dumps([name, self.table(name).model_dump(mode="json")], sort_keys=True)
        return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def channel(self, name: str) -> Channel:
        """Make a channel."""
        table = self.table(name)
        if table.kind == "slack":
            return self._slack(name, table)
        address = _address(table, WEBHOOK.format("TEAMS"), http=table.kind in ("teams", "webhook"))
        if table.kind == "teams":
            return Teams(name, address)
        if table.kind == "webhook":
            return Webhook(name, address, _revealed(table.secret) if table.secret else None)
        return Anywhere(name, address)

    def _slack(self, name: str, table: Alert) -> Channel:
        button = bool(table.secret or os.environ.get(SIGNING))
        webhook = table.address or (not table.room and not os.environ.get(TOKEN))
        if webhook:
            return SlackWebhook(name, _address(table, WEBHOOK.format("SLACK"), http=True), button=button)
        token = _revealed(table.token) if table.token else _named(TOKEN)
        room = _fixed(table.room) if table.room else _named(ROOM)
        return SlackBot(name, token, room, address=os.environ.get(API, ""), button=button)

    def signing_secrets(self) -> list[str]:
        """Give the secrets that Slack signs with what people do to its messages; those that are at hand."""
        named = [os.environ.get(SIGNING, ""), *(x.secret or "" for x in self.tables.values() if x.kind == "slack")]
        found = []
        for value in named:
            try:
                found.append(reveal(value))
            except ConfigError:
                continue
        return [value for value in found if value]


def _address(table: Alert, variable: str, *, http: bool) -> Callable[[], str]:
    read = _revealed(table.address) if table.address else _named(variable)
    what = table.address or variable

    def address() -> str:
        value = read()
        if http and not value.startswith(("http://", "https://")):
            raise Undelivered(f"{what} is not an http address")
        return value

    return address


def _revealed(reference: str) -> Callable[[], str]:
    def read() -> str:
        try:
            return reveal(reference)
        except ConfigError as error:
            raise Undelivered(error.fact) from None

    return read


def _named(variable: str) -> Callable[[], str]:
    def read() -> str:
        try:
            value = reveal(os.environ.get(variable, ""))
        except ConfigError as error:
            raise Undelivered(f"{variable}: {error.fact}") from None
        if not value:
            raise Undelivered(f"{variable} is not set")
        return value

    return read


def _fixed(value: str) -> Callable[[], str]:
    return lambda: value
