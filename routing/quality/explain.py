"""Explanation of a prompt's predicted difficulty, by readable properties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from routing.quality.learned import LearnedQuality
from routing.quality.prior import ModelPrior


@dataclass(frozen=True, slots=True)
class Contribution:
    """The part of one property of the prompt in its difficulty.

    Attributes:
        feature: name of the property; "subject_matter" sums all directions of meaning,
            "asked_the_pool_itself" is listed when the pool was scored on this prompt.
        difficulty: in log-odds of a bad answer, relative to an average prompt.
    """

    feature: str
    difficulty: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """The parts of a prediction for a prompt.

    Attributes:
        difficulty: in log-odds; 0 is typical, higher is harder.
        contributions: largest first, by size.
        trust: weight of the trained heads against the priors, in (0, 1].
        p_good: by model, from the fuller tier.
        by_head: models judged by a trained head or proxy, not by their prior.
    """

    difficulty: float
    contributions: tuple[Contribution, ...]
    trust: float
    p_good: dict[str, float]
    by_head: tuple[str, ...]


def explain(router: LearnedQuality, prompt: str, models: Sequence[ModelPrior]) -> Explanation:
    """Explain the difficulty of a prompt by property, and predict each model's quality.

    The contributions are exact for the difficulty of the cold start, which is linear; heads of
    trained models see the same features but are not linear in them.
    """
    encoded = router.encoder.encode(prompt)
    cold, split = router.cold_start, router.encoder.n_form
    parts, meaning = cold.contributions(encoded), slice(split, len(encoded.dense))
    contributions = [
        Contribution(name, float(part))
        for name, part in zip(router.encoder.dense_names[:split], parts[:split], strict=True)
    ]
    contributions.append(Contribution("subject_matter", float(parts[meaning].sum())))
    pool = parts[meaning.stop :]
    smooth = 0 if router.encoder.factors is None else len(router.encoder.factors.bias)
    contributions.append(Contribution("like_what_the_pool_failed", float(pool[:smooth].sum())))
    if pool[smooth:].any():
        contributions.append(Contribution("asked_the_pool_itself", float(pool[smooth:].sum())))
    contributions.sort(key=lambda item: -abs(item.difficulty))
    p_good = router.predict(prompt, models, fast=False)
    rows = router.heads.rows
    return Explanation(
        difficulty=cold.difficulty(encoded),
        contributions=tuple(contributions),
        trust=router.novelty.trust(encoded),
        p_good={model.name: float(p) for model, p in zip(models, p_good, strict=True)},
        by_head=tuple(m.name for m in models if m.name in rows or m.proxy in rows),
    )
