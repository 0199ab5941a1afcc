"""The pure parts of slicing: edits in a notebook's text, names for what is learnt, what calls do to rows."""

from __future__ import annotations

import ast

import pytest

from trilho.adopt.slice import calls
from trilho.adopt.slice.constants import free_names
from trilho.adopt.slice.naming import StateNames
from trilho.adopt.slice.text import Code, Edit, comments_above, end_comment, finished, renamed, span_of


def expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def test_edits_leave_all_else_as_it_was_written() -> None:
    code = Code("y = ( df.ação.mean()  # média\n      + 1 )")
    node = ast.parse("\n".join(line.decode() for line in code.lines)).body[0]
    assert isinstance(node, ast.Assign)
    assert isinstance(node.value, ast.BinOp)
    assert code.edited(span_of(node), [Edit(span_of(node.value.left), "MÉDIA")]) == "y = ( MÉDIA  # média\n      + 1 )"


def test_of_edits_in_one_another_the_outer_counts_and_an_insertion_stays() -> None:
    code = Code("df[c] = le.fit_transform(df[c])")
    edits = [Edit((1, 8, 1, 31), "le.transform(df[c])"), Edit((1, 25, 1, 27), "x"), Edit((1, 0, 1, 0), "le = 1\n")]
    assert code.edited((1, 0, 1, 31), edits) == "le = 1\ndf[c] = le.transform(df[c])"


def test_names_of_an_inner_scope_are_not_renamed() -> None:
    text = "r = [x for x in rows] + list(map(lambda x: x + y, x))"
    found = Code(text).edited((1, 0, 1, len(text)), renamed(ast.parse(text), {"x": "state.x", "rows": "df"}))
    assert found == "r = [x for x in df] + list(map(lambda x: x + y, state.x))"


def test_comments_stay_with_their_statement() -> None:
    source = "# why\n# really\nx = '  # no'  # yes"
    assert comments_above(source) == "# why\n# really\n"
    assert end_comment(source, ast.parse(source).body[0]) == "  # yes"
    assert end_comment("x = '  # no'", ast.parse("x = 1").body[0]) == ""


def test_lines_of_what_was_left_out_go() -> None:
    assert finished("for c in d:\n    \0  # a note\n    e[c] = 1") == "for c in d:\n    e[c] = 1"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("df['age'].median()", "age_median"),
        ("df.Fare.mean()", "Fare_mean"),
        ("raw.groupby('dest').late.mean()", "dest_late_mean"),
        ("df['preço médio'].max()", "preço_médio_max"),
    ],
)
def test_what_is_learnt_is_named_after_its_columns(text: str, name: str) -> None:
    assert StateNames().of(expression(text)) == name


def test_names_are_given_once_and_tell_a_loops_items_apart() -> None:
    names = StateNames()
    assert names.label("age_median", [], "df.age.median()") == '"age_median"'
    assert names.label("age_median", [], "df.age.median()") == '"age_median_2"'
    assert names.label("c_median", ["c"], "df[c].median()") == 'f"{c}_median"'
    assert names.label("le", ["c"], "le.fit(df[c])", own="le") == 'f"le_{c}"'


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("df.groupby('k')['v'].transform('mean')", "mean"),
        ("df.groupby(['k', 'j']).v.transform(np.median)", "median"),
        ("df.groupby('k')['v'].transform('cumsum')", None),
        ("df.groupby('k')['v'].transform(lambda x: x.rank())", None),
    ],
)  # fmt: skip
def test_groups_statistics_are_read(text: str, read: str | None) -> None:
    node = expression(text)
    assert isinstance(node, ast.Call)
    found = calls.grouped(node)
    assert (found[3] if found else None) == read


def test_a_function_of_a_groups_values_and_statistics_is_row_by_row() -> None:
    node = expression("df.groupby('k')['v'].transform(lambda x: x.fillna(x.median()))")
    assert isinstance(node, ast.Call)
    found = calls.grouped(node)
    assert found is not None
    assert isinstance(found[3], ast.Lambda)


@pytest.mark.parametrize(
    ("text", "drops"),
    [
        ("df.dropna()", True),
        ("df.dropna(axis=1)", False),
        ("df.drop(columns='a')", False),
        ("df.drop('a', axis=1)", False),
        ("df.drop(df.index[:3])", True),
        ("df.sort_values('t')", True),
        ("df.fillna(0)", False),
        ("df.sample(frac=1)", True),
    ],
)
def test_which_calls_drop_or_move_rows(text: str, drops: bool) -> None:
    node = expression(text)
    assert isinstance(node, ast.Call)
    assert calls.is_filter_call(node, lambda _: None) is drops


def test_a_chain_is_cut_at_its_last_filter() -> None:
    node = expression("df[df.a > 0].reset_index(drop=True)")

    def is_filter(part: ast.expr) -> bool:
        return isinstance(part, ast.Subscript)

    assert ast.unparse(calls.unfiltered(node, is_filter)) == "df"
    assert calls.outermost_filter(node, is_filter) is node


def test_free_names_are_what_a_function_needs_from_outside() -> None:
    assert free_names("def f(x):\n    y = x + K\n    return [g(v, y) for v in x]") == {"K", "g"}
