"""The rules of what is within what: circles, conditions, alternatives, loops and the end."""

from __future__ import annotations

from pathlib import Path

from tests.pipeline.rules.nightly import begin, errors

from trilho_runtime.pipeline import Collected, FirstOf, Item, Param, Pipeline, Status, Value


def test_a_circle_is_told_by_its_names(source: Path) -> None:
    def write(p: Pipeline) -> None:
        p.task("a", "shop.steps:say", text=Value("c.output"))
        p.task("b", "shop.steps:say", text=Value("a.output"))
        p.task("c", "shop.steps:say", text="x", after=["b"])

    (found,) = errors(source, write)
    assert found.rule == "circle"
    assert found.message == "these wait for each other: a -> c -> b -> a"


def test_a_circle_through_a_block_is_one(source: Path) -> None:
    def write(p: Pipeline) -> None:
        with p.each("r", over=["a"]):
            p.task("inner", "shop.steps:say", text="x")
            p.task("last", "shop.steps:load", rows=1, after=["outer"])
        p.task("outer", "shop.steps:fit", train="split.train", names=Collected("inner.output"))
        p.task("load", "shop.steps:load")
        p.task("split", "shop.steps:split", table="load.table")

    assert [f.message for f in errors(source, write)] == ['these wait for each other: outer -> each("r") -> outer']


def test_what_is_read_out_of_blocks(source: Path) -> None:
    def write(p: Pipeline) -> None:
        begin(p)
        with p.when(Value("load.rows") > 3, name="many"):
            p.task("deploy", "shop.steps:deploy", model="fit.model")
        with p.each("region", over=["a", "b"]):
            p.task("fit_one", "shop.steps:fit", train="split.train", names=Item("region"))
            p.task("inside", "shop.steps:best", models=Collected("fit_one.model"))
        p.task("use", "shop.steps:say", text=Value("deploy.output"))
        p.task("use_one", "shop.steps:deploy", model="fit_one.model")
        p.task("waits", "shop.steps:plan", after=["deploy"])
        p.task("item", "shop.steps:say", text=Item("region"))

    assert [(f.rule, f.message, f.hint) for f in errors(source, write)] == [
        ("type mismatch", "task fit_one: names wants list, and Item('region') is str", ""),
        (
            "outside its loop",
            "task inside: models is Collected('fit_one.model'), which is read within each(\"region\") itself",
            'Value("fit_one.model") is what one task found',
        ),
        (
            "outside its condition",
            "task use: text is 'deploy.output', which is only there if when(name=\"many\") holds",
            'FirstOf("deploy.output", ...) with its otherwise()',
        ),
        (
            "outside its loop",
            "task use_one: model is 'fit_one.model', which there is once for each item of each(\"region\")",
            'Collected("fit_one.model") is the list of them',
        ),
        (
            "outside its block",
            'task waits runs after deploy, which is within when(name="many")',
            "put both into the block, or wait for none",
        ),
        (
            "outside its loop",
            "task item: text is Item('region'), outside of each(\"region\")",
            "an item is only there within its loop",
        ),
    ]


def test_chains(source: Path) -> None:
    def write(p: Pipeline) -> None:
        p.task("load", "shop.steps:load")
        with p.otherwise():
            p.task("a", "shop.steps:plan")
        with p.when(Value("load.rows") > 1):
            p.task("b", "shop.steps:plan")
        p.task("between", "shop.steps:plan")
        with p.otherwise(name="rest"):
            p.task("c", "shop.steps:plan")
        with p.when(Value("load.rows") > 1, name="more"):
            p.task("d", "shop.steps:say", text="x")
        with p.otherwise(Value("load.rows") > 0):
            p.task("e", "shop.steps:say", text="x")
        p.task("f", "shop.steps:say", text=FirstOf("d.output", "e.output"))
        with p.when(Value("load.rows") > 9, name="empty"):
            pass

    assert [(f.rule, f.message) for f in errors(source, write)] == [
        (
            "otherwise without when",
            "an otherwise() does not follow a when(), or an otherwise() with a condition, of its own block",
        ),
        (
            "otherwise without when",
            'otherwise(name="rest") does not follow a when(), or an otherwise() with a condition, of its own block',
        ),
        (
            "no alternatives",
            "task f: text is FirstOf('d.output', 'e.output'): no otherwise() without a condition is there, so that "
            "none of them may be",
        ),
        ("empty block", 'when(name="empty") has no task in it'),
    ]


def test_alternatives_leave_out_no_branch_and_are_of_one_type(source: Path) -> None:
    def write(p: Pipeline) -> None:
        begin(p)
        with p.when(Value("load.rows") > 1, name="more"):
            p.task("d", "shop.steps:say", text="x")
        with p.otherwise(Value("load.rows") > 0, name="some"):
            p.task("e", "shop.steps:say", text="x")
        with p.otherwise():
            p.task("g", "shop.steps:plan")
        p.task("f", "shop.steps:say", text=FirstOf("d.output", "g.output"))
        p.task("h", "shop.steps:say", text=FirstOf("d.output", "e.output", "g.output"))

    assert [f.message for f in errors(source, write)] == [
        "task f: text is FirstOf('d.output', 'g.output'): nothing of otherwise(name=\"some\") is among them",
        "task h: text is FirstOf('d.output', 'e.output', 'g.output'): they are of different types: list, str",
    ]


def test_conditions(source: Path) -> None:
    def write(p: Pipeline) -> None:
        p.task("load", "shop.steps:load")
        p.task("plan", "shop.steps:plan")
        for number, asked in enumerate(
            (
                Value("load.rows") > "3",
                Value("plan.output") == "x",
                Value("load.table") == "x",
                Param("on") > True,
                Value("load.rows") == None,  # noqa: E711
                (Value("load.rows") > 1) | ~(Value("load.until") == 3),
                Param("on"),
            )
        ):
            with p.when(asked, name=f"c{number}"):
                p.task(f"t{number}", "shop.steps:plan")

    assert [f.message for f in errors(source, write, on=True)] == [
        "the condition of when(name=\"c0\"): Value('load.rows') > '3' compares int with str",
        "the condition of when(name=\"c1\"): Value('plan.output') == 'x' compares list; texts, numbers, true and false "
        "can be compared",
        "the condition of when(name=\"c2\"): Value('load.table') == 'x' compares an artifact of the kind table; texts, "
        "numbers, true and false can be compared",
        "the condition of when(name=\"c3\"): Param('on') > True compares bool; == and != can",
        "the condition of when(name=\"c4\"): Value('load.rows') == None compares None; texts, numbers, true and false "
        "can be compared",
        "the condition of when(name=\"c5\"): Value('load.until') == 3 compares str with int",
    ]


def test_loops_go_over_lists(source: Path) -> None:
    def write(p: Pipeline) -> None:
        p.task("load", "shop.steps:load")
        for number, over in enumerate((Value("load.rows"), [], "abc", Value("load.table"))):
            with p.each(f"r{number}", over=over, at_once=0 if number == 1 else None):
                p.task(f"t{number}", "shop.steps:plan")

    assert [f.message for f in errors(source, write)] == [
        "each(\"r0\") goes over Value('load.rows'), which is int; a list is wanted",
        'each("r1") goes over an empty list',
        "each(\"r2\") goes over 'abc', which is str; a list is wanted",
        "each(\"r3\") goes over Value('load.table'), which is an artifact of the kind table; a list is wanted",
        'each("r1"): at_once is 0; at least 1 is wanted',
    ]


def test_the_end(source: Path) -> None:
    def write(p: Pipeline) -> None:
        p.task("load", "shop.steps:load")
        p.on_exit("tell", "shop.steps:tell", status=Status(), text=Value("load.until"))
        p.on_exit("again", "shop.steps:say", text="x")
        p.task("reads", "shop.steps:say", text=Value("again.output"))

    assert [(f.rule, f.message) for f in errors(source, write)] == [
        ("exit task", "task tell: text is 'load.until', which is not there if that task failed"),
        ("exit task", "task again is a second on_exit(); a pipeline has one, and tell is it"),
        ("exit task", "task reads: text is 'again.output', of a task that runs when all others have ended"),
    ]
