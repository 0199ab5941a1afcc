"""What the pages say, read from their HTML."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser

import pytest
from tests.console.memory import NOW, MemorySource

from trilho.console.pages import Pages
from trilho.core import records as r
from trilho.core.readings import FeatureReading
from trilho.watch.incidents import respond

VOID = {"meta", "link", "br", "img", "input", "path", "rect", "line", "circle"}


class Reader(HTMLParser):
    """Collect what tests ask for: text, headings, ids, links, tags left open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.attributes |= set(values)
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.ids += [values["id"] or ""] if "id" in values else []
        self.links += [values["href"] or ""] if tag == "a" and "href" in values else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes |= set(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        assert tag in VOID or (self.open and self.open.pop() == tag), f"{tag} does not close what is open"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)


@pytest.fixture
def pages(source: MemorySource) -> Pages:
    return Pages(source, clock=NOW.isoformat)


def all_pages(pages: Pages) -> dict[str, str]:
    found = {
        "overview": pages.overview(),
        "bike": pages.model("bike-demand"),
        "flight": pages.model("flight-delay"),
        "unlabelled": pages.model("credit-risk"),
        "failed": pages.model("churn"),
        "run": pages.run("chur-001a7"),
        "log": pages.log("chur-001a7", "fit-all"),
        "incident": pages.incident("i-bike-2019-09-08-perf"),
        "drift": pages.incident("i-flig-2013-06-06-drif"),
        "incidents": pages.incidents({"show": "all"}),
        "portuguese": pages.incident("i-bike-2019-09-08-perf", language="pt-BR"),
        "report": pages.report(),
        "file": pages.handover(),
        "problem": pages.problem("No", "text"),
    }
    return {name: html for name, html in found.items() if html is not None}


def test_every_page_is_well_formed_with_headings_in_order_and_unique_ids(pages: Pages) -> None:
    shown = all_pages(pages)
    assert len(shown) == 14
    for name, html in shown.items():
        page = Reader(html)
        assert page.open == [], name
        assert page.headings[0] == 1, name
        assert page.headings.count(1) == 1, name
        assert all(b - a <= 1 for a, b in zip(page.headings, page.headings[1:], strict=False)), (name, page.headings)
        assert len(page.ids) == len(set(page.ids)), name
        assert not {key for key in page.attributes if key == "style" or key.startswith("on")}, name


def test_links_within_the_console_lead_somewhere(pages: Pages) -> None:
    links = {link for html in all_pages(pages).values() for link in Reader(html).links}
    targets: dict[tuple[str, str], set[str]] = {}
    for link in links:
        if found := re.fullmatch(r"/(models|runs|incidents)/([^/#]+)(?:#(.*))?", link):
            targets.setdefault((found[1], found[2]), set()).add(found[3] or "main")
    assert len(targets) > 15
    for (kind, name), anchors in targets.items():
        page = getattr(pages, kind.removesuffix("s"))(name)
        assert page is not None, (kind, name)
        assert anchors <= set(Reader(page).ids), (kind, name)


def test_the_overview_is_sorted_by_harm_and_grey_is_a_state(pages: Pages) -> None:
    page = pages.overview()
    assert re.findall(r'id="card-([\w-]+)" class="card (\w+)"', page) == [
        ("bike-demand", "bad"),
        ("churn", "warn"),
        ("credit-risk", "unknown"),
        ("flight-delay", "ok"),
    ]
    text = Reader(page).text
    assert "1 in trouble" in text
    assert "MAE 139 over 8–14 Sep 2019, 58 expected. Version 5 serves meanwhile." in text
    assert "Version 6 takes 10% of traffic and goes to 50%" in text
    assert "how well is not known: no labels for this version yet" in text


def test_an_unmeasured_window_has_no_value(pages: Pages, source: MemorySource) -> None:
    page = pages.model("credit-risk") or ""
    assert page.count("no labels yet") == 12
    assert 'class="line"' not in page.split('id="drift"')[0].replace('<path class="line" d="M1 8', "")
    assert "For these 12 windows" not in page
    assert "No labels have come for these 12 windows: quality is not known." in page
    assert source.readings("credit-risk")[0].value is None


def test_the_model_page_marks_alarms_and_releases(pages: Pages) -> None:
    page = pages.model("bike-demand") or ""
    chart = page[page.index('<svg class="plot"') : page.index('<ul class="key"')]
    assert chart.count('class="glyph performance"') == 5
    assert chart.count('class="release"') == 4
    assert ">v5</text>" in chart
    assert "405 windows, 402 of them labelled; from 37.1 to 139, newest 139, 58.0 expected." in chart
    assert page.count("<tr data-x=") == 405


def test_gate_evidence_lineage_and_rollouts_are_told(pages: Pages) -> None:
    text = Reader(pages.model("flight-delay") or "").text
    assert "AUC better by 0.018, at least 0.013, than version 2; 1,440 rows" in text
    assert "approved by joao" in text
    assert "sklearn.ensemble.HistGradientBoostingRegressor" in text
    assert "10% 50% 100%" in text
    assert "fail at the gate" in text


def test_a_failed_run_shows_its_own_traceback(pages: Pages) -> None:
    text = Reader(pages.run("chur-001a7") or "").text
    assert "ValueError: could not convert string to float: '12,50'" in text
    assert "skipped" in text
    assert "the champion" not in text


def test_an_incident_says_cause_effect_and_course(pages: Pages) -> None:
    text = Reader(pages.incident("i-flig-2013-06-06-drif") or "").text
    assert "temp 71% 0.227 0.050 4.5×" in text
    assert "Retraining ended: promoted" in text
    assert "Closed after 50 s: version 3 took over." in text


def test_only_an_open_incident_can_be_acknowledged(pages: Pages) -> None:
    assert 'action="/incidents/i-bike-2019-09-08-perf/acknowledge"' in (pages.incident("i-bike-2019-09-08-perf") or "")
    assert "acknowledge" not in (pages.incident("i-flig-2013-06-06-drif") or "")


def test_an_incident_can_be_read_in_portuguese(pages: Pages) -> None:
    page = pages.incident("i-flig-2013-06-06-drif", language="pt-BR") or ""
    text = Reader(page).text
    assert '<html lang="pt-BR">' in page
    assert "Antecedência do aviso a métrica não chegou a cruzar o seu mínimo" in text
    assert "Encerrado depois de 50 s: a versão 3 assumiu." in text
    assert "3 mar 2026" in text


def test_an_open_incident_says_effect_and_lead_as_they_are_measured_now(pages: Pages) -> None:
    text = Reader(pages.incident("i-bike-2019-09-08-perf") or "").text
    assert "MAE worse by 80.9 (72.6 to 89.2)" in text
    assert "measured with labels" in text
    assert "after the metric had crossed 63.8" in text


def test_many_alarms_are_one_line_and_one_mark(source: MemorySource) -> None:
    rows = source.measured["flight-delay"]
    for k in range(40):
        reading = rows[240 + k]
        cause = r.Cause(feature="temp", share=0.9, distance=0.14, tolerance=0.05, low=0.1, high=0.2)
        alarm = r.AlarmRaised(
            model="flight-delay", alarm=f"{k:02d}", kind="drift", version=3, window_start=reading.window_start,
            window_end=reading.window_end, evidence=351_804_534_498.0, threshold=730.0, causes=[cause], summary="temp",
        )  # fmt: skip
        source.write(NOW, alarm, *respond(source.state().model("flight-delay"), [alarm], now=NOW.isoformat()))
    pages = Pages(source, clock=NOW.isoformat)
    page = pages.incident("drift-00") or ""
    text = Reader(page).text
    assert "38 more alarms, last 5 Dec 2013" in text
    assert "Evidence >1 million, alarms at 730." in text
    assert "351" not in text
    assert page.count('class="glyph drift"') == 1 + 1  # in the chart, and in its key
    assert page.count('class="reach drift"') == 1
    assert "0.140 (0.100 to 0.200)" in text
    model = pages.model("flight-delay") or ""
    chart = model[model.index('<svg class="plot"') : model.index('<ul class="key"')]
    assert chart.count('class="glyph drift"') == 3


def test_incidents_are_listed_and_filtered(pages: Pages) -> None:
    assert re.findall(r'href="/incidents/([^"?]+)"', pages.incidents()) == ["i-bike-2019-09-08-perf"]
    assert len(re.findall(r'href="/incidents/([^"?]+)"', pages.incidents({"show": "all"}))) == 7
    drift = re.findall(r'href="/incidents/([^"?]+)"', pages.incidents({"show": "ended", "kind": "drift"}))
    assert drift == ["i-flig-2013-06-06-drif", "i-flig-2013-04-03-drif"]
    assert "No incident is like that." in pages.incidents({"show": "open", "kind": "drift"})


def test_what_chance_explains_is_no_drift(source: MemorySource) -> None:
    rows = source.measured["credit-risk"]
    noise = [FeatureReading(feature="temp", distance=0.13, tolerance=0.05, share=0.0, low=0.0, high=0.3)]
    source.measured["credit-risk"] = [replace(x, rows=50, features=noise) for x in rows]
    page = Pages(source, clock=NOW.isoformat).model("credit-risk") or ""
    assert "<b>0.0×</b>" in page
    assert 'class="over"' not in page


def test_what_is_not_there_has_no_page(pages: Pages) -> None:
    assert pages.model("nobody") is None
    assert pages.run("nothing") is None
    assert pages.log("chur-001a7", "no-such-task") is None
    assert pages.incident("nothing") is None


def test_a_run_elsewhere_says_where_and_what_shows_its_logs(source: MemorySource) -> None:
    known = {"dataset": None, "commit": None, "commit_time": None, "runner": "vertex", "place": "jobs/n-1"}
    started = {"model": "churn", "run": "n-1", "pipeline": "nightly", "trigger": "a person"}
    source.write(NOW, r.RunStarted(**started, **known))  # type: ignore[arg-type]
    task = r.TaskResult(name="load", state="failed", seconds=1.0, needs=[], reason="no")
    source.write(NOW, r.RunEnded(model="churn", run="n-1", state="failed", tasks=[task], error="no", seconds=1.0))
    pages = Pages(source, clock=NOW.isoformat)
    assert "trilho pipeline submit FILE --on vertex" in (pages.run("n-1") or "")
    assert "trilho runs logs n-1 load shows it." in (pages.log("n-1", "load") or "")
    model = pages.model("churn") or ""
    assert "nightly on vertex" in model
    assert "Run n-1 of nightly failed: no" in model


def test_names_and_texts_are_escaped(source: MemorySource) -> None:
    known = {"dataset": None, "commit": None, "commit_time": None}
    started = {"model": "churn", "run": "chur-2", "pipeline": "<b>train", "trigger": "<script>alert(1)</script>"}
    source.write(NOW, r.RunStarted(**started, **known))  # type: ignore[arg-type]
    bad = r.TaskResult(name="<i>x</i>", state="failed", seconds=1.0, needs=[], reason="<img src=x>")
    source.write(NOW, r.RunEnded(model="churn", run="chur-2", state="failed", tasks=[bad], error="<u>no", seconds=1.0))
    source.logs["chur-2", "<i>x</i>"] = "</pre><script>"
    page = Pages(source, clock=NOW.isoformat).run("chur-2") or ""
    assert Reader(page).open == []
    for text in ("<b>train", "<script>alert", "<i>x", "<img src=x", "<u>no", "</pre><script>"):
        assert text not in page


def test_an_empty_platform_says_how_to_begin() -> None:
    page = Pages(MemorySource(), clock=NOW.isoformat).overview()
    assert "No model has joined this platform." in page
    assert Reader(page).open == []


def test_a_fragment_is_the_main_part_only(pages: Pages) -> None:
    whole, part = pages.overview(), pages.overview(fragment=True)
    assert part.lstrip().startswith("<section")
    assert "<html" not in part
    assert part.strip() in whole


def test_pages_are_quick(source: MemorySource) -> None:
    state = source.state()
    source.state = lambda: state  # type: ignore[method-assign]
    pages = Pages(source, clock=NOW.isoformat)
    renders: list[Callable[[], object]] = [pages.overview, partial(pages.model, "bike-demand")]
    for render in renders:
        spent = []
        for _ in range(9):
            begun = time.thread_time()
            render()
            spent.append(time.thread_time() - begun)
        assert min(spent) < 0.03, min(spent)
