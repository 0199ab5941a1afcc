"""The expressions that pipelines hold: what they come to, and what they refuse to guess."""

from __future__ import annotations

import random
from typing import Any

import pytest

from trilho.pipeline.ir.expression import ExpressionError, Untyped, parse, text_of

GIVEN: dict[str, Any] = {
    "n": 3, "x": 0.5, "s": "heads", "t": "it's", "yes": True, "none": None, "list": [1, "b", {"k": 2}], "map": {"a": 1},
}  # fmt: skip
VARIABLES: dict[str, Any] = {
    "inputs": {
        "parameter_values": GIVEN,
        "parameters": {"n": {"int_value": 3}, "s": {"string_value": "heads"}},
        "artifacts": {"m": {"artifacts": [{"uri": "/m", "metadata": {"auc": 0.7}}]}},
    },
    "string_value": '{"a": 1, "b": ["x", 2.5], "c": {"d": null}}',
}


def value(text: str) -> Any:
    short = text
    for name in sorted(GIVEN, key=len, reverse=True):
        short = short.replace(f"${name}", f"inputs.parameter_values['{name}']")
    return parse(short).value(VARIABLES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int($n) == 3", True),
        ("$n > 2.5", True),
        ("$n >= 3 && $n <= 3", True),
        ("$x < 0.7", True),
        ("$s == 'heads'", True),
        ('$s != "tails"', True),
        ("$s >= 'apple'", True),
        ("$t == 'it\\'s'", True),
        ("$yes == true", True),
        ("!($yes == true) || $s == 'heads'", True),
        ("!(int($n) == 3) && $x < 0.7", False),
        ("!$yes", False),
        ("$yes ? 'a' : 'b'", "a"),
        ("-2 < -1", True),
        ("1 + 2 * 3 == 7", True),
        ("(1 + 2) * 3", 9),
        ("7 / 2", 3),
        ("7.0 / 2", 3.5),
        ("$n % 2", 1.0),
        ("-7 % 3", -1),
        ("'a' + 'b'", "ab"),
        ("int('12') + 1", 13),
        ("int(3.9)", 3),
        ("double('1.5')", 1.5),
        ("string($n)", "3"),
        ("string($yes)", "true"),
        ("bool('false')", False),
        ("size($list)", 3),
        ("$list[2]['k']", 2.0),
        ("$s in ['heads', 'tails']", True),
        ("'a' in $map", True),
        ("$s.startsWith('he') && $s.endsWith('ds') && $s.contains('ad') && $s.matches('^h.*s$')", True),
        ("$none == null", True),
        ("$s == null", False),
        ("has(inputs.parameter_values.n)", True),
        ("has(inputs.parameter_values.m)", False),
        ("false && $missing == 1", False),
        ("true || $missing == 1", True),
        ("inputs.parameters['n'].int_value == 3", True),
        ("inputs.parameters['s'].string_value == 'heads'", True),
        ("inputs.artifacts['m'].artifacts[0].metadata['auc'] * 100.0 > 60", True),
        ("parseJson(string_value)['a']", 1.0),
        ('parseJson(string_value)["b"][1]', 2.5),
        ("parseJson(string_value)['c']['d']", None),
        ("[1, 2][1]", 2),
        ("{'a': 1}['a']", 1),
        ("0x10 == 16", True),
        ("1e3 == 1000.0", True),
        ("r'a\\n' == 'a\\\\n'", True),
        ("'\\u00e9' == 'é'", True),
    ],
)  # fmt: skip
def test_what_expressions_come_to(text: str, expected: Any) -> None:
    found = value(text.replace("$missing", "inputs.parameter_values['missing']"))
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("inputs.parameter_values['m'] == 1", "there is no 'm'; there are: 'list', 'map', 'n'"),
        ("other.x", "there is no other; there are: inputs, string_value"),
        ("$s == 3", 'the text "heads" cannot be compared with the number 3'),
        ("$yes == 1", "the truth value true cannot be compared with the number 1"),
        ("$yes < false", ""),
        ("$list < $list", "cannot be compared"),
        ("$s > $n", "cannot be compared"),
        ("$s && true", "&& wants true or false, not the text"),
        ("true && $s", "&& wants true or false, not the text"),
        ("!$n", "! wants true or false, not the number 3.0"),
        ("int($s)", 'int(the text "heads") has no value'),
        ("int($yes)", "has no value"),
        ("$s + 1", 'the text "heads" + the number 1'),
        ("1 / 0", "the number 1 / 0"),
        ("$list[3]", "there is no item 3 in a list of 3"),
        ("$list['a']", "has no 'a'"),
        ("parseJson('{')", "has no value"),
        ("size(1)", "has no value"),
        ("size($s, 1)", "size takes 1 argument, not 2"),
        ("$s.startsWith(1)", "has no value"),
        ("-$s", "- of the text"),
    ],
)
def test_what_cannot_be_resolved_is_an_error(text: str, why: str) -> None:
    if text == "$yes < false":
        assert value(text) is False
        return
    with pytest.raises(ExpressionError) as caught:
        value(text)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it ends too early"),
        ("1 +", "it ends too early"),
        ("(1", "it ends too early"),
        ("1 2", "it cannot be read from '2' on"),
        ("a b", "it cannot be read from 'b' on"),
        ("'it's'", "it cannot be read from"),
        ("a = 1", "it cannot be read from '= 1' on"),
        ("lower('a')", "lower is no function that is known here; known are bool, double, has, int"),
        ("'a'.upper()", "upper is no function that is known here"),
        ("__import__('os')", "__import__ is no function that is known here"),
        ("a; b", "it cannot be read from '; b' on"),
    ],
)
def test_what_is_no_expression_says_where(text: str, why: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert why in str(caught.value)


def test_conditions_agree_with_python_on_random_ones() -> None:
    draw = random.Random(7)

    def grow(depth: int) -> tuple[str, str]:
        if depth == 0 or draw.random() < 0.2:
            sign = draw.choice(["==", "!=", "<", "<=", ">", ">="])
            text = f"{draw.randint(-3, 3)} {sign} {draw.randint(-3, 3)}"
            return text, f"({text})"
        kind = draw.randrange(3)
        left, right = grow(depth - 1), grow(depth - 1)
        if kind == 0:
            return f"!({left[0]})", f"(not {left[1]})"
        sign, word = draw.choice([("&&", "and"), ("||", "or")])
        return f"({left[0]}) {sign} ({right[0]})", f"({left[1]} {word} {right[1]})"

    for _ in range(300):
        ours, theirs = grow(4)
        assert parse(ours).holds({}) is eval(theirs), ours


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ("x == 'true'", True, True),
        ("x == '9'", 9, True),
        ("x == '9'", 10, False),
        ("x < '9'", 10, False),
        ("x > '9'", 10, True),
        ("x < 'b'", "a", True),
        ("x == 'a'", 1, False),
        ("int(x) > 2", 3, True),
    ],
)
def test_an_item_of_unknown_type_is_compared_as_what_it_is_compared_with(text: str, value: object, holds: bool) -> None:
    assert parse(text).holds({"x": Untyped(text_of(value))}) is holds
