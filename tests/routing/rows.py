"""A made-up world of rows in which large first values are hard, and the small model fails them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from routing.training.outcomes import Outcomes, read_outcomes

NAMES = ("amount", "hour", "noise")


def frame(n: int = 2000, seed: int = 0, *, told: bool = True, named: bool = True) -> pd.DataFrame:
    """Long table of two models; ``told`` says whether the features tell who is good."""
    random = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        values = random.normal(0.0, 1.0, 3).tolist()
        hard = values[0] > 0.5 and values[1] > 0.0 if told else random.random() < 0.15
        features: Any = dict(zip(NAMES, values, strict=True)) if named else values
        for model, p in (("small", 0.3 if hard else 0.95), ("large", 0.95)):
            rows.append(
                {
                    "query_id": f"q{seed}-{i}",
                    "features": features,
                    "model": model,
                    "score": float(random.random() < p),
                    "cost_usd": 0.01 if model == "large" else 0.001,
                }
            )
    return pd.DataFrame(rows)


def outcomes(folder: Path, n: int = 2000, seed: int = 0, **more: Any) -> Outcomes:
    path = folder / f"rows_{seed}.parquet"
    frame(n, seed, **more).to_parquet(path, index=False)
    return read_outcomes([path])
