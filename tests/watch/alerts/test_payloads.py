"""Whatever an incident holds, what is sent stays within what the platforms take, and says the same in two languages."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.watch.alerts.limits import check_blocks, check_card, check_event
from tests.watch.alerts.world import OPENED, closed, happened, model

from trilho.core.projection import Rollout
from trilho.watch.alerts.blocks import blocks
from trilho.watch.alerts.digest import digest
from trilho.watch.alerts.message import Message
from trilho.watch.alerts.teams import LARGEST, envelope
from trilho.watch.alerts.telling import Voice, changes, tell
from trilho.watch.alerts.webhook import event
from trilho.watch.incidents.words import runbook

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60)
LONG = st.builds(lambda text, times: text * times, TEXTS, st.integers(1, 200))


@settings(max_examples=60, deadline=None)
@given(
    headline=LONG,
    facts=st.lists(st.tuples(TEXTS, LONG), min_size=1, max_size=70),
    stage=st.sampled_from(["opened", "worse", "closed", "digest"]),
    again=st.booleans(),
)
def test_payloads_stay_within_the_limits(headline: str, facts: list[tuple[str, str]], stage: str, again: bool) -> None:
    message = Message(
        alert="a:opened:slack", incident="a", model="flights", stage=stage, grade="high", headline=headline,  # type: ignore[arg-type]
        facts=tuple(facts), time=OPENED, link="http://c.example/incidents/a",
    )  # fmt: skip
    check_blocks(blocks(message, button=True, again=again))
    body = envelope(message, again=again)
    check_card(body)
    assert len(json.dumps(body)) <= LARGEST or len(body["attachments"][0]["content"]["body"][1]["facts"]) == 1
    check_event(event(message, again=again))
    assert Message.decode(message.encode()) == message


def test_names_from_data_are_text_and_no_markup() -> None:
    state = model("drift-a1")
    state.incidents["drift-a1"] = replace(state.incidents["drift-a1"], title="<!channel> & [x](http://evil.example)")
    (change,) = changes(state.incidents["drift-a1"])
    message = tell(state, state.incidents["drift-a1"], change, "a", Voice())
    assert "&lt;!channel&gt; &amp; [x](http" in json.dumps(blocks(message))
    assert "](" not in json.dumps(envelope(message))


def test_a_digest_of_fifty_names_all_in_each_form() -> None:
    state = model(*(f"drift-{k:010d}" for k in range(50)))
    state.incidents["drift-0000000033"] = replace(state.incidents["drift-0000000033"], severity="low")
    messages = [
        tell(state, x, next(changes(x)), f"{x.id}:opened:slack", Voice(console="http://c.example"))
        for x in state.incidents.values()
    ]
    made = digest(messages, "slack")
    assert made.facts[-1][0] == "drift-0000000033"  # the least severe comes last
    assert made.link == "http://c.example"
    found = blocks(made)
    check_blocks(found)
    body = envelope(made)
    check_card(body)
    for text in (json.dumps(found), json.dumps(body), json.dumps(event(made))):
        assert all(x in text for x in state.incidents)


def test_an_alert_in_portuguese() -> None:
    state = model("drift-a1")
    happened(state, "drift-a1", "confirmed")
    closed(state, "drift-a1")
    held = state.incidents["drift-a1"]
    voice = Voice("pt-BR", "http://c.example", "https://wiki.example/voos")
    opened, confirmed, ended = (tell(state, held, change, change.name, voice) for change in changes(held))
    assert opened.headline == "flights versão 1: drift"
    assert dict(opened.facts) == {
        "O quê": "Drift de temp, 10 fev 2013",
        "Causa": "temp: 0,74 do treino, 0,07 permitido",
        "Efeito": "não conhecido antes dos rótulos: o modelo vê dados com os quais não foi treinado",
        "Próximo passo": "nada por si só ainda; trilho retrain começa um retreino",
        "Procedimento": f"{runbook(held, 'pt-BR')[0]} https://wiki.example/voos",
        "Incidente": "drift-a1, gravidade alta",
    }
    assert confirmed.headline == "flights versão 1: drift, confirmado"
    assert ended.headline == "flights: encerrado, a versão 2 assumiu"
    assert dict(ended.facts) == {"Era": "Drift de temp, 10 fev 2013", "Incidente": "drift-a1"}


def test_a_held_rollout_in_portuguese() -> None:
    rollout = Rollout(
        "rollout-2", 2, 1, [10, 100], OPENED, "ana", "", model="flights", share=0, shadow=20, paused=True,
        held_by="shift", note="64% of the predictions of version 2 lie far from those of version 1",
    )  # fmt: skip
    message = Message.held(rollout, "a", "", "pt-BR")
    assert message.headline == "flights versão 2: parada"
    effect = "ela fica consultada às ocultas em cerca de 20% das requisições; a versão 1 responde as outras como antes"
    assert dict(message.facts)["Efeito"] == effect


@pytest.mark.parametrize("change", ["alarm", "retraining"])
def test_not_every_alarm_is_a_change_of_state(change: str) -> None:
    state = model("drift-a1")
    happened(state, "drift-a1", change)
    assert [x.name for x in changes(state.incidents["drift-a1"])] == ["opened"]
