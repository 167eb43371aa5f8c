"""Training of the router that ships: ``python -m routing.training.default_router --data DIR``.

Reads the recorded outcome tables in DIR (see docs/router.md for their origin), keeps the words
and vectors of the present default router, and writes the rest anew.
"""

# pyright: basic

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from routing.features.key import normalised
from routing.quality import DEFAULT_ROUTER, save_router
from routing.quality.artifact import load_encoder
from routing.training.factors import pretrain
from routing.training.features import design
from routing.training.fit import train_router
from routing.training.outcomes import Outcomes, read_outcomes, same_model

TABLES: Final = (
    "mmlu_mixtral_gpt4.parquet",
    "gsm8k_mixtral_gpt4.parquet",
    "pool9_llmrouter.parquet",
    "mmlu_pro.parquet",
)
POOL: Final = ("mmlu_pro.parquet", "pool9_llmrouter.parquet")
ORIGIN: Final = (
    "coefficients fitted on recorded outcomes: MMLU and GSM8K of lm-sys/RouteLLM, "
    "the nine-model pool of ulab-uiuc/LLMRouter, MMLU-Pro evaluations of TIGER-AI-Lab/MMLU-Pro; "
    "word vectors reduced from sentence-transformers/all-MiniLM-L6-v2"
)
LICENCES: Final = {
    "lm-sys/RouteLLM": "Apache-2.0",
    "ulab-uiuc/LLMRouter": "MIT",
    "TIGER-AI-Lab/MMLU-Pro": "Apache-2.0",
    "sentence-transformers/all-MiniLM-L6-v2": "Apache-2.0",
}


def shared_abilities(models: Sequence[str]) -> list[int]:
    """Return the number of each model's ability, equal for spellings of one model."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(same_model(model), len(numbers)) for model in models]


def prompts_of(tables: Sequence[Outcomes]) -> list[str]:
    """Return the normalised prompts of all tables, in order."""
    return [normalised(prompt) for table in tables for prompt in table.prompts]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train on the tables and write ``routing/default_router``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the outcome tables")
    data: Path = parser.parse_args(arguments).data
    outcomes = read_outcomes([data / table for table in TABLES])
    encoder = replace(load_encoder(DEFAULT_ROUTER), factors=None)
    pool = [read_outcomes([data / table]) for table in POOL]
    pretrained = pretrain(pool, encoder)
    crossed_of = dict(zip(prompts_of(pool), np.concatenate(pretrained.crossed), strict=True))
    crossed = design(pretrained.encoder, outcomes.prompts).factors(pretrained.encoder)
    for row, prompt in enumerate(outcomes.prompts):
        crossed[row] = crossed_of.get(normalised(prompt), crossed[row])
    router = train_router(
        outcomes,
        pretrained.encoder,
        rich=False,
        abilities=shared_abilities(outcomes.models),
        crossed=crossed,
        origin=ORIGIN,
        progress=lambda step: print(step, file=sys.stderr),  # noqa: T201
    )
    save_router(router, DEFAULT_ROUTER, {"licences": LICENCES, "questions": len(outcomes)})


if __name__ == "__main__":
    main()
