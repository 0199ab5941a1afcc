"""Values as their declared types have them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from trilho.pipeline.ir.values import ValueMismatch, coerced


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 1.5, True, "3", None])
def test_what_is_no_whole_number_is_told(value: Any) -> None:
    with pytest.raises(ValueMismatch, match="is not a whole number"):
        coerced(value, "NUMBER_INTEGER")


def test_a_whole_number_may_be_of_any_size() -> None:
    assert coerced(10**400, "NUMBER_INTEGER") == 10**400
    assert coerced(1e15, "NUMBER_INTEGER") == 10**15
