"""The learned quality model: shared features, one head per model, priors for the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.quality.cold_start import ColdStart, Novelty
from routing.quality.encoder import Encoder
from routing.quality.heads import Heads, logit, sigmoid
from routing.quality.prior import ModelPrior


@dataclass(frozen=True, slots=True)
class LearnedQuality:
    """A trained ``QualityModel``. Immutable; safe to share between threads.

    Attributes:
        encoder: from prompt to features.
        heads: the trained models' heads.
        cold_start: for models without a head.
        novelty: gives the trust in the heads for a prompt.
        trained_on: keys of the questions the heads were trained on, from
            ``routing.features.key.question_key``, shape (q,), each once. Nothing is predicted
            from them.
        origin: its training data, for people.
    """

    encoder: Encoder
    heads: Heads
    cold_start: ColdStart
    novelty: Novelty
    trained_on: NDArray[np.uint64]
    origin: str = ""

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models that have a trained head."""
        return self.heads.models

    def predict(
        self, prompt: str, models: Sequence[ModelPrior], *, fast: bool
    ) -> NDArray[np.float32]:
        """Return calibrated P(good answer) of each model; see ``QualityModel.predict``."""
        encoded = self.encoder.encode(prompt, with_grams=not fast and self.heads.grams is not None)
        rows = [_row(model, self.heads.rows) for model in models]
        head_scores: list[float] = self.heads.scores(encoded, fast=fast).tolist()
        difficulty = self.cold_start.difficulty(encoded) if -1 in rows else 0.0
        trust = self.novelty.trust(encoded)
        p_good: list[float] = []
        for model, row in zip(models, rows, strict=True):
            if row >= 0:
                score, anchor = head_scores[row], self.heads.anchors[row]
            else:
                score = self.cold_start.score(model.prior, difficulty)
                anchor = logit(model.prior)
            p_good.append(sigmoid(trust * score + (1.0 - trust) * anchor))
        return np.array(p_good, dtype=np.float32)


def _row(model: ModelPrior, rows: Mapping[str, int]) -> int:
    """Return the row of the model's own head, else of its proxy's, else -1."""
    row = rows.get(model.name)
    if row is None and model.proxy is not None:
        row = rows.get(model.proxy)
    return -1 if row is None else row
