# mypy: ignore-errors
# ruff: noqa: B006, E712, SIM117, UP006, UP035
"""Twins with conditions and loops, see `twins`."""

from typing import List

from kfp import dsl
from tests.pipeline.official import at, twin

from trilho_runtime.pipeline import Collected, FirstOf, Item, Param, Pipeline, Value


@twin
def one_condition_of_each_type(official):
    @dsl.pipeline(name="conditions")
    def theirs(limit: float = 0.5, least: int = 3):
        loaded = official("load")
        with dsl.If(loaded.outputs["rows"] > 5):
            official("say", text="a")
        with dsl.If(loaded.outputs["share"] >= limit, name="enough"):
            official("say", text="b")
        with dsl.If(loaded.outputs["side"] == "heads"):
            official("say", text=loaded.outputs["side"])
        with dsl.If(loaded.outputs["ok"] == True):
            official("say", text="d")
        with dsl.If(loaded.outputs["rows"] != least):
            official("say", text="e")
        with dsl.If(loaded.outputs["rows"] < 2.5):
            official("say", text="f")
        with dsl.If(loaded.outputs["share"] <= 1):
            official("say", text="g")
        with dsl.If(loaded.outputs["rows"] > limit):
            official("say", text="h")

    ours = Pipeline("conditions", parameters={"limit": 0.5, "least": 3})
    ours.task("load", at("load"))
    conditions = [
        (Value("load.rows") > 5, "a", None),
        (Value("load.share") >= Param("limit"), "b", "enough"),
        (Value("load.side") == "heads", Value("load.side"), None),
        (Value("load.ok") == True, "d", None),
        (Value("load.rows") != Param("least"), "e", None),
        (Value("load.rows") < 2.5, "f", None),
        (Value("load.share") <= 1, "g", None),
        (Value("load.rows") > Param("limit"), "h", None),
    ]
    for number, (condition, text, name) in enumerate(conditions, 1):
        with ours.when(condition, name=name):
            ours.task("say" if number == 1 else f"say-{number}", at("say"), text=text)
    return ours, theirs


@twin
def if_elif_else(official):
    @dsl.pipeline(name="branches")
    def theirs(side: str = "x"):
        loaded = official("load")
        with dsl.If(loaded.outputs["side"] == "a", name="first"):
            official("say", text="a")
        with dsl.Elif(loaded.outputs["side"] == "b"):
            official("say", text="b")
        with dsl.Elif(loaded.outputs["rows"] == 3):
            official("say", text=side)
        with dsl.Else(name="last"):
            official("say", text="d")
        with dsl.If(loaded.outputs["ok"] == False):
            official("say", text="e")

    ours = Pipeline("branches", parameters={"side": "x"})
    ours.task("load", at("load"))
    with ours.when(Value("load.side") == "a", name="first"):
        ours.task("say", at("say"), text="a")
    with ours.otherwise(Value("load.side") == "b"):
        ours.task("say-2", at("say"), text="b")
    with ours.otherwise(Value("load.rows") == 3):
        ours.task("say-3", at("say"), text=Param("side"))
    with ours.otherwise(name="last"):
        ours.task("say-4", at("say"), text="d")
    with ours.when(Value("load.ok") == False):
        ours.task("say-5", at("say"), text="e")
    return ours, theirs


@twin
def nested_conditions(official):
    @dsl.pipeline(name="nested")
    def theirs(side: str = "x", rows: int = 3):
        loaded = official("load")
        with dsl.If(loaded.outputs["rows"] > rows):
            looked = official("look", side=loaded.outputs["side"])
            with dsl.If(looked.outputs["output"] == side):
                official("need", rows=loaded.outputs["rows"], side=looked.outputs["output"])
                with dsl.If(loaded.outputs["ok"] == True):
                    official("say", text="in")
            with dsl.Else():
                official("say", text=side)
        with dsl.Else():
            official("say", text="out")

    ours = Pipeline("nested", parameters={"side": "x", "rows": 3})
    ours.task("load", at("load"))
    with ours.when(Value("load.rows") > Param("rows")):
        ours.task("look", at("look"), side=Value("load.side"))
        with ours.when(Value("look.output") == Param("side")):
            ours.task("need", at("need"), rows=Value("load.rows"), side=Value("look.output"))
            with ours.when(Value("load.ok") == True):
                ours.task("say", at("say"), text="in")
        with ours.otherwise():
            ours.task("say-2", at("say"), text=Param("side"))
    with ours.otherwise():
        ours.task("say-3", at("say"), text="out")
    return ours, theirs


@twin
def each_of_a_written_list(official):
    @dsl.pipeline(name="static")
    def theirs(side: str = "x"):
        with dsl.ParallelFor([1, 2, 3], parallelism=2) as item:
            needed = official("need", rows=item, side=side)
            official("look", rows=needed.output)

    ours = Pipeline("static", parameters={"side": "x"})
    with ours.each("size", over=[1, 2, 3], at_once=2):
        ours.task("need", at("need"), rows=Item("size"), side=Param("side"))
        ours.task("look", at("look"), rows=Value("need.output"))
    return ours, theirs


@twin
def each_of_a_found_list(official):
    @dsl.pipeline(name="dynamic")
    def theirs(names: List[str] = ["a"]):
        planned = official("plan")
        loaded = official("load")
        with dsl.ParallelFor(planned.outputs["regions"]) as region:
            official("fit", table=loaded.outputs["table"], side=region)
        with dsl.ParallelFor(names, parallelism=1) as name:
            official("say", text=name)

    ours = Pipeline("dynamic", parameters={"names": ["a"]})
    ours.task("plan", at("plan"))
    ours.task("load", at("load"))
    with ours.each("region", over=Value("plan.regions")):
        ours.task("fit", at("fit"), table="load.table", side=Item("region"))
    with ours.each("name", over=Param("names"), at_once=1):
        ours.task("say", at("say"), text=Item("name"))
    return ours, theirs


@twin
def each_of_structs(official):
    @dsl.pipeline(name="structs")
    def theirs():
        planned = official("plan")
        with dsl.ParallelFor(planned.outputs["options"]) as option:
            official("say", text=option.title)
            official("look", side=option.title, more=option)
            with dsl.If(option.kind == "deep"):
                official("say", text=option.kind)
        with dsl.ParallelFor([{"a": "x", "b": "y"}, {"a": "z", "b": "w"}]) as pair:
            official("say", text=pair.a)
            official("say", text=pair.b)

    ours = Pipeline("structs")
    ours.task("plan", at("plan"))
    with ours.each("option", over=Value("plan.options")):
        ours.task("say", at("say"), text=Item("option")["title"])
        ours.task("look", at("look"), side=Item("option")["title"], more=Item("option"))
        with ours.when(Item("option")["kind"] == "deep"):
            ours.task("say-2", at("say"), text=Item("option")["kind"])
    with ours.each("pair", over=[{"a": "x", "b": "y"}, {"a": "z", "b": "w"}]):
        ours.task("say-3", at("say"), text=Item("pair")["a"])
        ours.task("say-4", at("say"), text=Item("pair")["b"])
    return ours, theirs


@twin
def nested_loops(official):
    @dsl.pipeline(name="loops")
    def theirs(names: List[str] = ["a"]):
        planned = official("plan")
        loaded = official("load")
        with dsl.ParallelFor(planned.outputs["regions"]) as region:
            official("say", text=region)
            with dsl.ParallelFor(planned.outputs["sizes"]) as size:
                official("fit", table=loaded.outputs["table"], side=region, depth=size)
                with dsl.ParallelFor(names) as name:
                    official("need", rows=size, side=name)
        with dsl.ParallelFor(["x", "y"]) as letter:
            with dsl.ParallelFor([1, 2]) as number:
                official("need", rows=number, side=letter)

    ours = Pipeline("loops", parameters={"names": ["a"]})
    ours.task("plan", at("plan"))
    ours.task("load", at("load"))
    with ours.each("region", over=Value("plan.regions")):
        ours.task("say", at("say"), text=Item("region"))
        with ours.each("size", over=Value("plan.sizes")):
            ours.task("fit", at("fit"), table="load.table", side=Item("region"), depth=Item("size"))
            with ours.each("name", over=Param("names")):
                ours.task("need", at("need"), rows=Item("size"), side=Item("name"))
    with ours.each("letter", over=["x", "y"]), ours.each("number", over=[1, 2]):
        ours.task("need-2", at("need"), rows=Item("number"), side=Item("letter"))
    return ours, theirs


@twin
def collected(official):
    @dsl.pipeline(name="collected")
    def theirs() -> list:
        loaded = official("load")
        with dsl.ParallelFor([1, 2, 3]) as depth:
            fitted = official("fit", table=loaded.outputs["table"], depth=depth)
        official("best", models=dsl.Collected(fitted.outputs["model"]))
        official("total", numbers=dsl.Collected(fitted.outputs["output"]))
        return dsl.Collected(fitted.outputs["output"])

    ours = Pipeline("collected")
    ours.task("load", at("load"))
    with ours.each("depth", over=[1, 2, 3]):
        ours.task("fit", at("fit"), table="load.table", depth=Item("depth"))
    ours.task("best", at("best"), models=Collected("fit.model"))
    ours.task("total", at("total"), numbers=Collected("fit.output"))
    ours.output("Output", Collected("fit.output"))
    return ours, theirs


@twin
def collected_of_nested_loops(official):
    @dsl.pipeline(name="collected-nested")
    def theirs():
        loaded = official("load")
        with dsl.ParallelFor(["a", "b"]) as side:
            with dsl.ParallelFor([1, 2]) as depth:
                fitted = official("fit", table=loaded.outputs["table"], side=side, depth=depth)
            official("total", numbers=dsl.Collected(fitted.outputs["output"]))
        official("best", models=dsl.Collected(fitted.outputs["model"]))
        with dsl.If(loaded.outputs["rows"] > 1):
            official("total", numbers=dsl.Collected(fitted.outputs["output"]))

    ours = Pipeline("collected-nested")
    ours.task("load", at("load"))
    with ours.each("side", over=["a", "b"]):
        with ours.each("depth", over=[1, 2]):
            ours.task("fit", at("fit"), table="load.table", side=Item("side"), depth=Item("depth"))
        ours.task("total", at("total"), numbers=Collected("fit.output"))
    ours.task("best", at("best"), models=Collected("fit.model"))
    with ours.when(Value("load.rows") > 1):
        ours.task("total-2", at("total"), numbers=Collected("fit.output"))
    return ours, theirs


@twin
def first_of_branches(official):
    @dsl.pipeline(name="first")
    def theirs(side: str = "x") -> str:
        loaded = official("load")
        with dsl.If(loaded.outputs["rows"] > 3):
            said = official("say", text="a")
            fitted = official("fit", table=loaded.outputs["table"], side="a")
        with dsl.Elif(loaded.outputs["rows"] > 2):
            other = official("say", text="b")
            second = official("fit", table=loaded.outputs["table"], side="b")
        with dsl.Else():
            third = official("say", text=side)
            last = official("fit", table=loaded.outputs["table"], side="c")
        text = dsl.OneOf(said.output, other.output, third.output)
        official("look", side=text)
        official(
            "judge",
            model=dsl.OneOf(fitted.outputs["model"], second.outputs["model"], last.outputs["model"]),
            table=loaded.outputs["table"],
        )
        return text

    ours = Pipeline("first", parameters={"side": "x"})
    ours.task("load", at("load"))
    with ours.when(Value("load.rows") > 3):
        ours.task("say", at("say"), text="a")
        ours.task("fit", at("fit"), table="load.table", side="a")
    with ours.otherwise(Value("load.rows") > 2):
        ours.task("say-2", at("say"), text="b")
        ours.task("fit-2", at("fit"), table="load.table", side="b")
    with ours.otherwise():
        ours.task("say-3", at("say"), text=Param("side"))
        ours.task("fit-3", at("fit"), table="load.table", side="c")
    ours.task("look", at("look"), side=FirstOf("say.output", "say-2.output", "say-3.output"))
    ours.task("judge", at("judge"), model=FirstOf("fit.model", "fit-2.model", "fit-3.model"), table="load.table")
    ours.output("Output", FirstOf("say.output", "say-2.output", "say-3.output"))
    return ours, theirs
