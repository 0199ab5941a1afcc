"""The pages: each reads the source once and renders one template."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from trilho.console import views
from trilho.console.charts import metric_chart
from trilho.console.features import CAP
from trilho.console.forest import gain
from trilho.console.graph import graph
from trilho.console.history import history
from trilho.console.incidents import IncidentList, IncidentView
from trilho.console.source import Source
from trilho.console.timeline import incident_story
from trilho.core.journal import now as journal_now
from trilho.govern import handover, wording
from trilho.govern.health import RULE, by_harm
from trilho.watch.incidents.acts import MUTES
from trilho.watch.incidents.words import evidence_words
from trilho.watch.wording import Language

HERE = Path(__file__).parent
STATIC = HERE / "static"
LOG_TAIL = 40_000  # characters of a step's output on a page
SHOWN_RUNS = 40


class Pages:
    """Render the console's pages from a source; a page that does not exist is None."""

    def __init__(self, source: Source, clock: Callable[[], str] = journal_now) -> None:
        self.source = source
        self.clock = clock
        self.environment = _environment()

    def overview(self, fragment: bool = False) -> str:
        """Render all models, the most harmed first."""
        state, now = self.source.state(), self.clock()
        found = {name: views.model_view(self.source, state, name, now) for name in views.names(self.source, state)}
        order = by_harm({name: view.health for name, view in found.items()})
        shown = [found[name] for name in order]
        return self._render("overview.html", fragment, now, views=shown, tally=views.tally(shown), rule=RULE)

    def model(self, name: str, fragment: bool = False) -> str | None:
        """Render one model."""
        state, now = self.source.state(), self.clock()
        if name not in views.names(self.source, state):
            return None
        view = views.model_view(self.source, state, name, now)
        manifests = {number: self.source.package(name, number) for number in view.state.versions}
        versions = views.lineage(view, manifests)
        return self._render("model.html", fragment, now, view=view, versions=versions, rule=RULE, shown_runs=SHOWN_RUNS)

    def run(self, run: str, fragment: bool = False) -> str | None:
        """Render one run: its graph, its tasks and the output of what failed."""
        state, now = self.source.state(), self.clock()
        found = views.find_run(state, run)
        if found is None:
            return None
        model, shown = found
        view = views.model_view(self.source, state, model.name, now)
        failed = [task["name"] for task in shown.tasks if task["state"] == "failed"]
        logs = {name: self.source.tail_log(run, name)[-LOG_TAIL:] for name in failed}
        version = next((v for v in model.versions.values() if v.run == run), None)
        return self._render("run.html", fragment, now, view=view, run=shown, version=version, logs=logs)

    def log(self, run: str, task: str) -> str | None:
        """Render the kept output of a run's task."""
        found = views.find_run(self.source.state(), run)
        if found is None or task not in {known["name"] for known in found[1].tasks}:
            return None
        text, runner = self.source.tail_log(run, task), found[1].runner
        return self._render(
            "log.html", False, self.clock(), model=found[0].name, run=run, task=task, text=text, runner=runner
        )

    def incident(self, incident: str, fragment: bool = False, language: Language = "en", asked: str = "") -> str | None:
        """Render one incident; `asked` is the language where the address names one."""
        state, now = self.source.state(), self.clock()
        found = views.find_incident(state, incident)
        if found is None:
            return None
        model, shown = found
        view = IncidentView(views.model_view(self.source, state, model.name, now), shown, now, language)
        story = incident_story(model, shown, language)
        return self._render(
            "incident.html", fragment, now, page=view, view=view.model, incident=shown, story=story, language=language,
            asked=asked, mutes=MUTES,
        )  # fmt: skip

    def incidents(
        self, asked: Mapping[str, str] | None = None, fragment: bool = False, language: Language = "en"
    ) -> str:
        """Render the incidents of all models that a filter lets through."""
        state, now = self.source.state(), self.clock()
        found = IncidentList(state, asked or {}, now, language)
        return self._render("incidents.html", fragment, now, page=found, language=language)

    def report_data(self) -> dict[str, Any]:
        """Give the handover as JSON values."""
        state, now = self.source.state(), self.clock()
        facts = [views.model_view(self.source, state, name, now).facts for name in views.names(self.source, state)]
        return handover.report_data(facts, now=now, head=self.source.head())

    def report(self, fragment: bool = False) -> str:
        """Render the handover inside the console."""
        figures = self._figures()
        return self._render("report.html", fragment, self.clock(), data=self.report_data(), figures=figures)

    def handover(self) -> str:
        """Render the handover as a file that needs nothing else."""
        parts = self.environment.get_template("parts.html").module
        css = (STATIC / "charts.css").read_text(encoding="utf-8")
        return handover.handover(self.report_data(), self._figures(), css=css, defs=parts.defs())  # type: ignore[attr-defined]

    def _figures(self) -> dict[str, Markup]:
        state = self.source.state()
        figure = self.environment.get_template("parts.html").module.figure  # type: ignore[attr-defined]
        found = {}
        for name in views.names(self.source, state):
            past = history(state.model(name), self.source.readings(name))
            if past is not None:
                found[name] = Markup(figure(metric_chart(past, name=f"report-{name}", height=130)))  # noqa: S704
        return found

    def problem(self, title: str, text: str) -> str:
        """Render a page that says what is wrong."""
        return self._render("problem.html", False, self.clock(), title=title, text=text)

    def _render(self, template: str, fragment: bool, now: str, **values: Any) -> str:
        page = self.environment.get_template(template)
        return page.render(now=now, layout="fragment.html" if fragment else "base.html", **values)


def asset_version() -> str:
    """Name the static files by their content, so that browsers may keep them."""
    files = [file.read_bytes() for file in sorted(STATIC.iterdir())]
    return hashlib.sha256(b"".join([*files, stylesheet().encode()])).hexdigest()[:10]


def stylesheet() -> str:
    """Give the console's style sheet: the tokens it shares with the report, charts, and its own."""
    own = [(STATIC / name).read_text(encoding="utf-8") for name in ("charts.css", "console.css")]
    return "".join([handover.stylesheet("tokens.css"), *own])


def _environment() -> Environment:
    loader = FileSystemLoader([HERE / "templates", handover.TEMPLATES])
    env = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    env.filters.update(handover.FILTERS)
    env.filters["ago"] = _ago
    env.filters["reason"] = wording.reason
    env.filters["evidence"] = evidence_words
    env.globals.update(
        asset=asset_version(),
        graph=graph,
        gain=gain,
        window=wording.window,
        percent=wording.percent,
        measured_name=wording.metric_name,
        cap=CAP,
        spoken=wording.spoken,
        since=wording.since,
    )
    return env


def _ago(time: str, now: str) -> str:
    return f"{wording.duration(max(wording.since(time, now), 0))} ago"
