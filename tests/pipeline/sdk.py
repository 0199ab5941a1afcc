# mypy: ignore-errors
# ruff: noqa
"""Pipelines written with the official SDK, one for each construct that it compiles.

A component's annotations are read by the SDK from its source, so nothing here is postponed or checked by mypy.
"""

import warnings
from typing import Dict, List, NamedTuple, Optional

from kfp import dsl
from kfp.dsl import (
    Artifact,
    ClassificationMetrics,
    Dataset,
    Input,
    InputPath,
    Metrics,
    Model,
    Output,
    OutputPath,
    PipelineTaskFinalStatus,
)

warnings.simplefilter("ignore", FutureWarning)
component = dsl.component(install_kfp_package=False, base_image="python:3.11")


@component
def num(n: int) -> int:
    return n


@component
def text(s: str) -> str:
    return s


@component
def real(x: float) -> float:
    return x


@component
def flag(b: bool) -> bool:
    return b


@component
def flip(side: str, n: int = 3) -> NamedTuple("Outputs", [("side", str), ("num", int), ("share", float), ("ok", bool)]):
    return (side, n, n / 4, n > 2)


@component
def fail(message: str) -> str:
    raise ValueError(message)


@component
def items(n: int) -> list:
    return list(range(n))


@component
def rows(n: int) -> list:
    return [{"title": "row" + str(i), "size": i} for i in range(n)]


@component
def settings(depth: int) -> dict:
    return {"depth": depth, "names": ["a", "b"], "share": 0.5}


@component
def total(xs: list) -> int:
    return sum(sum(x) if isinstance(x, list) else x for x in xs)


@component
def show(xs: list) -> str:
    import json

    return json.dumps(xs)


@component
def describe(d: dict, xs: list = [1, 2], extra: Optional[str] = None, k: Optional[int] = None) -> str:
    import json

    return json.dumps([d, xs, extra, k, [type(x).__name__ for x in xs]], sort_keys=True)


@component
def make(n: int, data: Output[Dataset]) -> int:
    with open(data.path, "w") as f:
        f.write("x" * n)
    data.metadata["rows"] = n
    return n


@component
def train(data: Input[Dataset], model: Output[Model], metrics: Output[Metrics], roc: Output[ClassificationMetrics]):
    with open(data.path) as f:
        size = len(f.read())
    with open(model.path + ".txt", "w") as f:
        f.write(str(size))
    model.metadata["framework"] = "none"
    metrics.log_metric("auc", size / 100)
    roc.log_roc_curve([0.0, 1.0], [0.0, 1.0], [1.0, 0.0])


@component
def evaluate(model: Input[Model], metrics: Input[Metrics], roc: Input[ClassificationMetrics]) -> str:
    with open(model.path + ".txt") as f:
        size = f.read()
    return f"{size} {metrics.metadata['auc']} {len(roc.metadata['confidenceMetrics'])} {model.metadata['framework']}"


@component
def size_of(data: Input[Dataset]) -> str:
    import os

    return f"{os.path.getsize(data.path)} {data.metadata.get('rows')}"


@component
def sizes_of(data: Input[List[Dataset]]) -> str:
    import os

    return " ".join(str(os.path.getsize(d.path)) for d in data)


@component
def optional_data(data: Optional[Input[Dataset]] = None) -> str:
    return "none" if data is None else "some"


@component
def status_of(status: PipelineTaskFinalStatus, note: str = "-") -> str:
    return f"{note} {status.state} {status.pipeline_task_name} {status.error_message or ''}"


@component
def make_other(kind: str, data: Output[Artifact]):
    with open(data.path, "w") as f:
        f.write(kind)


@component
def content(data: Input[Artifact]) -> str:
    with open(data.path) as f:
        return f.read()


@component
def returned(n: int) -> Dataset:
    from kfp import dsl

    made = dsl.Dataset(uri=dsl.get_uri(suffix="made.txt"), metadata={"rows": n})
    with open(made.path, "w") as f:
        f.write("y" * n)
    return made


@component
def text_or(s: str = "default") -> str:
    return s


@component
def flaky(marker: str, times: int) -> int:
    with open(marker, "a") as f:
        f.write("x")
    with open(marker) as f:
        if len(f.read()) <= times:
            raise RuntimeError("not yet")
    return times


@dsl.container_component
def shell(a: str, b: int, out: OutputPath(str), size: OutputPath(int), opt: Optional[str] = None):
    return dsl.ContainerSpec(
        image="alpine",
        command=["sh", "-c", 'printf "%s|" "$@" > "$0"; printf "%s\n" "$#" > "$SIZE_FILE"'.replace("$SIZE_FILE", "$1")],
        args=[
            out,
            size,
            dsl.ConcatPlaceholder(["--a=", a, ",", b]),
            dsl.IfPresentPlaceholder(input_name="opt", then=["--opt", opt], else_=["--without"]),
            b,
        ],
    )


@dsl.container_component
def shell_copy(source: Input[Dataset], made: Output[Dataset], flags: OutputPath(dict)):
    return dsl.ContainerSpec(
        image="alpine",
        command=["sh", "-c", 'cat "$0" > "$1"; printf more >> "$1"; echo \'{"a": 1, "b": [true]}\' > "$2"'],
        args=[source.path, made.path, flags],
    )


@dsl.pipeline(name="branches")
def branches(side: str = "heads", n: int = 3) -> str:
    f = flip(side=side, n=n)
    with dsl.If(f.outputs["side"] == "heads"):
        a = text(s="first")
    with dsl.Elif(f.outputs["share"] < 0.5):
        b = text(s="second")
    with dsl.Else():
        c = text(s="third")
    one = dsl.OneOf(a.output, b.output, c.output)
    text(s=one).set_display_name("after")
    return one


@dsl.pipeline(name="nested-conditions")
def nested_conditions(n: int = 3, s: str = "b", x: float = 0.5, b: bool = True):
    i, t, r, f = num(n=n), text(s=s), real(x=x), flag(b=b)
    with dsl.If(i.output >= 3, name="outer"):
        text(s="outer")
        with dsl.If(t.output < "c"):
            text(s="inner")
            with dsl.If(r.output > 1.0):
                text(s="innermost")
    with dsl.If(f.output == True):
        text(s="flag")
    with dsl.If(i.output != n):
        text(s="unequal")


@dsl.pipeline(name="embedded")
def embedded(n: int = 3, who: str = "you") -> str:
    i = num(n=n)
    return text(s=f"{who} have {i.output} of {n}").output


@dsl.pipeline(name="static-loops")
def static_loops() -> NamedTuple("Outputs", [("words", str), ("numbers", int), ("pairs", str)]):
    with dsl.ParallelFor(["a", "b", "c"]) as w:
        words = text(s=w)
    with dsl.ParallelFor([1, 2, 3], parallelism=1) as n:
        numbers = num(n=n)
    with dsl.ParallelFor([{"title": "x", "word": "p"}, {"title": "y", "word": "q"}]) as pair:
        names = text(s=pair.title)
        text(s=pair.word)
    with dsl.ParallelFor([{"a": 1, "b": 10}, {"a": 2, "b": 20}]) as pair:
        num(n=pair.b)
    shown = show(xs=dsl.Collected(words.output))
    added = total(xs=dsl.Collected(numbers.output))
    paired = show(xs=dsl.Collected(names.output))
    outputs = NamedTuple("Outputs", [("words", str), ("numbers", int), ("pairs", str)])
    return outputs(words=shown.output, numbers=added.output, pairs=paired.output)


@dsl.pipeline(name="dynamic-loops")
def dynamic_loops(n: int = 3, given: list = [5, 6]) -> NamedTuple(
    "Outputs", [("made", int), ("given", int), ("sizes", int)]
):
    with dsl.ParallelFor(items(n=n).output) as i:
        made = num(n=i)
    with dsl.ParallelFor(given) as i:
        took = num(n=i)
    with dsl.ParallelFor(rows(n=n).output) as row:
        sized = num(n=row.size)
        text(s=row.title)
    outputs = NamedTuple("Outputs", [("made", int), ("given", int), ("sizes", int)])
    return outputs(
        made=total(xs=dsl.Collected(made.output)).output,
        given=total(xs=dsl.Collected(took.output)).output,
        sizes=total(xs=dsl.Collected(sized.output)).output,
    )


@dsl.pipeline(name="nested-loops")
def nested_loops() -> NamedTuple("Outputs", [("lists", str), ("sizes", str)]):
    with dsl.ParallelFor([1, 2]) as i:
        with dsl.ParallelFor([10, 20, 30]) as j:
            made = make(n=j)
            num(n=i)
    outputs = NamedTuple("Outputs", [("lists", str), ("sizes", str)])
    return outputs(
        lists=show(xs=dsl.Collected(made.outputs["Output"])).output,
        sizes=sizes_of(data=dsl.Collected(made.outputs["data"])).output,
    )


@dsl.pipeline(name="loop-in-condition")
def loop_in_condition(n: int = 2) -> None:
    with dsl.ParallelFor(items(n=n).output) as i:
        made = num(n=i)
        with dsl.If(made.output > 0):
            text(s=f"item {made.output}")


@dsl.pipeline(name="making")
def making() -> List[Dataset]:
    with dsl.ParallelFor([1, 2, 3]) as n:
        made = make(n=n)
    return dsl.Collected(made.outputs["data"])


@dsl.pipeline(name="artifact-loop")
def artifact_loop() -> List[Dataset]:
    made = making()
    with dsl.ParallelFor(made.output) as data:
        size_of(data=data)
    return made.output


@dsl.pipeline(name="exits")
def exits(message: str = "boom", broken: bool = True):
    last = status_of(note="end")
    with dsl.ExitHandler(last):
        with dsl.If(broken == True):
            fail(message=message)
        num(n=1)


@dsl.pipeline(name="ignoring")
def ignoring():
    f = fail(message="boom")
    default = text_or(s=f.output).ignore_upstream_failure()
    text(s=default.output)


@dsl.pipeline(name="retrying")
def retrying(marker: str, times: int = 2) -> int:
    return flaky(marker=marker, times=times).set_retry(num_retries=3, backoff_duration="0s", backoff_factor=1).output


@dsl.pipeline(name="importing")
def importing(uri: str, label: str = "mine") -> str:
    imported = dsl.importer(artifact_uri=uri, artifact_class=Dataset, reimport=False, metadata={"rows": label})
    return size_of(data=imported.output).output


@dsl.pipeline(name="inner")
def inner(n: int, word: str = "default") -> NamedTuple("Outputs", [("n", int), ("data", Dataset)]):
    made = make(n=n)
    text(s=word)
    outputs = NamedTuple("Outputs", [("n", int), ("data", Dataset)])
    return outputs(n=made.outputs["Output"], data=made.outputs["data"])


@dsl.pipeline(name="nested")
def nested(n: int = 4) -> NamedTuple("Outputs", [("n", int), ("size", str), ("data", Dataset)]):
    first = inner(n=n)
    second = inner(n=first.outputs["n"], word="given")
    outputs = NamedTuple("Outputs", [("n", int), ("size", str), ("data", Dataset)])
    return outputs(n=second.outputs["n"], size=size_of(data=second.outputs["data"]).output, data=second.outputs["data"])


@dsl.pipeline(name="artifacts")
def artifacts(n: int = 7) -> str:
    made = make(n=n)
    trained = train(data=made.outputs["data"])
    return evaluate(
        model=trained.outputs["model"], metrics=trained.outputs["metrics"], roc=trained.outputs["roc"]
    ).output


@dsl.pipeline(name="values")
def values(d: dict = {"a": [1, 2.5], "b": {"c": True}}) -> NamedTuple(
    "Outputs", [("one", str), ("two", str), ("three", str)]
):
    one = describe(d=d)
    two = describe(d=settings(depth=3).output, xs=[3, 4.5], extra="e", k=5)
    three = optional_data()
    outputs = NamedTuple("Outputs", [("one", str), ("two", str), ("three", str)])
    return outputs(one=one.output, two=two.output, three=three.output)


@dsl.pipeline(name="containers")
def containers(a: str = "it's", opt: Optional[str] = None) -> NamedTuple("Outputs", [("out", str), ("size", int)]):
    made = shell(a=a, b=2, opt=opt)
    data = make(n=3)
    copied = shell_copy(source=data.outputs["data"])
    size_of(data=copied.outputs["made"])
    describe(d=copied.outputs["flags"])
    outputs = NamedTuple("Outputs", [("out", str), ("size", int)])
    return outputs(out=made.outputs["out"], size=made.outputs["size"])


@dsl.pipeline(name="one-of-artifacts")
def one_of_artifacts(n: int = 1) -> str:
    i = num(n=n)
    with dsl.If(i.output == 1):
        a = make_other(kind="first")
    with dsl.Else():
        b = make_other(kind="second")
    return content(data=dsl.OneOf(a.outputs["data"], b.outputs["data"])).output


@dsl.pipeline(name="returning")
def returning() -> str:
    return size_of(data=returned(n=5).output).output


@dsl.pipeline(name="caching")
def caching(n: int = 5) -> str:
    made = make(n=n)
    return size_of(data=made.outputs["data"]).set_caching_options(False).output


@dsl.pipeline(name="ordered")
def ordered():
    a = num(n=1)
    b = num(n=2).after(a)
    num(n=3).after(a, b)


@dsl.pipeline(name="optional-in-groups")
def optional_in_groups(n: int = 1, word: Optional[str] = None):
    with dsl.If(n == 1):
        text_or(s=word)
    with dsl.ParallelFor([1, 2]) as i:
        text_or(s=word)
        shell(a="x", b=i, opt=word)
