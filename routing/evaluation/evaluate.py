"""The evaluation of a trained router on recorded outcomes: a report, and what it knew before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from routing.evaluation.bootstrap import Interval
from routing.evaluation.predict import Step, Trained, predict_pair
from routing.evaluation.report import PairReport, pair_report
from routing.evaluation.seen_questions import Known, apgr_of_new, known_to
from routing.quality import LearnedQuality
from turnout.errors import DataError

if TYPE_CHECKING:
    # It imports pandas, which only reading tables needs.
    from routing.training.outcomes import Outcomes


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A report on a pair of models, and how far the router knew its questions.

    Attributes:
        report: over all questions.
        known: the questions the router was trained on; None where they are rows of numbers.
        apgr_of_new: APGR on the other questions; None where it cannot be estimated.
        note: ``apgr_of_new``, or why there is none, in words; empty where all questions are new.
    """

    report: PairReport
    known: Known | None
    apgr_of_new: Interval | None
    note: str

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        result = self.report.to_json()
        if self.known is not None:
            result["known"] = self.known.to_json() | _interval("apgr_of_new", self.apgr_of_new)
        return result


def evaluate_pair(
    quality: Trained,
    outcomes: Path,
    weak: str,
    strong: str,
    *,
    step: Step,
    fast: bool = False,
    cascade: bool = False,
    only_new: bool = False,
    rounds: int = 500,
    seed: int = 0,
) -> Evaluation:
    """Evaluate a router's predictions for two models; see ``predict_pair`` and ``pair_report``.

    Raises:
        DataError: the table is wrong, or the strong model is not better on average.
    """
    table, p_good = predict_pair(
        quality, outcomes, weak, strong, fast=fast, step=step, cascade=cascade, only_new=only_new
    )
    step("resampling")
    report = pair_report(
        names=(weak, strong),
        prompts=None if table.has_features else table.prompts,
        p_good=p_good,
        score=table.score,
        cost=table.cost_usd,
        more={"confidence": -table.confidence[:, 0]} if cascade else {},
        rounds=rounds,
        seed=seed,
    )
    known = known_questions(quality, table)
    if known is None or not known.count:
        return Evaluation(report, known, report.apgr["router"], "")
    try:
        apgr = apgr_of_new(known, p_good, table.score, rounds, seed)
    except DataError as error:
        return Evaluation(report, known, None, f"; {error}")
    note = f"; APGR of the others: {apgr} (for all else on those alone: --only-new)"
    return Evaluation(report, known, apgr, note)


def known_questions(quality: Trained, table: Outcomes) -> Known | None:
    """The table's questions the router was trained on; None where they are rows of numbers."""
    return known_to(quality, table.prompts) if isinstance(quality, LearnedQuality) else None


def _interval(name: str, interval: Interval | None) -> dict[str, Any]:
    """An interval as plain values, null where there is none."""
    if interval is None:
        return {name: None, f"{name}_95": None}
    bounded = not np.isnan(interval.low)
    return {
        name: interval.value,
        f"{name}_95": [interval.low, interval.high] if bounded else None,
    }
