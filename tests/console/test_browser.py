"""The console in a real browser: scripts, keyboard, narrow screens, contrast. Skipped where there is no Chromium."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.console.browser import Browser, browser, find_browser
from tests.console.memory import NOW, MemorySource

from trilho.console.serve import ConsoleServer
from trilho.core import records as r

PAGES = [
    "/",
    "/incidents?show=all",
    "/models/bike-demand",
    "/runs/chur-001a7",
    "/incidents/i-flig-2013-06-06-drif",
    "/report",
]
OPEN = "/incidents/i-bike-2019-09-08-perf"

# For every text, the contrast of its colour with the nearest painted ground; WCAG AA asks for 4.5, 3 when large.
CONTRAST = """(() => {
  const brush = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const numbers = (colour) => {
    brush.clearRect(0, 0, 1, 1);
    brush.fillStyle = colour;
    brush.fillRect(0, 0, 1, 1);
    return [...brush.getImageData(0, 0, 1, 1).data];
  };
  const part = (v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * part(r) + .7152 * part(g) + .0722 * part(b);
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const found = numbers(getComputedStyle(element).backgroundColor);
      if (found[3] === 255) return found;
    }
    return [255, 255, 255, 255];
  };
  const poor = new Set();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode.data.trim(), element = walk.currentNode.parentElement;
    if (!text || !element.checkVisibility() || element.closest('defs, title, desc')) continue;
    const style = getComputedStyle(element), svg = element.ownerSVGElement;
    const front = light(numbers(svg ? style.fill : style.color));
    const back = light(ground(svg ? svg.closest('div, td, figure') : element));
    const contrast = (Math.max(front, back) + .05) / (Math.min(front, back) + .05);
    const needed = parseFloat(style.fontSize) >= 24 ? 3 : 4.5;
    if (contrast < needed) poor.add(`${text.slice(0, 30)}: ${contrast.toFixed(2)}`);
  }
  return [...poor];
})()"""
MIDDLE = """(() => {
  const box = document.querySelector('svg.plot').getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2];
})()"""


@pytest.fixture(scope="module")
def page() -> Iterator[Browser]:
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium on this machine: the console was not tried in a browser")
    with browser(path) as found:
        yield found


@pytest.fixture(scope="module")
def quiet(made_up: Callable[[], MemorySource]) -> Iterator[str]:
    server = ConsoleServer(made_up())
    yield server.start()
    server.stop()


@pytest.fixture
def address(source: MemorySource) -> Iterator[str]:
    server = ConsoleServer(source)
    yield server.start()
    server.stop()


@pytest.mark.parametrize("path", PAGES)
def test_pages_fit_any_screen_and_can_be_read(page: Browser, quiet: str, path: str) -> None:
    page.errors.clear()
    for dark in (False, True):
        for width in (1400, 390):
            page.screen(width, dark=dark)
            page.open(quiet + path)
            assert page.run("document.documentElement.scrollWidth") <= width
            page.run("document.querySelectorAll('details').forEach((d) => { d.open = true })")
            assert page.run("document.documentElement.scrollWidth") <= width
            assert page.run(CONTRAST) == []
    assert page.errors == []


def test_the_contrast_is_really_looked_at(page: Browser, quiet: str) -> None:
    page.screen(1400)
    page.open(quiet)
    page.run("document.documentElement.style.setProperty('--soft', '#b5b5b5')")
    assert len(page.run(CONTRAST)) > 20


def test_a_page_follows_the_journal_and_keeps_what_is_open(page: Browser, address: str, source: MemorySource) -> None:
    page.screen(1400)
    page.open(f"{address}/models/bike-demand")
    page.wait("document.getElementById('live').textContent === 'Live'")
    page.run("document.getElementById('alerts').open = true; document.querySelector('#alerts summary').focus()")
    known: dict[str, Any] = {"dataset": None, "commit": None, "commit_time": None}
    started = r.RunStarted(model="bike-demand", run="bike-099", pipeline="train", trigger="a person", **known)
    source.write(NOW, started)
    page.wait("document.body.textContent.includes('bike-099')")
    sent = r.AlertSent(model="bike-demand", alert="m-9", incident="i-bike-2019-09-08-perf", channel="teams", attempts=1)
    source.write(NOW, sent)
    page.wait("document.getElementById('alerts').textContent.includes('teams')")
    assert page.run("document.getElementById('alerts').open") is True
    assert page.run("document.activeElement.closest('#alerts') !== null") is True


def test_acknowledging_works_by_keyboard(page: Browser, address: str, source: MemorySource) -> None:
    page.screen(1400)
    page.open(address + OPEN)
    page.key("Tab", 9)
    assert page.run("document.activeElement.textContent") == "Skip to content"
    assert page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.run("document.querySelector('form button').focus()")
    page.run("document.activeElement.click()")
    page.wait("document.readyState === 'complete' && !document.querySelector('#act-acknowledge')")
    assert [incident for _, incident, _, _ in source.acknowledged] == [OPEN.rsplit("/", 1)[1]]


def test_the_pointer_reads_a_chart_out(page: Browser, quiet: str) -> None:
    page.screen(1400)
    page.open(f"{quiet}/models/bike-demand")
    page.run("document.querySelector('svg.plot').scrollIntoView({block: 'center', behavior: 'instant'})")
    x, y = page.run(MIDDLE)
    page.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    page.wait("document.querySelector('figure output').textContent.includes('MAE')")
    assert "2015" in page.run("document.querySelector('figure output').textContent")
    assert page.run("document.querySelectorAll('.cursor').length") == 3


def test_charts_and_landmarks_have_names(page: Browser, quiet: str) -> None:
    page.screen(1400)
    page.open(f"{quiet}/models/flight-delay")
    page.send("Accessibility.enable")
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    named = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if not n.get("ignored")]
    roles = {role for role, _ in named}
    assert {"banner", "main", "navigation", "contentinfo", "heading", "table", "status"} <= roles
    images = [name for role, name in named if role in ("image", "img")]
    assert any(name.startswith("AUC of what was served") for name in images)
    assert all(name for role, name in named if role in ("image", "img", "link", "button", "region", "navigation"))
