"""The standard training pipeline, as a project's own pipelines are written; a project may change it.

    extract -> check -> split -> fit -> predict -> evaluate -> pack
                             \\-> score (the champion, on the same held-out rows) -> pair

With `history = "auto"` there are two fits, on all of the history and on a window of it, side by side; where they are
of the same rows the second is the first. Its shape depends on trilho.toml alone, so that what is compiled today also
serves a schedule; what differs from run to run is a parameter. With [history] the held-out rows are predicted after
the rows before them, by the champion too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trilho.config import Settings
from trilho.core.metrics import resolve
from trilho.data.contract import Contract
from trilho.errors import ConfigError
from trilho.pipeline.compile.compiler import compile_definition
from trilho.pipeline.definition.document import Definition, load_definition, read_interfaces
from trilho.pipeline.definition.interface import StepInterface
from trilho.pipeline.rules.check import require_sound
from trilho.train.plan import PIPELINE
from trilho.train.split import candidates
from trilho_runtime.pipeline import Param, Pipeline, Value

STEPS = "trilho.train.steps"
NEEDED = {
    "evaluate.metrics": "the version's metrics",
    "evaluate.history": "which history was kept",
    "evaluate.candidates": "how many models were tried",
    "evaluate.predictions": "what the gate judges",
    "pair.challenger": "what the gate compares",
    "pair.champion": "what the gate compares",
    "pack.package": "the version itself",
}


def training_pipeline(settings: Settings, contract: Contract) -> Pipeline:
    """Write the standard pipeline for a project's settings."""
    names = candidates(settings.train.history, settings.model.time)
    pipeline = Pipeline(
        PIPELINE,
        parameters={
            "dataset": str,
            "store": str,
            "since": "",
            "champion_uri": "",
            "champion_trained_until": "",
            "run": "",
            "commit": "",
            "data_until": "",
        },
    )
    _prepare_data(pipeline, settings, contract, names)
    for name in names:
        _fit(pipeline, settings, name, "split.train" if len(names) == 1 else f"split.train_{name}")
    _evaluate(pipeline, settings, names)
    _pack(pipeline, settings)
    _compare(pipeline, settings)
    return pipeline


def _prepare_data(pipeline: Pipeline, settings: Settings, contract: Contract, names: tuple[str, ...]) -> None:
    time = settings.model.time or ""
    pipeline.task("extract", f"{STEPS}:extract", dataset=Param("dataset"), store=Param("store"))
    pipeline.task(
        "check",
        f"{STEPS}:check",
        table="extract.table",
        contract=contract.model_dump(mode="json"),
        time=time,
        cache=contract.table.freshness is None,
    )
    pipeline.task(
        "split",
        f"{STEPS}:{'split' if len(names) == 1 else 'split_twice'}",
        table="extract.table",
        time=time,
        holdout_seconds=settings.train.holdout.total_seconds(),
        since=Param("since"),
        after=["check"],
    )
    pipeline.output("rows", "extract.output")
    pipeline.output("train_rows", "split.train_rows")
    pipeline.output("holdout_rows", "split.holdout_rows")


def _fit(pipeline: Pipeline, settings: Settings, name: str, table: str) -> None:
    steps, model = settings.steps, settings.model
    common = {"features": steps.features or "", "target": model.target, "task": model.task}
    code, timeout = [x for x in (steps.features, steps.train) if x], _timeout(settings)
    pipeline.task(
        f"fit-{name}",
        "trilho_runtime.fit:fit",
        arguments={"table": table, "train": steps.train, **common, **_past(settings)},
        code=code,
        timeout_seconds=timeout,
    )
    past = {"past": table} if settings.history.rows else {}
    pipeline.task(
        f"predict-{name}",
        f"trilho_runtime.fit:predict{'_after' if past else ''}",
        arguments={"model": f"fit-{name}.model", "table": "split.holdout", "time": model.time or "", **past, **common},
        code=code,
        timeout_seconds=timeout,
    )
    pipeline.output(f"rows_{name}", f"fit-{name}.rows")
    pipeline.output(f"features_{name}", f"fit-{name}.features")


def _evaluate(pipeline: Pipeline, settings: Settings, names: tuple[str, ...]) -> None:
    two = len(names) == 2
    arguments = {
        "task": settings.model.task,
        "metric": resolve(settings.gate.metric, settings.model.task),
        **({} if two else {"history": names[0]}),
    }
    for name in names:
        end = f"_{name}" if two else ""
        arguments[f"fitted{end}"] = f"fit-{name}.model"
        arguments[f"fitted_to{end}"] = f"split.train{end}"
        arguments[f"predicted{end}"] = f"predict-{name}.predictions"
    pipeline.task("evaluate", f"{STEPS}:{'evaluate_two' if two else 'evaluate'}", arguments=arguments)
    for output in ("metrics", "candidates", "scores"):
        pipeline.output(output, f"evaluate.{output}")


def _pack(pipeline: Pipeline, settings: Settings) -> None:
    model = settings.model
    pipeline.task(
        "pack",
        "trilho_runtime.pack:pack",
        model="evaluate.model",
        train="evaluate.train",
        holdout="split.holdout",
        predictions="evaluate.predictions",
        name=model.name,
        task=model.task,
        target=model.target,
        time=model.time or "",
        key=model.key or "",
        features=settings.steps.features or "",
        batch_only=settings.serve.batch_only,
        window_seconds=settings.watch.window.total_seconds(),
        ignore=settings.watch.ignore,
        metrics=Value("evaluate.metrics"),
        dataset=Param("dataset"),
        run=Param("run"),
        commit=Param("commit"),
        data_until=Param("data_until"),
        train_until=Value("split.train_until"),
        history=Value("evaluate.history"),
        arguments=_past(settings),
        code=["*"],
        timeout_seconds=_timeout(settings),
    )
    pipeline.output("package", "pack.package")
    pipeline.output("files", "pack.files")
    pipeline.output("rows_proven", "pack.rows_proven")


def _compare(pipeline: Pipeline, settings: Settings) -> None:
    model = settings.model
    past = {"past": "evaluate.train"} if settings.history.rows else {}
    with pipeline.when(Param("champion_uri") != "", name="compare"):
        pipeline.task(
            "score",
            f"trilho_runtime.fit:score{'_after' if past else ''}",
            arguments=past,
            table="split.holdout",
            package=Param("champion_uri"),
            target=model.target,
            time=model.time or "",
            timeout_seconds=_timeout(settings),
        )
        pipeline.task(
            "pair",
            f"{STEPS}:pair",
            ours="evaluate.predictions",
            theirs="score.predictions",
            train_until=Value("split.train_until"),
            champion_trained_until=Param("champion_trained_until"),
        )


def _past(settings: Settings) -> dict[str, Any]:
    """Give the arguments of a step that looks at past rows; none where the features look at no other row."""
    history = settings.history
    return {"past_rows": history.rows, "entity": list(history.entity)} if history.rows else {}


def _timeout(settings: Settings) -> int:
    return round(settings.train.timeout.total_seconds())


def write_training(
    settings: Settings, contract: Contract, source: Path, python: Path, home: Path, image: str
) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Write, check and compile the pipeline that a training runs; give too what the code that wrote it has read."""
    definition, interfaces = define_training(settings, contract, source, python, home)
    return compile_definition(definition, interfaces, image=image), definition.depends


def define_training(
    settings: Settings, contract: Contract, source: Path, python: Path, home: Path
) -> tuple[Definition, dict[str, StepInterface]]:
    """Give the standard pipeline, or what the project makes of it, checked, with what its steps take and give."""
    named = settings.pipeline.define
    standard = training_pipeline(settings, contract)
    definition = load_definition(named, standard, python=python, source=source, home=home)
    interfaces = read_interfaces(definition, source)
    require_sound(definition, interfaces)
    if named is not None:
        require_results(definition, interfaces, named)
    return definition, interfaces


def require_results(definition: Definition, interfaces: Mapping[str, StepInterface], named: str) -> None:
    """Hold a project's own pipeline to what a training needs of it. Raises ConfigError before anything runs."""
    steps = {task.name: task.step for task in definition.tasks}
    for output, what in NEEDED.items():
        task, _, key = output.partition(".")
        found = interfaces.get(steps.get(task) or "")
        if found is None or key not in {**found.outputs, **found.values}:
            fact = f"it has no task {task}" if task not in steps else f"its task {task} has no output {key}"
            raise ConfigError(
                f"pipeline.define is {named!r}: {fact}, and a training needs {output}: {what}",
                hint=f"keep a task {task} with that output, or run it by itself: trilho pipeline run",
            )
