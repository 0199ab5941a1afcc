"""trilho.toml: frozen, validated settings. Each field's docstring is its documentation, here and in `trilho config`.

The file holds only what differs from the defaults. A mistake is answered in two lines: the file, the key, what was
given, what is allowed, and the nearest right spelling.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from trilho.config.serving import Gate, Serve
from trilho.config.telemetry import Telemetry
from trilho.config.values import (
    UNITS,
    Duration,
    Function,
    Table,
    parse_bucket,
    parse_duration,
    parse_history,
    parse_rate,
    parse_zone,
)
from trilho.config.watching import WELL_KNOWN, Alert, Watch
from trilho.errors import ConfigError
from trilho.secrets import find_secrets

__all__ = [
    "FILE",
    "UNITS",
    "Alert",
    "Data",
    "Environment",
    "Gate",
    "History",
    "Labels",
    "Model",
    "Pipeline",
    "Retrain",
    "Serve",
    "Settings",
    "Steps",
    "Table",
    "Telemetry",
    "Tracking",
    "Train",
    "Watch",
    "describe",
    "load_settings",
    "parse_duration",
    "parse_rate",
]
FILE = "trilho.toml"


class Model(Table):
    """What the model is."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
    """The model's name, unique on its platform: small letters, digits and hyphens."""
    task: Literal["classification", "regression"]
    """What it predicts: the probability of a class, or a number."""
    target: str
    """The column to predict."""
    time: str | None = None
    """The column that says when a row happened; windows, holdouts and drift follow it."""
    key: str | None = None
    """The column that names a row once; rows with a key seen before are not used twice."""
    owner: str | None = None
    """Who answers for the model."""
    personal: list[str] = []
    """Columns that hold personal data; they are kept out of samples and reports."""


class Data(Table):
    """Where the training rows come from."""

    source: str
    """A CSV or Parquet file, or a glob of them, from the project's folder; with steps.load any kind of file."""
    contract: str = "contract.toml"
    """What the data must satisfy; `trilho data contract` writes a first one."""
    served: bool = False
    """Whether rows that were served and labelled since are training rows too."""


class Steps(Table):
    """The project's own functions, as "package.module:name"."""

    load: Function | None = None
    """A source file's path in, DataFrame of raw rows out, the target among them; by default CSV and Parquet
    files are read by trilho itself."""
    features: Function | None = None
    """DataFrame of raw rows in, DataFrame of features out; the same at training and serving. Without one the
    model is given raw rows, and answers for them."""
    train: Function
    """Features and target in, fitted estimator out."""
    decide: Function | None = None
    """A score in, yes or no out: the business rule on top of the model, changed without a retraining."""


class History(Table):
    """The past rows that features look at, for a model of lags, differences or rolling sums.

    steps.features, or the model without one, is given a table: the newest past rows, their targets among them, then the
    row that is asked, its target missing. Rows of one request do not see each other: their targets are not known yet.
    """

    rows: Annotated[int, Field(ge=0, le=100_000)] = 0
    """How many past rows of its entity the features of a row look at, at most; 0 when they look at no other row."""
    entity: list[str] = []
    """The columns that name whose past a row has, such as ["store"]; without any the whole table is one series."""
    source: str | None = None
    """A CSV or Parquet file or glob with past rows since the training, their targets among them; the platform reads it
    again when it changes. Served rows become past rows by themselves once their labels have come."""


class Train(Table):
    """How a training goes."""

    holdout: Duration = timedelta(days=60)
    """The newest rows are held out to judge the model; the rule moves with the data."""
    history: Annotated[str, BeforeValidator(parse_history)] = "all"
    """How far back a training looks: "all", "latest 365 days", or "auto", which fits both the whole
    history and as much as the first dataset spanned, and keeps the better on the held-out rows."""
    timeout: Duration = timedelta(hours=1)
    """After this a step is stopped and the run has failed."""


class Pipeline(Table):
    """What a training consists of."""

    define: Function | None = None
    """A function that writes the pipeline: it takes the standard one and changes it, or takes nothing and writes its
    own; by default the standard one."""
    image: str | None = None
    """The project's image with its digest, which `trilho pipeline compile` writes into every step; by default one that
    stands for this project's code on this machine."""


class Labels(Table):
    """How the truth arrives, where it does not come over HTTP by prediction id."""

    source: str | None = None
    """A CSV or Parquet file or glob with the true values."""
    on: list[str] = []
    """The columns that join a label to its prediction; by default the model's key."""
    value: str | None = None
    """The column with the true value; by default the model's target. A table that lacks it may have the target."""
    classes: dict[str, float] = {}
    """What the words of `value` stand for, where they are not the model's own: { "yes" = 1, "no" = 0 }."""


class Retrain(Table):
    """What starts a retraining, and how often at most."""

    drift: bool = True
    """Whether a drift alarm starts one."""
    performance: bool = True
    """Whether a performance alarm starts one."""
    cooldown: Duration = timedelta(days=1)
    """The least time between two retrainings, in the data's own time."""


class Tracking(Table):
    """An MLflow server that runs and versions are mirrored to, for those who look there; the journal is the truth."""

    mlflow: Annotated[str, Field(pattern=r"^https?://[^\s@]+$")] | None = None
    """The address of the server, as MLFLOW_TRACKING_URI has it: "https://mlflow.example.com"."""
    experiment: str | None = None
    """The experiment that holds the runs; by default the model's name."""
    token: Annotated[str, Field(pattern=r"^secret://[A-Za-z0-9][\w.-]*$")] | None = None
    """The token to ask with, as "secret://NAME"; by default what MLFLOW_TRACKING_TOKEN holds or names."""
    upload: bool | None = None
    """Whether packages are copied to the server's artifacts, so that MLflow opens a version by its name; by default
    only where the server runs on this machine, and elsewhere a version is a link to its package."""


class Environment(Table):
    """A place where pipelines run when they do not run here: `trilho train --on vertex --env NAME`."""

    backend: Literal["gcp", "kubeflow"]
    """Vertex AI in a project of Google Cloud, or a server of Kubeflow Pipelines."""
    bucket: Annotated[str, BeforeValidator(parse_bucket)]
    """Where artifacts go: "gs://BUCKET", or for Kubeflow also a folder that the cluster mounts too, "file:///FOLDER"."""
    project: str | None = None
    """The project of Google Cloud."""
    region: str = "southamerica-east1"
    """Its region."""
    image: str | None = None
    """The project's image with its digest, "REGISTRY/NAME@sha256:...": what every step runs in."""
    service_account: str | None = None
    """What the steps run as; by default the platform's own account."""
    endpoint: str | None = None
    """The address of the Kubeflow Pipelines API, "https://HOST/..."."""
    machine: str = "n1-standard-2"
    """What each replica of the model's endpoint on Vertex AI runs on."""
    replicas: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2)] = [1, 1]
    """How many replicas the endpoint has, at least and at most; between them Vertex AI follows the load."""

    @model_validator(mode="after")
    def _whole(self) -> Environment:
        if self.backend == "gcp" and self.project is None:
            raise ValueError('project: backend "gcp" needs the project of Google Cloud')
        if self.backend == "gcp" and not self.bucket.startswith("gs://"):
            raise ValueError('bucket: backend "gcp" needs one of Cloud Storage, "gs://NAME"')
        if self.replicas[0] > self.replicas[1]:
            raise ValueError(f"replicas: {self.replicas}; allowed: the least first, then the most")
        if self.backend == "kubeflow" and self.endpoint is None:
            raise ValueError('endpoint: backend "kubeflow" needs the address of its API')
        return self


class Settings(Table):
    """The whole of trilho.toml."""

    timezone: Annotated[str, BeforeValidator(parse_zone)] = "UTC"
    """The zone in which the console shows event times; a time without a zone is taken as UTC."""
    home: str = ".trilho"
    """Where this machine keeps journal, artifacts and logs, from the project's folder; projects with one home
    share one journal. TRILHO_HOME overrides it."""
    python: str = ""
    """The project's own interpreter, from the project's folder; by default .venv/bin/python where there is one,
    else trilho's. TRILHO_PYTHON overrides it."""
    model: Model
    data: Data
    steps: Steps
    history: History = History()
    train: Train = Train()
    pipeline: Pipeline = Pipeline()
    labels: Labels = Labels()
    gate: Gate = Gate()
    serve: Serve = Serve()
    watch: Watch = Watch()
    alerts: dict[str, Alert] = {}
    """Where alerts can go, by name: [alerts.team]."""
    retrain: Retrain = Retrain()
    telemetry: Telemetry = Telemetry()
    tracking: Tracking = Tracking()
    environments: dict[str, Environment] = {}
    """Where else pipelines run, by name: [environments.prod]."""


def load_settings(folder: Path) -> Settings:
    """Read and check a project's trilho.toml. Raises ConfigError in two lines."""
    path = folder / FILE
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{folder} has no {FILE}", hint="trilho init NAME, or -C DIR to say where it is") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}", hint=f"correct {FILE}") from None
    _refuse_secrets(path, raw)
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        raise _explain(path, error.errors(include_url=False)) from None
    _check_history(path, settings)
    _check_alerts(path, settings)
    return settings


def _check_history(path: Path, settings: Settings) -> None:
    """Hold [history] against the tables that it needs. Raises ConfigError."""
    rows, entity, model = settings.history.rows, settings.history.entity, settings.model
    apart = [name for name in entity if name in (model.time, model.target)]
    rules = [
        (entity and not rows, "history.entity is given without history.rows; allowed: a number from 1 on",
         "add rows to [history]: how many past rows the features look at, at most"),
        (settings.history.source and not rows, "history.source is given without history.rows; allowed: a number from 1"
         " on", "add rows to [history]: how many past rows the features look at, at most"),
        (rows and model.time is None, f"history.rows is {rows} without model.time; past rows are found by their time",
         "add time to [model]: the column that says when a row happened"),
        (rows and apart, f"history.entity names {apart}, the model's time or target; allowed: columns that name whose"
         " past a row has", 'leave history.entity out for one series, or name what there is one of for each'),
        (rows and settings.serve.batch_only, f"history.rows is {rows} and serve.batch_only is true; allowed: one of"
         " them", "remove serve.batch_only: with [history] rows are answered one by one"),
    ]  # fmt: skip
    kept = sorted(settings.serve.mask.keys() - {model.key}) if settings.data.served else []
    rules.append(
        (kept, f"data.served is true, and serve.mask keeps {', '.join(kept)} out of the log; allowed: one of them",
         "served rows that lack columns cannot be training rows: set data.served to false, or unmask the columns")
    )  # fmt: skip
    for wrong, fact, hint in rules:
        if wrong:
            raise ConfigError(f"{path}: {fact}", hint=hint)


def _check_alerts(path: Path, settings: Settings) -> None:
    """Refuse a channel in watch.alerts that nothing describes. Raises ConfigError."""
    allowed = sorted({*WELL_KNOWN, *settings.alerts})
    for name in settings.watch.alerts:
        if name not in allowed:
            close = difflib.get_close_matches(name, allowed, n=1)
            raise ConfigError(
                f"{path}: watch.alerts names {name!r}; allowed: {', '.join(allowed)}",
                hint=f"did you mean {close[0]!r}?" if close else f"add a table [alerts.{name}] to it",
            )


def _refuse_secrets(path: Path, value: Any, key: str = "") -> None:
    """Refuse a value that looks like a secret: the file is in git, and what was in git is known."""
    if isinstance(value, dict):
        for name, one in value.items():
            _refuse_secrets(path, one, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for one in value:
            _refuse_secrets(path, one, key)
    elif isinstance(value, str):
        found = next(find_secrets(f"{key.rpartition('.')[2]} = {json.dumps(value)}"), None)
        if found is not None:
            raise ConfigError(
                f"{path}: {key} holds what looks like {found.kind}; allowed: its name, secret://NAME",
                hint="keep the value in a secret store, and renew it if it was ever committed",
            )


def _explain(path: Path, problems: list[Any]) -> ConfigError:
    first = min(problems, key=lambda problem: problem["type"] != "extra_forbidden")  # a typo makes a key missing too
    where = [str(part) for part in first["loc"] if not str(part).startswith(("function-", "literal", "constrained"))]
    key = ".".join(where)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        allowed = sorted(_table_at(where[:-1]).model_fields)
        close = difflib.get_close_matches(where[-1], allowed, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"trilho config lists every key of [{'.'.join(where[:-1])}]"
        return ConfigError(f"{path}: unknown key {key}; allowed: {', '.join(allowed)}{more}", hint=hint)
    if first["type"] == "missing":
        return ConfigError(f"{path}: {key} is missing{more}", hint=f"add {key}: {describe(where)}")
    allowed_text = _allowed(first)
    text = f"{path}: {key} is {first['input']!r}; allowed: {allowed_text}{more}"
    given = first["input"]
    choices = re.findall(r"'([^']+)'", allowed_text)
    close = difflib.get_close_matches(given, choices, n=1) if isinstance(given, str) else []
    return ConfigError(text, hint=f"did you mean {close[0]!r}?" if close else f"change {key}: {describe(where)}")


def _allowed(problem: Any) -> str:
    message = str(problem["msg"])
    for prefix in ("Value error, ", "Input should be "):
        message = message.removeprefix(prefix)
    return message


def _table_at(where: list[str]) -> type[Table]:
    table: type[Table] = Settings
    parts = iter(where)
    for part in parts:
        field = table.model_fields.get(part)
        kind = field.annotation if field is not None else None
        if get_origin(kind) is dict:  # a table of tables: its keys are the user's
            kind = get_args(kind)[1] if next(parts, None) is not None else None
        if not isinstance(kind, type) or not issubclass(kind, Table):
            return table
        table = kind
    return table


def describe(where: list[str]) -> str:
    """Give a key's documentation in one line.

    >>> describe(["model", "target"])
    'The column to predict.'
    """
    table = _table_at(where)
    field = table.model_fields.get(where[-1])
    text = (field.description if field else None) or table.__doc__ or ""
    return " ".join(text.split())
