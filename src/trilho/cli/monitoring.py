"""`trilho monitoring`: files for the monitoring tools that a team already has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trilho.cli.session import Session, group, verb
from trilho.errors import UsageError

CONSOLE = "127.0.0.1:8000"
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder that the files are written to.")]


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""
    monitoring = typer.Typer()
    app.add_typer(monitoring, name="monitoring")

    @group(monitoring)
    def list_(here: Session) -> None:
        """Write alert rules for your own monitoring."""
        here.say("prometheus  scrape config, alert rules with their test, an Alertmanager config")
        here.say("google      a Cloud Monitoring dashboard and alert policies, as Terraform")
        here.done("trilho monitoring prometheus", tools=["prometheus", "google"])

    @verb(monitoring, "prometheus", examples=[
        "trilho monitoring prometheus --out monitoring",
        "trilho monitoring prometheus --console trilho.intern:8000 --endpoint trilho.intern:8080",
    ])  # fmt: skip
    def prometheus(
        here: Session,
        out: Out = Path("monitoring"),
        console: Annotated[str, typer.Option("--console", metavar="HOST:PORT", help="Of `trilho up`.")] = CONSOLE,
        endpoint: Annotated[
            str | None, typer.Option("--endpoint", metavar="HOST:PORT", help="Of the model's endpoint.")
        ] = None,
    ) -> None:
        """Write Prometheus rules and an Alertmanager config.

        The rules pass the watch's alarms on, and add what only a scraper can see: a watcher or endpoint that stopped,
        a log that is shed, errors, slow answers, late labels. A test of the rules comes with them.
        """
        from urllib.parse import urlsplit

        from trilho.watch.exports.prometheus import files_of

        project = here.project
        running = project.endpoint() if endpoint is None else None
        known = running.address if running is not None else None
        served = endpoint or (urlsplit(known).netloc if known else f"127.0.0.1:{project.settings.serve.port or 8080}")
        written = write(out, files_of(project.settings, console, served))
        here.say(*(f"wrote {name}" for name in written))
        here.done(f"promtool test rules {out}/rules.test.yml", model=project.name, files=written)

    @verb(monitoring, "google", examples=["trilho monitoring google --out monitoring/google"])
    def google(here: Session, out: Out = Path("monitoring/google")) -> None:
        """Write a dashboard and alert policies as Terraform.

        They read what a Vertex AI endpoint reports of itself, and what its containers write to Cloud Logging. Project,
        endpoint and notification channels are variables.
        """
        from trilho.watch.exports.google import files_of

        written = write(out, files_of(here.project.settings))
        here.say(*(f"wrote {name}" for name in written))
        here.done(f"terraform -chdir={out} init", model=here.project.name, files=written)


def write(folder: Path, files: dict[str, str]) -> list[str]:
    """Write files to a folder, over those of an earlier time; give their paths. Raises UsageError where it cannot."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}", hint="name another with --out") from None
    return [str(folder / name) for name in files]
