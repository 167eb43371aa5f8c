"""A made-up world in which prompts about proofs are hard, and the small model fails them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from routing.training.outcomes import Outcomes, read_outcomes

EASY = ("Name the colour of the {} sky.", "What is a {}?", "Say hello to the {} guest.")
HARD = (
    "Prove that every {} group of order {} is solvable, and classify its subgroups.",
    "Compute the eigenvalues of the {} operator on a Hilbert space of dimension {}.",
)
NOUNS = ("green", "calm", "finite", "abelian", "quiet", "compact", "merry", "bounded")


def frame(n: int = 400, seed: int = 0) -> pd.DataFrame:
    """Long table of two models; the small one is good on easy prompts only."""
    random = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        hard = bool(i % 2)
        forms = HARD if hard else EASY
        noun = f"{random.choice(NOUNS)} {random.choice(NOUNS)}"
        prompt = forms[i // 2 % len(forms)].format(noun, random.integers(2, 10_000)) + f" ({i})"
        for model, p in (("small", 0.2 if hard else 0.9), ("large", 0.85 if hard else 0.92)):
            rows.append(
                {
                    "query_id": f"q{i}",
                    "prompt": prompt,
                    "group": "algebra" if hard else "talk",
                    "model": model,
                    "score": float(random.random() < p),
                    "cost_usd": 0.01 if model == "large" else 0.001,
                    "output_tokens": 10.0,
                    "latency_s": np.nan,
                }
            )
    return pd.DataFrame(rows)


def outcomes(folder: Path, n: int = 400, seed: int = 0) -> Outcomes:
    path = folder / f"outcomes_{seed}.parquet"
    frame(n, seed).to_parquet(path, index=False)
    return read_outcomes([path])
