"""What a refusal says: the row, the field, what was received, and what is allowed with its limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.runtime.planes import FakePredictor, loaded

from trilho_runtime.prediction.job import Job
from trilho_runtime.prediction.mask import Mask
from trilho_runtime.schema.allowed import wanted
from trilho_runtime.schema.casting import Given, cast_columns
from trilho_runtime.schema.reading import Reader
from trilho_runtime.schema.signature import Field, RowError, Signature
from trilho_runtime.serving.work import Work
from trilho_runtime.web.http import HttpError
from trilho_runtime.web.measures import Tally

FIELDS = {
    "small": Field("small", "integer", False, "int8", minimum=0, maximum=97),
    "whole": Field("whole", "integer", True),
    "x": Field("x", "number", False, minimum=-0.5, maximum=2.25),
    "half": Field("half", "number", True, "float16"),
    "color": Field("color", "string", False, categories=("blue", "red")),
    "flag": Field("flag", "boolean", False),
    "at": Field("at", "timestamp", False, minimum="2024-01-01T00:00:00", maximum="2024-02-01T00:00:00"),
}
INT64 = "-9223372036854775808 to 9223372036854775807"
REFUSALS: list[tuple[str, Any, str]] = [
    ("small", 300, "small is 300, an integer; wanted an integer, -128 to 127 (at training 0 to 97)"),
    ("small", 1.5, "small is 1.5, a number; wanted an integer, -128 to 127 (at training 0 to 97)"),
    ("small", None, "small is null; wanted an integer, -128 to 127 (at training 0 to 97, never null)"),
    ("whole", 2**60, f"whole is {2**60}, an integer; wanted an integer, -{2**53} to {2**53} or null"),
    ("x", "2", 'x is "2", a string; wanted a number (at training -0.5 to 2.25)'),
    ("x", None, "x is null; wanted a number (at training -0.5 to 2.25, never null)"),
    ("x", 10**400, f"x is 1{'0' * 56}..., an integer; wanted a number, -1.79769e+308 to 1.79769e+308 (at training"),
    ("half", 1e6, "half is 1000000.0, a number; wanted a number, -65504 to 65504 or null"),
    ("color", 7, 'color is 7, an integer; wanted a string (at training "blue", "red")'),
    ("color", ["a"] * 99, "color is ['a', 'a', 'a'"),
    ("flag", 1, "flag is 1, an integer; wanted true or false"),
    ("at", "soon", "(at training 2024-01-01T00:00:00 to 2024-02-01T00:00:00)"),
]
GOOD = {"small": 1, "x": 1.0, "color": "red", "flag": True, "at": "2024-01-05"}


@pytest.mark.parametrize(("field", "value", "says"), REFUSALS)
def test_a_refusal_names_row_field_value_and_what_is_allowed(field: str, value: Any, says: str) -> None:
    reader = Reader(Signature(tuple(FIELDS.values())))
    with pytest.raises(RowError) as raised:
        reader.columns([GOOD, {**GOOD, field: value}])
    assert str(raised.value).startswith(f"row 1: {field} is ")
    assert says in str(raised.value)
    assert (raised.value.field, raised.value.row) == (field, 1)
    assert len(str(raised.value)) < 250


def test_a_table_is_refused_in_the_same_words() -> None:
    column = Given.of(np.array([1, 300]))
    with pytest.raises(RowError) as raised:
        cast_columns(Signature((FIELDS["small"],)), {"small": column}, 2)
    assert str(raised.value) == f"row 1: {REFUSALS[0][2]}"
    with pytest.raises(RowError, match=r"row 0: small is missing; wanted an integer, -128 to 127 \(.*never null\)"):
        cast_columns(Signature((FIELDS["small"],)), {}, 2)


def test_many_and_long_categories_are_cut() -> None:
    field = Field("c", "string", True, categories=tuple(f"{n}{'x' * 90}" for n in range(30)))
    said = wanted(field, 1)
    assert said.startswith('a string or null (at training "0xxx')
    assert said.endswith('..." and 22 more)')
    assert len(said) < 400


def test_a_field_that_is_told_to_be_nullable_takes_null() -> None:
    signature = Signature(tuple(FIELDS.values())).allowing({"small", "color"})
    found = signature.columns([{**GOOD, "small": None, "color": None}, GOOD])
    assert np.isnan(found["small"][0])
    assert found["small"][1] == 1
    assert found["color"].tolist() == [None, "red"]
    assert signature.to_json()[0]["nullable"] is True
    with pytest.raises(RowError, match="x is null"):
        signature.columns([{**GOOD, "x": None}])


def test_what_a_masked_field_held_at_training_is_told_nobody() -> None:
    signature = Signature((FIELDS["x"], Field("c", "string", True, categories=("123.456.789-00",)), FIELDS["at"]))
    work = Work(loaded(FakePredictor(signature=signature)), 1, Tally(), mask=Mask({"c": "drop", "x": "drop"}))
    (refused,) = work.do([Job("a", [{"x": 1.0, "c": 7, "at": "2024-01-05"}])])
    assert isinstance(refused, HttpError)
    assert refused.answer.payload["error"] == "row 0: c is 7, an integer; wanted a string or null"
