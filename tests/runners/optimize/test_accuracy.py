from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from runners.optimize.accuracy import Judgement, judge
from runners.optimize.gate import Check, Measurements, checks, verdict
from runners.optimize.input_types import Inputs, bytes_column
from runners.optimize.inputs import one_by_one, split_in_halves
from runners.optimize.intervals import Interval
from turnout.catalog import Gate
from turnout.errors import DataError
from turnout.types import Task


def images(labels: list[int] | None, groups: list[int] | None = None, count: int = 4) -> Inputs:
    return Inputs(
        {"image": bytes_column([bytes([i]) for i in range(count)])},
        None if labels is None else np.array(labels),
        np.arange(count) if groups is None else np.array(groups),
        "made up",
    )


def logits(*best: int) -> dict[str, np.ndarray]:
    return {"logits": np.eye(5, dtype=np.float32)[list(best)]}


def test_top_1_is_lost_where_only_the_reference_is_right() -> None:
    found = judge(Task.IMAGE, images([0, 1, 2, 3]), logits(0, 1, 2, 4), logits(0, 1, 1, 3), 0.95)
    assert (found.reference, found.candidate) == (0.75, 0.75)
    assert found.loss.value == 0.0  # one lost, one won
    assert found.agreement.value == 0.5
    assert found.max_abs_distance == 1.0


def test_without_labels_another_answer_counts_as_lost() -> None:
    found = judge(Task.IMAGE, images(None), logits(0, 1, 2, 4), logits(0, 1, 1, 3), 0.95)
    assert found.loss.value == 0.5
    assert found.loss.high > 0.5 > found.loss.low
    assert found.reference is None


def test_views_of_one_picture_are_one_witness() -> None:
    one_each = judge(Task.IMAGE, images(None), logits(0, 1, 2, 3), logits(0, 1, 2, 3), 0.95)
    same = judge(
        Task.IMAGE, images(None, [7, 7, 7, 7]), logits(0, 1, 2, 3), logits(0, 1, 2, 3), 0.95
    )
    assert one_each.agreement.value == same.agreement.value == 1.0
    assert same.agreement.low < one_each.agreement.low


def test_average_precision_and_the_riskiest_rows() -> None:
    random = np.random.default_rng(0)
    labels = random.random(2000) < 0.05
    good = (labels * 0.3 + random.random(2000) * 0.5).astype(np.float32)
    noisy = (good + random.normal(0, 0.2, 2000)).astype(np.float32)
    inputs = Inputs({"features": np.zeros((2000, 15))}, labels, np.arange(2000), "")
    same = judge(Task.TABULAR, inputs, {"probability": good}, {"probability": good}, 0.95)
    worse = judge(Task.TABULAR, inputs, {"probability": good}, {"probability": noisy}, 0.95)
    assert same.loss == Interval(0.0, 0.0, 0.0)
    assert same.agreement.value == 1.0
    assert worse.loss.low > 0
    assert worse.reference is not None
    assert worse.candidate is not None
    assert worse.loss.value == pytest.approx(worse.reference - worse.candidate)


def test_average_precision_needs_labels_of_both_kinds() -> None:
    inputs = Inputs({"features": np.zeros((3, 15))}, np.zeros(3), np.arange(3), "")
    scores = {"probability": np.zeros(3, np.float32)}
    with pytest.raises(DataError, match="labels of both kinds"):
        judge(Task.TABULAR, inputs, scores, scores, 0.95)


def test_cosine_and_the_nearest_neighbour() -> None:
    vectors = np.random.default_rng(1).normal(size=(50, 8)).astype(np.float32)
    inputs = Inputs({"text": bytes_column([b"x"] * 50)}, None, np.arange(50), "")
    same = judge(Task.EMBED, inputs, {"sentence": vectors}, {"sentence": vectors * 2}, 0.95)
    assert same.loss.value == pytest.approx(0, abs=1e-6)  # length does not count
    turned = judge(Task.EMBED, inputs, {"sentence": vectors}, {"sentence": -vectors}, 0.95)
    assert turned.loss.value == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("candidate", "said"),
    [
        ({"other": np.zeros((4, 5))}, "output 'logits' is missing"),
        ({"logits": np.zeros((4, 3))}, "of the reference's shape"),
        ({"logits": np.full((4, 5), np.nan)}, "not finite"),
    ],
)
def test_outputs_that_cannot_be_compared_are_refused(
    candidate: dict[str, np.ndarray], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        judge(Task.IMAGE, images(None), logits(0, 1, 2, 3), candidate, 0.95)


def test_no_group_is_on_both_sides_and_the_parting_repeats() -> None:
    inputs = images(None, groups=[0, 0, 1, 1, 2, 2, 3, 3, 4, 5], count=10)
    first, second = split_in_halves(inputs, 100, 100)
    assert not set(first.groups) & set(second.groups)
    assert len(first) + len(second) == 10
    again = split_in_halves(inputs, 100, 100)
    assert again[0].digest() == first.digest() != second.digest()
    assert len(split_in_halves(inputs, 1, 2)[0]) == 1
    assert [len(one["image"]) for one in one_by_one(first.tensors)] == [1] * len(first)


MEASURED = Measurements({1: {"speedup": 2.0}, 8: {"speedup": 0.5}}, 10.0, 20.0, 100.0, 200.0, 1, 2)


def judged(loss: float, high: float) -> Judgement:
    same = Interval(1.0, 1.0, 1.0)
    return Judgement("top-1 accuracy", Interval(loss, loss, high), 0.9, 0.9, same, "top-1", 0.1, 0)


def test_agreement_is_asked_for_where_the_catalog_says_so() -> None:
    apart = replace(judged(0.0, 0.0), agreement=Interval(0.87, 0.8, 0.9))
    said = verdict(checks(Gate(min_agreement=0.95), 300, apart, MEASURED))
    assert said["why"] == ["agreement on top-1 is 0.87, the gate requires at least 0.95"]


@pytest.mark.parametrize(
    ("gate", "loss", "high", "inputs", "why"),
    [
        ({}, 0.005, 0.03, 300, None),
        ({}, 0.02, 0.03, 300, r"loss \(top-1 accuracy\) is 0.02, the gate requires at most 0.01"),
        ({}, 0.005, 0.05, 300, "loss at worst"),
        ({}, 0.0, 0.0, 30, "inputs judged is 30, the gate requires at least 200"),
        ({"min_speedup": 2.5}, 0.0, 0.0, 300, "speed-up, one row is 2, the gate requires at least"),
        ({"min_agreement": 0.99}, 0.0, 0.0, 300, None),
        ({"max_memory_ratio": 0.4}, 0.0, 0.0, 300, "memory by the reference's is 0.5"),
        ({"max_start_ratio": 0.4}, 0.0, 0.0, 300, "start by the reference's is 0.5"),
        ({"max_memory_ratio": 0.6, "max_start_ratio": 0.6}, -0.01, 0.0, 300, None),
        ({}, float("nan"), 0.0, 300, "loss"),
    ],
)
def test_the_gate_says_which_line_does_not_hold(
    gate: dict[str, float], loss: float, high: float, inputs: int, why: str | None
) -> None:
    found: list[Check] = checks(Gate.model_validate(gate), inputs, judged(loss, high), MEASURED)
    said = verdict(found)
    assert said["passed"] == (why is None)
    if why is not None:
        assert len(said["why"]) == 1
        import re

        assert re.search(why, said["why"][0])
