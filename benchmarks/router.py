"""How well the router routes, on held-back questions: ``python -m benchmarks.router --data DIR``.

DIR holds the outcome tables named in ``CASES`` (docs/router.md says where they come from). Every
number is cross-validated: the scores of a test question, or of one with the same stem, never reach
the router that predicts it; where subjects are held back, none of the subject's do. The shipped
vocabulary and idf come from all prompts, without scores, and the settings were tuned on these
tables, so the numbers are optimistic (docs/router.md). Beside the router, on the same folds:
prompt length, random, oracle, and a reference made of well-known parts (TF-IDF with logistic
regression, averaged with gradient boosting on the hand-made features, trained per model).
"""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import lightgbm as lgb
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from benchmarks.provenance import save
from routing.evaluation.bootstrap import bootstrap
from routing.evaluation.calibration import reliability
from routing.evaluation.pair import length_win_rate, oracle_win_rate, pair_curve
from routing.features.text import hand_made, read
from routing.quality import LearnedQuality, ModelPrior, load_router
from routing.training.fit import train_router
from routing.training.outcomes import Outcomes, normalised, read_outcomes

GPT4: Final = "gpt-4-1106-preview"
MIXTRAL: Final = "mistralai/Mixtral-8x7B-Instruct-v0.1"
DEFAULT_ROUTER: Final = Path(__file__).parent.parent / "routing" / "default_router"
_OPTIONS: Final = re.compile(r"\n\s*\(?[A-J][.):]\s")


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table.

    Attributes:
        name: of the row.
        table: file in the data folder.
        weak: the cheaper model.
        strong: the better model.
        folds: parts of the cross-validation.
        limit: training questions taken at random from each fold's; None takes all.
        by_group: whole groups (subjects) are held back.
        target: APGR to reach; None where none was set.
    """

    name: str
    table: str
    weak: str
    strong: str
    folds: int = 5
    limit: int | None = None
    by_group: bool = False
    target: float | None = None


_MMLU: Final = "mmlu_mixtral_gpt4.parquet"
_PRO: Final = "mmlu_pro.parquet"
_PRO_PAIRS: Final = (
    ("Meta-Llama-3-8B", "Meta-Llama-3_1-70B-Instruct"),
    ("Mistral-7B-Instruct-v0.2", "Qwen1.5-110B"),
    ("Yi-6B", "jamba-1.5-large"),
)
CASES: Final = (
    Case("MMLU, all training questions", _MMLU, MIXTRAL, GPT4, target=0.72),
    Case("MMLU, 1,500 training questions", _MMLU, MIXTRAL, GPT4, limit=1500, target=0.69),
    Case("GSM8K", "gsm8k_mixtral_gpt4.parquet", MIXTRAL, GPT4, folds=10, target=0.69),
    Case(
        "pool of nine",
        "pool9_llmrouter.parquet",
        "mistral-7b-instruct-v0.3",
        "llama-3.3-nemotron-super-49b-v1",
        target=0.83,
    ),
    Case("MMLU, unseen subjects", _MMLU, MIXTRAL, GPT4, by_group=True, target=0.63),
    *(
        Case(f"MMLU-Pro {weak} → {strong}, {limit or 'all'} labels", _PRO, weak, strong, 3, limit)
        for weak, strong in _PRO_PAIRS
        for limit in (200, 1000, None)
    ),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and, with ``--json``, save it with commit and hardware."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder of the outcome tables")
    parser.add_argument("--json", type=Path, help="file to save the results to")
    parser.add_argument("--quick", action="store_true", help="few questions: does it run at all?")
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    given = parser.parse_args(arguments)
    results: list[dict[str, Any]] = []
    print(f"{'case':58} length reference  fast  full  [95 %]          oracle  ECE    target")
    for case in CASES:
        if given.only not in case.name:
            continue
        found = measure(case, given.data, quick=given.quick)
        results.append(found)
        a, (low, high) = found["apgr"], found["full_95"]
        target = f"{case.target:.2f}" if case.target else "  - "
        print(
            f"{case.name:58} {a['length']:.3f}  {a['reference']:.3f}     {a['fast']:.3f} "
            f"{a['full']:.3f} [{low:.3f}, {high:.3f}]  {a['oracle']:.3f}   "
            f"{max(found['ece'].values()):.3f}  {target}",
            flush=True,
        )
        _save(given.json, results, [], quick=given.quick)
    print("cases done; measuring latency", flush=True)
    latency = measure_latency(given.data / _MMLU, quick=given.quick)
    for row in latency:
        print(
            f"decision, {row['tier']} tier, {row['prompts']}: p50 {row['p50_us']:.0f} µs, "
            f"p99 {row['p99_us']:.0f} µs of CPU"
        )
    _save(given.json, results, latency, quick=given.quick)


def _save(
    path: Path | None,
    cases: list[dict[str, Any]],
    latency: list[dict[str, Any]],
    *,
    quick: bool,
) -> None:
    threads = os.environ.get("OMP_NUM_THREADS", "default")
    save(path, {"quick": quick, "threads": threads, "cases": cases, "latency": latency})


def measure(case: Case, data: Path, *, quick: bool) -> dict[str, Any]:
    """Cross-validate one case with both tiers and every baseline."""
    table = read_outcomes([data / case.table]).only([case.weak, case.strong])
    if quick:
        table = table.sample(400, 0)
    weak, strong = table.score[:, 0], table.score[:, 1]
    encoder = load_router(DEFAULT_ROUTER).encoder
    models = [ModelPrior(case.weak, 0.5), ModelPrior(case.strong, 0.5)]
    fast, full = np.empty(table.score.shape), np.empty(table.score.shape)
    reference, random = np.empty(len(table)), np.random.default_rng(0)
    started = time.monotonic()
    training_s = 0.0
    for train, test in _folds(case, table):
        rows = random.permutation(train)[: case.limit] if case.limit else train
        part = table.take(np.sort(rows))
        before = time.monotonic()
        router = train_router(part, encoder)
        training_s = max(training_s, time.monotonic() - before)
        fast[test] = _predict(router, table, test, models, fast=True)
        full[test] = _predict(router, table, test, models, fast=False)
        reference[test] = _reference(part, table.take(test))
    rates = {
        "length": length_win_rate(table.prompts),
        "random": random.random(len(table)),
        "reference": reference,
        "fast": fast[:, 1] - fast[:, 0],
        "full": full[:, 1] - full[:, 0],
        "oracle": oracle_win_rate(weak, strong),
    }
    curve = pair_curve(rates["full"], weak, strong)
    interval = bootstrap(
        lambda i: pair_curve(rates["full"][i], weak[i], strong[i]).apgr, len(table), rounds=200
    )
    return {
        "case": case.name,
        "questions": len(table),
        "training_questions": case.limit or len(table) - len(table) // case.folds,
        "apgr": {name: pair_curve(rate, weak, strong).apgr for name, rate in rates.items()},
        "full_95": [interval.low, interval.high],
        "cpt50": curve.cpt(0.5),
        "cpt80": curve.cpt(0.8),
        "ece": {
            model.name: reliability(full[:, i], table.score[:, i]).ece
            for i, model in enumerate(models)
        },
        "ece_fast": {
            model.name: reliability(fast[:, i], table.score[:, i]).ece
            for i, model in enumerate(models)
        },
        "target": case.target,
        "training_s": training_s,
        "seconds": time.monotonic() - started,
    }


def _folds(case: Case, table: Outcomes) -> list[tuple[Any, Any]]:
    """Questions with the same stem are never on both sides; nor groups, where held back."""
    stems = [normalised(_OPTIONS.split(prompt)[0]) for prompt in table.prompts]
    keys = list(table.groups) if case.by_group else stems
    split = GroupKFold(case.folds, shuffle=True, random_state=0)
    return list(split.split(keys, groups=keys))


def _predict(
    router: LearnedQuality, table: Outcomes, rows: Any, models: list[ModelPrior], *, fast: bool
) -> Any:
    return np.stack([router.predict(table.prompts[row], models, fast=fast) for row in rows])


def _reference(train: Outcomes, test: Outcomes) -> Any:
    """Gain by TF-IDF with logistic regression, averaged with boosting on hand-made features."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    terms, test_terms = words.fit_transform(train.prompts), words.transform(test.prompts)
    form = np.stack([hand_made(read(prompt)) for prompt in train.prompts])
    test_form = np.stack([hand_made(read(prompt)) for prompt in test.prompts])
    linear, boosted = np.zeros(len(test)), np.zeros(len(test))
    for column, sign in ((0, -1.0), (1, 1.0)):
        good = train.score[:, column] >= 0.5
        if good.all() or not good.any():
            continue
        regression = LogisticRegression(max_iter=300).fit(terms, good)
        linear += sign * regression.predict_proba(test_terms)[:, 1]
        trees = lgb.LGBMRegressor(
            n_estimators=200, learning_rate=0.03, num_leaves=15, n_jobs=1, verbose=-1
        ).fit(form, train.score[:, column])
        boosted += sign * np.asarray(trees.booster_.predict(test_form))
    return linear / (linear.std() + 1e-9) + boosted / (boosted.std() + 1e-9)


def measure_latency(path: Path, *, quick: bool) -> list[dict[str, Any]]:
    """CPU time of one decision's quality prediction, in this process, one thread."""
    table = read_outcomes([path])
    router = train_router(
        table.sample(600 if quick else 4000, 0), load_router(DEFAULT_ROUTER).encoder
    )
    models = [ModelPrior(name, 0.5) for name in table.models]
    text = "\n".join(table.prompts)
    sets = {
        "prompts as recorded": list(table.sample(1000, 1).prompts),
        "prompts of 2,000 characters": [text[i * 2000 : (i + 1) * 2000] for i in range(500)],
    }
    rows: list[dict[str, Any]] = []
    for tier, fast in (("real-time", True), ("fuller", False)):
        for name, prompts in sets.items():
            times: list[int] = []
            for prompt in (prompts[:50] + prompts)[: 200 if quick else None]:
                before = time.process_time_ns()
                router.predict(prompt, models, fast=fast)
                times.append(time.process_time_ns() - before)
            p50, p99 = np.quantile(times[50:], [0.5, 0.99]) / 1e3
            rows.append({"tier": tier, "prompts": name, "p50_us": p50, "p99_us": p99})
    return rows


if __name__ == "__main__":
    main()
