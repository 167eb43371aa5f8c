"""The cases of the router's benchmark: tables, pairs of models, and splits."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from sklearn.model_selection import GroupKFold, KFold

from routing.features.key import prompt_key
from routing.features.text import OPTION
from routing.quality import DEFAULT_ROUTER, load_router
from routing.quality.encoder import Encoder
from routing.training.factors import pretrain
from routing.training.outcomes import Outcomes, read_outcomes

_NOT_WORDS: Final = re.compile(r"[^a-z0-9]+")
GPT4: Final = "gpt-4-1106-preview"
MIXTRAL: Final = "mistralai/Mixtral-8x7B-Instruct-v0.1"


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
        as_shipped: whether to judge also what ``turnout router train`` gives, on questions held
            back at random. Its pool is the one that ships; where that was asked this very table,
            nothing is held back.
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
    as_shipped: bool = False
    target: float | None = None


MMLU: Final = "mmlu_mixtral_gpt4.parquet"
_GSM8K: Final = "gsm8k_mixtral_gpt4.parquet"
_PRO: Final = "mmlu_pro.parquet"
_PRO_PAIRS: Final = (
    ("Meta-Llama-3-8B", "Meta-Llama-3_1-70B-Instruct"),
    ("Mistral-7B-Instruct-v0.2", "Qwen1.5-110B"),
    ("Yi-6B", "jamba-1.5-large"),
)
_POOLS: Final = (_PRO, "pool9_llmrouter.parquet")
CASES: Final = (
    Case("MMLU, all training questions", MMLU, MIXTRAL, GPT4, _POOLS, as_shipped=True, target=0.72),
    Case(
        "MMLU, 1,500 training questions",
        MMLU,
        MIXTRAL,
        GPT4,
        _POOLS,
        limit=1500,
        as_shipped=True,
        target=0.69,
    ),
    Case("GSM8K", _GSM8K, MIXTRAL, GPT4, _POOLS, folds=10, as_shipped=True, target=0.69),
    Case(
        "pool of nine",
        "pool9_llmrouter.parquet",
        "mistral-7b-instruct-v0.3",
        "llama-3.3-nemotron-super-49b-v1",
        (_PRO,),
        target=0.83,
    ),
    Case("MMLU, unseen subjects", MMLU, MIXTRAL, GPT4, _POOLS, by_group=True, target=0.63),
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


def pretrained(case: Case, whole: Outcomes, train: Any | None, data: Path) -> Encoder:
    """Return an encoder whose pool has no test question, or no model of the pair's families.

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
    """Return a table's rows that share no stem with a test question."""
    known, keys = set(stems(test)), set(map(prompt_key, test.prompts))
    apart = [
        stem not in known and prompt_key(prompt) not in keys
        for stem, prompt in zip(stems(table), table.prompts, strict=True)
    ]
    return np.flatnonzero(apart)


def family(model: str) -> str:
    """Return the family of a model's name: "llama-2" of "Llama-2-7b-hf", "mistral" of "Mixtral"."""
    name = model.lower().removeprefix("meta-").replace("mixtral", "mistral")
    name = name.replace("llama3", "llama-3")
    known = ("llama-2", "llama-3", "mistral", "qwen", "yi")
    return next((each for each in known if name.startswith(each)), name)


def stems(table: Outcomes) -> list[str]:
    """Return each question's text before its options, without case and punctuation."""
    parts = [OPTION.split(prompt, maxsplit=1)[0].lower() for prompt in table.prompts]
    return [_NOT_WORDS.sub(" ", part).strip() for part in parts]


def folds(case: Case, table: Outcomes) -> list[tuple[Any, Any]]:
    """Return folds that never split a stem, nor a group where groups are held out."""
    keys = list(table.groups) if case.by_group else stems(table)
    split = GroupKFold(case.folds, shuffle=True, random_state=0)
    return list(split.split(keys, groups=keys))


def random_folds(case: Case, table: Outcomes) -> list[tuple[Any, Any]]:
    """Return random folds, regardless of stems."""
    return list(KFold(case.folds, shuffle=True, random_state=0).split(table.prompts))


def put_aside(stem: str) -> bool:
    """Return whether a question was kept out of every choice made on the tables."""
    return zlib.crc32(stem.encode()) % 10 < 3
