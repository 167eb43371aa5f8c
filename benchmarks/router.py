"""How well the router routes, on held-back questions: ``python -m benchmarks.router --data DIR``.

DIR holds the outcome tables named in ``CASES`` (docs/router.md says where they come from). Every
number is cross-validated: the scores of a test question, or of one with the same stem, never reach
the router that predicts it, nor the pretrained factors it starts from; where subjects are held
back, none of the subject's questions reach the router. No model of either family of the pair is in
the pretraining.

That is a router on prompts nobody has met. ``met`` is the other end: the same router, whose pool
was asked these very questions (by models of other families, never by the pair) and remembers them.

Three questions in ten (by a hash of the stem) were put aside before the present recipe was chosen:
``fresh`` are the numbers on those alone. The others took part in choosing it.

Beside the router, on the same folds: prompt length, random, oracle, and a reference made of
well-known parts (TF-IDF with logistic regression, averaged with gradient boosting on the hand-made
features, trained per model). Differences from the reference come with paired intervals.
"""

from __future__ import annotations

import argparse
import os
import re
import time
import zlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, cast

import lightgbm as lgb
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from benchmarks.provenance import save
from routing.evaluation.bootstrap import bootstrap
from routing.evaluation.calibration import reliability
from routing.evaluation.pair import length_win_rate, oracle_win_rate, pair_curve
from routing.features.key import prompt_key
from routing.features.text import hand_made, read
from routing.quality import LearnedQuality, ModelPrior, load_router
from routing.quality.encoder import Encoder
from routing.quality.factors import Factors
from routing.training.factors import pretrain
from routing.training.fit import train_router
from routing.training.outcomes import Outcomes, normalised, read_outcomes

GPT4: Final = "gpt-4-1106-preview"
MIXTRAL: Final = "mistralai/Mixtral-8x7B-Instruct-v0.1"
DEFAULT_ROUTER: Final = Path(__file__).parent.parent / "routing" / "default_router"
LEAST_MET: Final = 0.05
_OPTIONS: Final = re.compile(r"\n\s*\(?[A-J][.):]\s")


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table.

    Attributes:
        name: of the row.
        table: file in the data folder.
        weak: the cheaper model.
        strong: the better model.
        pool: tables the factors are pretrained on, less questions of this table; its own table
            stands for models of other families on the training questions.
        folds: parts of the cross-validation.
        limit: training questions taken at random from each fold's; None takes all.
        by_group: whole groups (subjects) are held back.
        target: APGR to reach; None where none was set.
    """

    name: str
    table: str
    weak: str
    strong: str
    pool: tuple[str, ...]
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
_POOLS: Final = (_PRO, "pool9_llmrouter.parquet")
CASES: Final = (
    Case("MMLU, all training questions", _MMLU, MIXTRAL, GPT4, _POOLS, target=0.72),
    Case("MMLU, 1,500 training questions", _MMLU, MIXTRAL, GPT4, _POOLS, limit=1500, target=0.69),
    Case("GSM8K", "gsm8k_mixtral_gpt4.parquet", MIXTRAL, GPT4, _POOLS, folds=10, target=0.69),
    Case(
        "pool of nine",
        "pool9_llmrouter.parquet",
        "mistral-7b-instruct-v0.3",
        "llama-3.3-nemotron-super-49b-v1",
        (_PRO,),
        target=0.83,
    ),
    Case("MMLU, unseen subjects", _MMLU, MIXTRAL, GPT4, _POOLS, by_group=True, target=0.63),
    *(
        Case(
            f"MMLU-Pro {weak} → {strong}, {limit or 'all'} labels",
            _PRO,
            weak,
            strong,
            _POOLS,
            3,
            limit,
            target=target,
        )
        for weak, strong in _PRO_PAIRS
        for limit, target in ((50, None), (200, 0.58), (1000, 0.60), (None, 0.62))
    ),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and, with ``--json``, save it with commit and hardware."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder of the outcome tables")
    parser.add_argument("--json", type=Path, help="file to save the results to")
    parser.add_argument("--quick", action="store_true", help="few questions: does it run at all?")
    parser.add_argument("--skip-latency", action="store_true", help="cases only")
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    given = parser.parse_args(arguments)
    results: list[dict[str, Any]] = []
    encoders: dict[Hashable, Encoder] = {}
    print(
        f"{'case':58} length refer. fast  full  [95 %]         full - reference  "
        "fresh: ref. full   met  target"
    )
    for case in CASES:
        if given.only not in case.name:
            continue
        found = measure(case, given.data, encoders, quick=given.quick)
        results.append(found)
        a, fresh, (low, high) = found["apgr"], found["fresh"], found["full_95"]
        more = found["full_less_reference"]
        target = f"{case.target:.2f}" if case.target else "  - "
        print(
            f"{case.name:58} {a['length']:.3f}  {a['reference']:.3f}  {a['fast']:.3f} "
            f"{a['full']:.3f} [{low:.3f}, {high:.3f}] {more[0]:+.3f} [{more[1]:+.3f}, "
            f"{more[2]:+.3f}]  {fresh['reference']:.3f} {fresh['full']:.3f}  "
            f"{a.get('met', float('nan')):.3f}  {target}",
            flush=True,
        )
        _save(given.json, results, [], quick=given.quick)
    if given.skip_latency:
        return
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


@dataclass(slots=True)
class Predicted:
    """What cross-validation found of every question of a case.

    Attributes:
        fast: P(good) by the real-time tier, shape (n, 2).
        full: by the fuller tier, shape (n, 2).
        met: by the fuller tier over a pool that was asked these questions, shape (n, 2).
        met_share: share of the questions that this pool remembers; below ``LEAST_MET`` there is no
            ``met``.
        reference: gain by the reference, shape (n,).
        parts: rows of each fold, and how many labels its router was trained on.
        training_s: of the slowest fold.
    """

    fast: Any
    full: Any
    met: Any
    met_share: float
    reference: Any
    parts: list[tuple[Any, int]] = field(default_factory=list)
    training_s: float = 0.0


def measure(
    case: Case, data: Path, encoders: dict[Hashable, Encoder], *, quick: bool
) -> dict[str, Any]:
    """Both tiers and every baseline, with intervals.

    ``encoders`` keeps pretrained encoders for cases that can share them.
    """
    whole, started = read_outcomes([data / case.table]), time.monotonic()
    if quick:
        whole = whole.sample(400, 0)
    table = whole.only([case.weak, case.strong])
    weak, strong = table.score[:, 0], table.score[:, 1]
    found = _cross_validate(case, whole, table, data, encoders)
    rates = {
        "length": length_win_rate(table.prompts),
        "random": np.random.default_rng(1).random(len(table)),
        "reference": found.reference,
        "fast": found.fast[:, 1] - found.fast[:, 0],
        "full": found.full[:, 1] - found.full[:, 0],
        "oracle": oracle_win_rate(weak, strong),
    }
    if found.met_share >= LEAST_MET:
        rates["met"] = found.met[:, 1] - found.met[:, 0]
    everything = np.arange(len(table))
    fresh = np.flatnonzero([put_aside(stem) for stem in _stems(table)])

    def apgr(name: str, i: Any) -> float:
        return pair_curve(rates[name][i], weak[i], strong[i]).apgr

    def lead(name: str, rows: Any) -> list[float]:
        """APGR less the reference's: value and 95 % interval."""
        more = bootstrap(
            lambda i: apgr(name, rows[i]) - apgr("reference", rows[i]), len(rows), rounds=200
        )
        return [more.value, more.low, more.high]

    curve = pair_curve(rates["full"], weak, strong)
    interval = bootstrap(lambda i: apgr("full", i), len(table), rounds=200)
    return {
        "case": case.name,
        "questions": len(table),
        "training_questions": case.limit or len(table) - len(table) // case.folds,
        "apgr": {name: apgr(name, everything) for name in rates},
        "full_95": [interval.low, interval.high],
        "full_less_reference": lead("full", everything),
        "met_share": found.met_share,
        "met_less_reference": lead("met", everything) if "met" in rates else None,
        "fresh": {name: apgr(name, fresh) for name in rates} | {"questions": len(fresh)},
        "fresh_full_less_reference": lead("full", fresh),
        "cpt50": curve.cpt(0.5),
        "cpt80": curve.cpt(0.8),
        "ece": _calibration(found.full, table),
        "ece_fast": _calibration(found.fast, table),
        "ece_met": _calibration(found.met, table) if "met" in rates else None,
        "ece_of_chance": _by_chance(found.full, found.parts),
        "target": case.target,
        "training_s": found.training_s,
        "seconds": time.monotonic() - started,
    }


def _cross_validate(
    case: Case, whole: Outcomes, table: Outcomes, data: Path, encoders: dict[Hashable, Encoder]
) -> Predicted:
    """Train on each fold's other questions, predict its own."""
    models = [ModelPrior(case.weak, 0.5), ModelPrior(case.strong, 0.5)]
    knows = _pretrained(case, whole, None, data)
    remembered = cast("Factors", knows.factors).memory.of
    share = float(np.mean([remembered(prompt).any() for prompt in table.prompts]))
    fast, full, met = (np.empty(table.score.shape) for _ in range(3))
    found = Predicted(fast, full, met, share, np.empty(len(table)))
    random = np.random.default_rng(0)
    for train, test in _folds(case, table):
        rows = random.permutation(train)[: case.limit] if case.limit else train
        part = table.take(np.sort(rows))
        found.parts.append((test, len(rows)))
        own = (case.weak, case.strong, train.tobytes()) if case.table in case.pool else ()
        if (case.table, own) not in encoders:
            encoders[case.table, own] = _pretrained(case, whole, train, data)
        before = time.monotonic()
        router = train_router(part, encoders[case.table, own])
        found.training_s = max(found.training_s, time.monotonic() - before)
        fast[test] = _predict(router, table, test, models, fast=True)
        full[test] = _predict(router, table, test, models, fast=False)
        if share >= LEAST_MET:
            met[test] = _predict(train_router(part, knows), table, test, models, fast=False)
        found.reference[test] = _reference(part, table.take(test))
    return found


def put_aside(stem: str) -> bool:
    """Whether a question was kept out of every choice of features, settings and members."""
    return zlib.crc32(stem.encode()) % 10 < 3


def _calibration(p_good: Any, table: Outcomes) -> dict[str, float]:
    return {
        model: reliability(p_good[:, i], table.score[:, i]).ece
        for i, model in enumerate(table.models)
    }


def _by_chance(p_good: Any, parts: Sequence[tuple[Any, int]]) -> float:
    """The error of perfect probabilities whose base rate came from the labels, worst model.

    Args:
        p_good: shape (n, 2).
        parts: rows of each fold, and how many labels their router was trained on.
    """
    random = np.random.default_rng(0)
    odds = np.log(p_good / (1.0 - p_good))
    information = np.mean(p_good * (1.0 - p_good), axis=0)
    rounds: list[list[float]] = []
    for _ in range(40):
        score, off = (random.random(p_good.shape) < p_good).astype(float), odds.copy()
        for rows, labels in parts:
            off[rows] += random.normal(size=2) / np.sqrt(information * labels)
        guess = 1.0 / (1.0 + np.exp(-off))
        rounds.append([reliability(guess[:, i], score[:, i]).ece for i in range(2)])
    return float(np.mean(rounds, axis=0).max())


def _pretrained(case: Case, whole: Outcomes, train: Any | None, data: Path) -> Encoder:
    """An encoder whose pool knows nothing of any test question, or nothing of the pair's families.

    Args:
        case: names the pool.
        whole: the case's own table, all models.
        train: rows of the training questions; None for a pool of other families that was asked
            all questions.
        data: folder of the tables.
    """
    encoder = replace(load_router(DEFAULT_ROUTER).encoder, factors=None)
    pair = {family(case.weak), family(case.strong)}
    pool: list[Outcomes] = []
    for name in case.pool:
        own = name == case.table
        table = whole if own else read_outcomes([data / name])
        if train is not None:
            test = whole.take(np.setdiff1d(np.arange(len(whole)), train)) if own else whole
            table = table.take(_apart_from(test, table))
        pool.append(table.only([m for m in table.models if family(m) not in pair]))
    return pretrain(pool, encoder).encoder


def _apart_from(test: Outcomes, table: Outcomes) -> Any:
    """Rows of a table that are no copies of test questions, nor of the same stem."""
    stems, keys = set(_stems(test)), set(map(prompt_key, test.prompts))
    apart = [
        stem not in stems and prompt_key(prompt) not in keys
        for stem, prompt in zip(_stems(table), table.prompts, strict=True)
    ]
    return np.flatnonzero(apart)


def family(model: str) -> str:
    """The family of a model's name: "Llama-2-7b-hf" is of "llama-2", "Mixtral-..." of "mistral"."""
    name = model.lower().removeprefix("meta-").replace("mixtral", "mistral")
    name = name.replace("llama3", "llama-3")
    known = ("llama-2", "llama-3", "mistral", "qwen", "yi")
    return next((each for each in known if name.startswith(each)), name)


def _stems(table: Outcomes) -> list[str]:
    return [normalised(_OPTIONS.split(prompt)[0]) for prompt in table.prompts]


def _folds(case: Case, table: Outcomes) -> list[tuple[Any, Any]]:
    """Questions with the same stem are never on both sides; nor groups, where held back."""
    keys = list(table.groups) if case.by_group else _stems(table)
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
