"""Slack: an incoming webhook, or a bot that threads, updates, adds the chart, and looks before it repeats."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from trilho.watch.alerts.blocks import blocks
from trilho.watch.alerts.letter import Letter, Undelivered
from trilho.watch.alerts.message import Message
from trilho.watch.alerts.posting import BUDGET_SECONDS, parse_wait, post

if TYPE_CHECKING:
    from slack_sdk import WebClient
    from slack_sdk.errors import SlackApiError

EVENT = "trilho_alert"
PICTURE_TRIES = 3
LOOK_BACK = 200  # messages of a channel among which a repeat is looked for
NOT_THIS_CHANNELS = frozenset({"invalid_blocks", "msg_too_long", "no_text", "invalid_arguments", "thread_not_found"})


class SlackWebhook:
    """An incoming webhook: each change of state is a message of its own."""

    def __init__(self, name: str, address: Callable[[], str], *, button: bool = False) -> None:
        self.name, self._address, self._button = name, address, button

    def send(self, letter: Letter) -> None:
        """Post a letter. Raises Undelivered."""
        message = letter.message
        body = {"text": message.headline, "blocks": blocks(message, button=self._button, again=letter.again)}
        headers = {
            "Content-Type": "application/json",
            "X-Trilho-Incident": message.incident,
            "X-Trilho-Alert": message.alert,
        }
        post(self.name, self._address(), json.dumps(body).encode(), headers)

    def lacks(self) -> list[str]:
        """Say what a webhook cannot do."""
        return []


class SlackBot:
    """A bot's token: one message for each incident, updated in place, with the story in its thread."""

    def __init__(
        self, name: str, token: Callable[[], str], room: Callable[[], str], *, address: str = "", button: bool = False
    ) -> None:
        self.name, self._token, self._room, self._address, self._button = name, token, room, address, button
        self._lacks: list[str] = []

    def send(self, letter: Letter) -> None:
        """Post, or find, a letter's message; then update the opening and add the chart. Raises Undelivered."""
        client, room = self._client(), self._room()
        self._lacks = []
        if "ts" not in letter.receipt:
            found = self._find(client, room, letter) if letter.again else None
            ts = found or self._post(client, room, letter)
            letter.got(ts=ts, room=room, **({"found": True} if found else {}))
        if letter.opening.get("ts") and not letter.opening.get("digest"):
            self._update(client, letter)
        elif letter.message.stage in ("opened", "test") and "chart" not in letter.receipt:
            self._chart(client, letter)

    def lacks(self) -> list[str]:
        """Say which rights the last message lacked."""
        return list(self._lacks)

    def _client(self) -> WebClient:
        try:
            from slack_sdk import WebClient
        except ImportError:
            raise Undelivered(f'{self.name} needs a library: pip install "trilho[alerts]"') from None
        options: dict[str, Any] = {"base_url": self._address} if self._address else {}
        client = WebClient(token=self._token(), timeout=int(BUDGET_SECONDS), **options)
        client.retry_handlers = []  # a try that may have arrived is looked for before the next one
        return client

    def _post(self, client: WebClient, room: str, letter: Letter) -> str:
        message, opening = letter.message, letter.opening
        threaded = {"thread_ts": opening["ts"]} if opening.get("ts") else {}
        if threaded and message.stage in ("worse", "closed"):
            threaded["reply_broadcast"] = True
        answer = self._call(
            client.chat_postMessage,
            channel=room,
            text=message.headline,
            blocks=blocks(message, button=self._button and not threaded, again=letter.again),
            metadata=_metadata(message),
            unfurl_links=False,
            **threaded,
        )
        return str(answer["ts"])

    def _find(self, client: WebClient, room: str, letter: Letter) -> str | None:
        """Look for a message that a try before this one may have left; None where it cannot look either."""
        try:
            for message in self._recent(client, room, letter.opening.get("ts")):
                metadata = message.get("metadata") or {}
                payload = metadata.get("event_payload") or {}
                if metadata.get("event_type") == EVENT and payload.get("alert") == letter.message.alert:
                    return str(message["ts"])
        except Undelivered as error:
            if error.everyone and "missing_scope" not in error.problem:
                raise
            self._lacks.append(f"look for a repeat: {error.problem}")
        return None

    def _recent(self, client: WebClient, room: str, thread: str | None) -> Iterator[dict[str, Any]]:
        cursor, seen = "", 0
        while seen < LOOK_BACK:
            options: dict[str, Any] = {"channel": room, "include_all_metadata": True, "limit": 100}
            options |= {"cursor": cursor} if cursor else {}
            if thread:
                answer = self._call(client.conversations_replies, ts=thread, **options)
            else:
                answer = self._call(client.conversations_history, **options)
            messages = answer.get("messages") or []
            yield from messages
            seen += len(messages)
            cursor = (answer.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor or not messages:
                return

    def _update(self, client: WebClient, letter: Letter) -> None:
        """Let the opening message show how the incident stands now."""
        opening, message = letter.opening, letter.message
        try:
            self._call(
                client.chat_update,
                channel=opening["room"],
                ts=opening["ts"],
                text=message.headline,
                blocks=blocks(message, button=self._button),
                metadata=_metadata(message, opening.get("alert", message.alert)),
            )
        except Undelivered as error:
            if error.everyone:
                raise
            self._lacks.append(f"update the opening: {error.problem}")

    def _chart(self, client: WebClient, letter: Letter) -> None:
        """Add the chart to the thread; without the right to, the message stands alone."""
        picture = letter.picture()
        if picture is None:
            return
        message = letter.message
        try:
            if letter.again and self._has_file(client, letter):
                return
            self._call(
                client.files_upload_v2,
                content=picture,
                filename=f"{message.incident}.png",
                title=message.headline[:150],
                alt_txt=message.headline[:150],
                channel=letter.receipt["room"],
                thread_ts=letter.receipt["ts"],
                request_file_info=False,
            )
        except Undelivered as error:
            if (error.unsure or error.wait) and letter.attempts < PICTURE_TRIES:
                raise  # the words have arrived, and are not sent again
            self._lacks.append(f"show the chart: {error.problem}")
        letter.got(chart=True)

    def _has_file(self, client: WebClient, letter: Letter) -> bool:
        replies = self._recent(client, letter.receipt["room"], letter.receipt["ts"])
        return any(x.get("name") == f"{letter.message.incident}.png" for m in replies for x in m.get("files") or [])

    def _call(self, method: Callable[..., Any], **arguments: Any) -> Any:
        from slack_sdk.errors import SlackApiError, SlackClientError

        try:
            return method(**arguments)
        except SlackApiError as error:
            raise self._refused(error) from None
        except (SlackClientError, OSError, ValueError) as error:
            said = getattr(error, "reason", None) or type(error).__name__
            raise Undelivered(f"{self.name}: {said}", unsure=True) from None

    def _refused(self, error: SlackApiError) -> Undelivered:
        answer = error.response
        if isinstance(answer, str):  # the library has read something that is no answer of Slack
            return Undelivered(f"{self.name}: an answer that is not Slack's", unsure=True)
        headers = {str(name).lower(): str(value) for name, value in (answer.headers or {}).items()}
        data = answer.data if isinstance(answer.data, dict) else {}
        said = str(data.get("error") or answer.status_code)
        needed = f" (needs {data['needed']})" if data.get("needed") else ""
        return Undelivered(
            f"{self.name} answered {said}{needed}",
            wait=parse_wait(headers.get("retry-after", "")),
            unsure=int(answer.status_code) >= 500,
            everyone=said not in NOT_THIS_CHANNELS,
        )


def _metadata(message: Message, alert: str = "") -> dict[str, Any]:
    return {"event_type": EVENT, "event_payload": {"incident": message.incident, "alert": alert or message.alert}}
