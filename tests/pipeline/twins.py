# mypy: ignore-errors
# ruff: noqa: B006, UP014
"""The same pipelines twice: written with trilho's builder, and with the official SDK, whose compilation is compared."""

from kfp import dsl
from tests.pipeline import twins_blocks  # noqa: F401  registers its own
from tests.pipeline.official import IMAGE, TWINS, Official, at, twin

from trilho_runtime.pipeline import Item, Param, Pipeline, Status, Value
from trilho_runtime.step import Model, Table

__all__ = ["IMAGE", "TWINS", "Official"]


@twin
def plain(official):
    @dsl.pipeline(name="plain")
    def theirs():
        loaded = official("load")
        fitted = official("fit", table=loaded.outputs["table"])
        official("judge", model=fitted.outputs["model"], table=loaded.outputs["table"]).after(loaded)

    ours = Pipeline("plain")
    ours.task("load", at("load"))
    ours.task("fit", at("fit"), table="load.table")
    ours.task("judge", at("judge"), model="fit.model", table="load.table", after=["load"])
    return ours, theirs


@twin
def parameters_and_defaults(official):
    @dsl.pipeline(name="parameters")
    def theirs(
        rows: int,
        share: float = 0.25,
        where: str = "there",
        ok: bool = True,
        words: list = ["x", 1],
        more: dict = {"a": {"b": 2.5}},
    ):
        loaded = official("load", count=rows, part=share, where=where)
        official("look", rows=7, share=3.0, side='it\'s "so"', ok=ok, words=words, more=more)
        official("look", rows=loaded.outputs["rows"], words=["a", 2], more={"deep": {"x": [1, 2.5, "y"]}})

    ours = Pipeline(
        "parameters",
        parameters={
            "rows": int,
            "share": 0.25,
            "where": "there",
            "ok": True,
            "words": ["x", 1],
            "more": {"a": {"b": 2.5}},
        },
    )
    ours.task("load", at("load"), count=Param("rows"), part=Param("share"), where=Param("where"))
    ours.task(
        "look",
        at("look"),
        rows=7,
        share=3.0,
        side='it\'s "so"',
        ok=Param("ok"),
        words=Param("words"),
        more=Param("more"),
    )
    ours.task("look-2", at("look"), rows=Value("load.rows"), words=["a", 2], more={"deep": {"x": [1, 2.5, "y"]}})
    return ours, theirs


@twin
def several_outputs(official):
    from typing import NamedTuple

    @dsl.pipeline(name="outputs")
    def theirs() -> NamedTuple("Outputs", [("share", float), ("model", dsl.Model), ("side", str)]):
        loaded = official("load")
        fitted = official("fit", table=loaded.outputs["table"], side=loaded.outputs["side"])
        outputs = NamedTuple("Outputs", [("share", float), ("model", dsl.Model), ("side", str)])
        return outputs(share=fitted.outputs["output"], model=fitted.outputs["model"], side=loaded.outputs["side"])

    ours = Pipeline("outputs")
    ours.task("load", at("load"))
    ours.task("fit", at("fit"), table="load.table", side=Value("load.side"))
    ours.output("share", "fit.output")
    ours.output("model", "fit.model")
    ours.output("side", "load.side")
    return ours, theirs


@twin
def exit_handler(official):
    @dsl.pipeline(name="ending")
    def theirs(note: str = "x"):
        notified = official("notify", note=note)
        with dsl.ExitHandler(notified):
            loaded = official("load", where=note)
            with dsl.If(loaded.outputs["rows"] > 3):
                fitted = official("fit", table=loaded.outputs["table"], side=note)
                official("deploy", model=fitted.outputs["model"])

    ours = Pipeline("ending", parameters={"note": "x"})
    ours.task("load", at("load"), where=Param("note"))
    with ours.when(Value("load.rows") > 3):
        ours.task("fit", at("fit"), table="load.table", side=Param("note"))
        ours.task("deploy", at("deploy"), model="fit.model")
    ours.on_exit("notify", at("notify"), status=Status(), note=Param("note"))
    return ours, theirs


@twin
def retries_and_machines(official):
    @dsl.pipeline(name="machines")
    def theirs():
        heavy = official("heavy")
        heavy.set_retry(2).set_cpu_limit("2").set_memory_limit("4G")
        loaded = official("load", timeout=60)
        loaded.set_retry(3, backoff_duration="30s", backoff_factor=1.5)
        fitted = official("fit", table=loaded.outputs["table"], code=["shop.more:x"])
        fitted.set_cpu_limit("500m").set_memory_limit("512Mi").set_accelerator_type(
            "NVIDIA_TESLA_T4"
        ).set_accelerator_limit(2)
        fitted.set_caching_options(False)
        official("say").set_accelerator_type("TPU_V3")

    ours = Pipeline("machines")
    ours.task("heavy", at("heavy"))
    ours.task("load", at("load"), timeout_seconds=60, retries=3, backoff_seconds=30, backoff_factor=1.5)
    ours.task(
        "fit",
        at("fit"),
        table="load.table",
        cpu="500m",
        memory="512Mi",
        accelerator="NVIDIA_TESLA_T4",
        accelerators=2,
        cache=False,
        code=["shop.more:x"],
    )
    ours.task("say", at("say"), accelerator="TPU_V3")
    return ours, theirs


@twin
def ignored_failure(official):
    @dsl.pipeline(name="ignoring")
    def theirs():
        loaded = official("load")
        official("say", text=loaded.outputs["side"]).ignore_upstream_failure()
        official("notify", note="x").after(loaded).ignore_upstream_failure()

    ours = Pipeline("ignoring")
    ours.task("load", at("load"))
    ours.task("say", at("say"), text=Value("load.side"), ignore_failure=True)
    ours.task("notify", at("notify"), status=Status(), note="x", after=["load"], ignore_failure=True)
    return ours, theirs


@twin
def importers(official):
    @dsl.pipeline(name="imports")
    def theirs(uri: str = "gs://shop/model"):
        champion = dsl.importer(artifact_uri=uri, artifact_class=dsl.Model)
        table = dsl.importer(artifact_uri="gs://shop/rows.csv", artifact_class=dsl.Dataset)
        official("judge", model=champion.output, table=table.output)
        with dsl.If(uri != ""):
            late = dsl.importer(artifact_uri=uri, artifact_class=dsl.Model)
            official("deploy", model=late.output)

    ours = Pipeline("imports", parameters={"uri": "gs://shop/model"})
    ours.artifact("importer", uri=Param("uri"), kind=Model)
    ours.artifact("importer-2", uri="gs://shop/rows.csv", kind=Table)
    ours.task("judge", at("judge"), model="importer", table="importer-2.artifact")
    with ours.when(Param("uri") != ""):
        ours.artifact("importer-3", uri=Param("uri"), kind=Model)
        ours.task("deploy", at("deploy"), model="importer-3")
    return ours, theirs


@twin
def waiting_across_blocks(official):
    @dsl.pipeline(name="waiting")
    def theirs():
        loaded = official("load")
        said = official("say")
        with dsl.ParallelFor([1, 2]) as size:
            official("need", rows=size, side="a").after(said)
        with dsl.If(loaded.outputs["rows"] > 3):
            official("say", text="b").after(said)

    ours = Pipeline("waiting")
    ours.task("load", at("load"))
    ours.task("say", at("say"))
    with ours.each("size", over=[1, 2]):
        ours.task("need", at("need"), rows=Item("size"), side="a", after=["say"])
    with ours.when(Value("load.rows") > 3):
        ours.task("say-2", at("say"), text="b", after=["say"])
    return ours, theirs
