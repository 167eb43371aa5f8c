"""Evaluation of a trained router on recorded outcomes: a report, and the questions it has seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from routing.evaluation.bootstrap import Interval
from routing.evaluation.predict import Step, Trained, predict_pair
from routing.evaluation.report import PairReport, pair_report
from routing.evaluation.seen_questions import SeenQuestions, apgr_of_new, seen_by
from routing.quality import LearnedQuality
from turnout.errors import DataError

if TYPE_CHECKING:
    # It imports pandas, which only reading tables needs.
    from routing.training.outcomes import Outcomes


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A report on a pair of models, and the questions that the router had seen.

    Attributes:
        report: over all questions.
        seen: the questions the router was trained on; None where they are rows of numbers.
        apgr_of_new: APGR on the other questions; None where it cannot be estimated.
        note: ``apgr_of_new`` as text, or why there is none; empty where all questions are new.
    """

    report: PairReport
    seen: SeenQuestions | None
    apgr_of_new: Interval | None
    note: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``--json``."""
        result = self.report.to_json()
        if self.seen is not None:
            result["known"] = self.seen.to_json() | _interval("apgr_of_new", self.apgr_of_new)
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
    seen = seen_questions(quality, table)
    if seen is None or not seen.count:
        return Evaluation(report, seen, report.apgr["router"], "")
    try:
        apgr = apgr_of_new(seen, p_good, table.score, rounds, seed)
    except DataError as error:
        return Evaluation(report, seen, None, f"; {error}")
    note = f"; APGR on the unseen ones: {apgr} (all figures on those alone: --only-new)"
    return Evaluation(report, seen, apgr, note)


def seen_questions(quality: Trained, table: Outcomes) -> SeenQuestions | None:
    """Return the questions the router was trained on; None where they are rows of numbers."""
    return seen_by(quality, table.prompts) if isinstance(quality, LearnedQuality) else None


def _interval(name: str, interval: Interval | None) -> dict[str, Any]:
    """Return an interval as plain values, null where there is none."""
    if interval is None:
        return {name: None, f"{name}_95": None}
    bounded = not np.isnan(interval.low)
    return {
        name: interval.value,
        f"{name}_95": [interval.low, interval.high] if bounded else None,
    }
