"""What answers say of each row, whichever protocol they come by, and the bins that scores fall in."""

from __future__ import annotations

import json
import math

import pytest

from trilho_runtime.routing.scores import CUTS, Score, bin_of, difference, disagree, number_of, read_scores


def read(**payload: object) -> list[Score]:
    return read_scores(json.dumps(payload).encode())


def test_our_own_entries_are_read() -> None:
    assert read(predictions=[2.5, 3]) == [Score(2.5), Score(3.0)]
    assert read(predictions=[{"0": 0.25, "1": 0.75}])[0].label == "1"
    full = {"id": "a.0", "score": 0.7, "probabilities": {"no": 0.3, "yes": 0.7}, "decision": "call", "version": 2}
    [score] = read(predictions=[full])
    assert (score.label, score.decision, number_of(score)) == ("yes", "call", 0.7)
    assert read(predictions=[{"id": "a.0", "score": 12.5, "version": 2}]) == [Score(12.5)]
    assert read(predictions=["cat", True])[0] == Score(probabilities={"cat": 1.0})


def test_tensors_of_the_open_inference_protocol_are_read() -> None:
    flat = {"name": "p", "shape": [2], "datatype": "FP64", "data": [1.5, 2.5]}
    assert read(outputs=[flat]) == [Score(1.5), Score(2.5)]
    wide = {"name": "p", "shape": [2, 3], "datatype": "FP64", "data": [0.1, 0.2, 0.7, 0.5, 0.3, 0.2]}
    assert [score.label for score in read(outputs=[wide])] == ["2", "0"]
    nested = {**wide, "data": [[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]]}
    assert [score.label for score in read(outputs=[nested])] == ["2", "0"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"predictions": 1}', b'{"predictions": [[1]]}', b'{"error": "x"}']
)
def test_anything_else_is_not_compared(body: bytes) -> None:
    assert read_scores(body) == []


def test_bins_lie_between_edges_or_go_by_size() -> None:
    assert [bin_of(Score(x), [1.0, 2.0]) for x in (0.5, 1.0, 1.5, 9.0)] == ["0", "1", "1", "2"]
    sizes = [int(bin_of(Score(x))) for x in (-1e12, -5.0, -1e-9, 0.0, 1e-9, 0.1, 5.0, 1e12)]
    assert sizes == sorted(sizes)
    assert sizes[2] == sizes[3] == sizes[4]
    assert 0 < sizes[0] < sizes[-1] < CUTS
    assert bin_of(Score(math.nan)) == "="
    assert bin_of(Score(probabilities={"a": 0.2, "b": 0.3, "c": 0.5})) == "=c"


def test_differences_are_of_values_of_the_second_class_or_of_probability_moved() -> None:
    assert difference(Score(3.0), Score(5.0)) == -2.0
    two = [Score(probabilities={"0": 1 - p, "1": p}) for p in (0.25, 0.75)]
    assert difference(two[1], two[0]) == 0.5
    three = [Score(probabilities={"a": 0.5, "b": 0.5, "c": 0.0}), Score(probabilities={"a": 0.0, "b": 0.5, "c": 0.5})]
    assert difference(three[0], three[1]) == 0.5


def test_another_answer_is_another_decision_class_or_a_tenth() -> None:
    two = [Score(probabilities={"0": 1 - p, "1": p}) for p in (0.1, 0.4, 0.6)]
    assert (disagree(two[0], two[1]), disagree(two[1], two[2])) == (False, True)
    decided = [score._replace(decision=choice) for score, choice in zip(two, ("no", "call", "call"), strict=True)]
    assert (disagree(decided[0], decided[1]), disagree(decided[1], decided[2])) == (True, False)
    assert (disagree(Score(0.0), Score(0.0)), disagree(Score(0.0), Score(0.1))) == (False, True)
