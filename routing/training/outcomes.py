"""Outcome tables: the scores of models' answers to questions.

One long format for parquet and JSONL, one row per question and model:

    query_id, prompt, group, model, score, cost_usd, output_tokens, latency_s, confidence

``score`` is in [0, 1]; the last four may be missing or NaN where nothing was recorded
(``confidence`` is the model's in its own answer). Where the
query is a row of numbers, ``features`` stands in place of ``prompt`` (see ``feature_rows.py``).
"""

# pyright: basic

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from routing.features.key import normalised
from routing.training.feature_rows import feature_rows
from turnout.errors import DataError, TooFewOutcomes

COLUMNS: Final = (
    "query_id",
    "prompt",
    "group",
    "model",
    "score",
    "cost_usd",
    "output_tokens",
    "latency_s",
    "confidence",
)
LEAST_IN_POOL: Final = 300
_MEASURED: Final = ("cost_usd", "output_tokens", "latency_s", "confidence")
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Questions in rows, models in columns.

    Attributes:
        query_ids: one for each question.
        prompts: one for each question.
        groups: subject or task of each question, "" where unknown.
        models: one for each column.
        score: shape (n, m), in [0, 1]; NaN where a model did not answer.
        cost_usd: shape (n, m); NaN where not recorded.
        features: shape (n, d); d is 0 for prompts.
        feature_names: of the features.
        confidence: shape (n, m), of each model in its own answer; NaN where not recorded. Empty
            where no model's is.
    """

    query_ids: tuple[str, ...]
    prompts: tuple[str, ...]
    groups: tuple[str, ...]
    models: tuple[str, ...]
    score: Floats
    cost_usd: Floats
    features: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    feature_names: tuple[str, ...] = ()
    confidence: Floats = field(default_factory=lambda: np.zeros((0, 0)))

    @property
    def has_features(self) -> bool:
        """Whether the queries are rows of numbers instead of prompts."""
        return bool(self.feature_names)

    def __len__(self) -> int:
        return len(self.query_ids)

    def take(self, rows: NDArray[np.int64]) -> Outcomes:
        """Return the questions at these rows."""
        return Outcomes(
            tuple(self.query_ids[i] for i in rows),
            tuple(self.prompts[i] for i in rows),
            tuple(self.groups[i] for i in rows),
            self.models,
            self.score[rows],
            self.cost_usd[rows],
            self.features[rows] if self.has_features else self.features,
            self.feature_names,
            self.confidence[rows] if len(self.confidence) else self.confidence,
        )

    def only(self, models: Sequence[str]) -> Outcomes:
        """Return the columns of these models, and the questions that at least one of them answered.

        Raises:
            DataError: a model is not in the table.
        """
        missing = [model for model in models if model not in self.models]
        if missing:
            raise DataError(
                f"no outcomes of model {missing[0]!r}; the table has: {', '.join(self.models)}"
            )
        columns = [self.models.index(model) for model in models]
        rows = np.flatnonzero(~np.isnan(self.score[:, columns]).all(axis=1))
        part = self.take(rows)
        return replace(
            part,
            models=tuple(models),
            score=part.score[:, columns],
            cost_usd=part.cost_usd[:, columns],
            confidence=part.confidence[:, columns] if len(part.confidence) else part.confidence,
        )

    def sample(self, limit: int | None, seed: int) -> Outcomes:
        """Draw ``limit`` questions at random, all when there are no more."""
        if limit is None or limit >= len(self):
            return self
        rows = np.random.default_rng(seed).permutation(len(self))[:limit]
        return self.take(np.sort(rows))


def same_model(name: str) -> str:
    """Return one spelling for a model that tables name differently."""
    return name.split("/")[-1].lower().removeprefix("meta-").replace("3_1", "3.1")


def read_outcomes(paths: Sequence[Path]) -> Outcomes:
    """Read tables into one.

    A question listed twice, by its prompt (by its id where it has features), is one question; a
    model's scores on it are averaged.

    Raises:
        DataError: a file is missing or unreadable, a column is missing, a value is invalid, or
            some tables have prompts and others features.
        TooFewOutcomes: no rows.
    """
    frame = pd.concat([_read(path) for path in paths], ignore_index=True)
    if frame.empty:
        raise TooFewOutcomes(f"{', '.join(map(str, paths))}: no rows; record some outcomes first")
    features, names = feature_rows(frame, ", ".join(map(str, paths)))
    key = frame["query_id"] if names else frame["prompt"].map(normalised)
    frame = frame.assign(question=pd.factorize(key)[0])
    firsts = frame.drop_duplicates("question").sort_values("question")
    score = _by_question(frame, "score")
    cost = _by_question(frame, "cost_usd").reindex(index=score.index, columns=score.columns)
    confidence = np.zeros((0, 0))
    if frame["confidence"].notna().to_numpy().any():
        values = _by_question(frame, "confidence")
        values = values.reindex(index=score.index, columns=score.columns)
        confidence = values.to_numpy(dtype=np.float64)
    return Outcomes(
        query_ids=tuple(firsts["query_id"].astype(str)),
        prompts=("",) * len(firsts) if names else tuple(firsts["prompt"]),
        groups=tuple(firsts["group"].fillna("").astype(str)),
        models=tuple(str(model) for model in score.columns),
        score=score.to_numpy(dtype=np.float64),
        cost_usd=cost.to_numpy(dtype=np.float64),
        features=features[firsts.index] if names else features,
        feature_names=names,
        confidence=confidence,
    )


def read_pool(paths: Sequence[Path], apart_from: Sequence[str]) -> Outcomes:
    """Read the outcomes of a pool: all models but those that a router is trained for.

    Args:
        paths: tables, read into one.
        apart_from: models whose own answers must not help to predict them.

    Raises:
        DataError: see ``read_outcomes``; features in place of prompts; no other model.
        TooFewOutcomes: fewer questions than ``LEAST_IN_POOL``.
    """
    table = read_outcomes(paths)
    files = ", ".join(map(str, paths))
    if table.has_features:
        raise DataError(f"{files}: a pool is of prompts; the table has features")
    trained = set(map(same_model, apart_from))
    others = [model for model in table.models if same_model(model) not in trained]
    if not others:
        raise DataError(
            f"{files}: a pool needs outcomes of other models than {', '.join(apart_from)}, "
            "which the router is trained for"
        )
    pool = table.only(others)
    if len(pool) < LEAST_IN_POOL:
        raise TooFewOutcomes(
            f"{files}: {len(pool)} questions of {', '.join(others)} are too few for a pool (at "
            f"least {LEAST_IN_POOL}); leave --pool out to use the pool that ships"
        )
    return pool


def read_queries(path: Path, names: Sequence[str]) -> tuple[list[str], Floats]:
    """Read query ids and features only, each id once, in the file's order.

    Raises:
        DataError: the file or one of the two columns is missing, or it has other features.
    """
    frame = _load(path, columns=["query_id", "features"])
    _require(path, frame, ("query_id", "features"))
    features, columns = feature_rows(frame, str(path), names)
    check_names(path, columns, names)
    first = ~frame["query_id"].duplicated().to_numpy()
    return frame["query_id"][first].astype(str).tolist(), features[first]


def check_names(path: Path, names: Sequence[str], trained: Sequence[str]) -> None:
    """Check that a table's features are those of a router.

    Raises:
        DataError: they differ.
    """
    if tuple(names) != tuple(trained):
        raise DataError(
            f"{path}: the features are {', '.join(names)}; the router was trained on "
            f"{', '.join(trained)}"
        )


def read_prompts(path: Path) -> tuple[list[str], list[str]]:
    """Read query ids and prompts only, each id once, in the file's order.

    Raises:
        DataError: the file or one of the two columns is missing.
        TooFewOutcomes: no rows.
    """
    frame = _load(path, columns=["query_id", "prompt"])
    _require(path, frame, ("query_id", "prompt"))
    _check_prompts(path, frame)
    _check_ids(path, frame)
    frame = frame.drop_duplicates("query_id")
    if frame.empty:
        raise TooFewOutcomes(f"{path}: no rows; there is nothing to predict")
    return frame["query_id"].astype(str).tolist(), frame["prompt"].tolist()


def _by_question(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    return frame.pivot_table(index="question", columns="model", values=column, aggfunc="mean")


def _read(path: Path) -> pd.DataFrame:
    frame = _load(path)
    query = "features" if "features" in frame and "prompt" not in frame else "prompt"
    _require(path, frame, ("query_id", query, "model", "score"))
    if query == "prompt":
        _check_prompts(path, frame, blank=False)
    for column in _MEASURED:
        if column not in frame:
            frame[column] = np.nan
    if "group" not in frame:
        frame["group"] = ""
    _check_ids(path, frame)
    _check_score(path, frame)
    _check_confidence(path, frame)
    columns = [query if name == "prompt" else name for name in COLUMNS]
    return frame.reindex(columns=columns)


def _load(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    if not path.is_file():
        problem = "is a folder; name one file in it" if path.is_dir() else "no such file"
        raise DataError(f"{path}: {problem}")
    try:
        if path.suffix in (".jsonl", ".ndjson"):
            frame = pd.read_json(path, lines=True, dtype={"query_id": str})
            return frame if len(frame) else pd.DataFrame(columns=list(columns or COLUMNS))
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
            unused = [c for c in frame if columns is not None and c not in columns]
            return frame.drop(columns=unused)
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    raise DataError(f"{path}: unknown kind {path.suffix!r}; give a .parquet or a .jsonl file")


def _require(path: Path, frame: pd.DataFrame, columns: Sequence[str]) -> None:
    for column in columns:
        if column not in frame:
            raise DataError(
                f"{path}: column {column!r} is missing; a table has the columns "
                f"{', '.join(COLUMNS)} (group and the last four may be left out)"
            )


def _check_prompts(path: Path, frame: pd.DataFrame, *, blank: bool = True) -> None:
    """Check that prompts are text, and not blank unless allowed. Messages count rows from 1."""
    for row, prompt in enumerate(frame["prompt"], start=1):
        if not isinstance(prompt, str):
            raise DataError(f"{path}: row {row}: column 'prompt' is not text; drop or fill it")
        if not (blank or prompt.strip()):
            raise DataError(f"{path}: row {row}: column 'prompt' is blank; drop or fill it")


def _check_ids(path: Path, frame: pd.DataFrame) -> None:
    """Check that no id or model is empty, and that each id stands for one prompt."""
    for column in ("query_id", "model"):
        if column in frame and (empty := np.flatnonzero(frame[column].isna())).size:
            row = empty[0] + 1
            raise DataError(f"{path}: row {row}: column {column!r} is empty; drop or fill it")
    if "prompt" not in frame:
        return
    prompts: dict[str, str] = {}
    for query_id, prompt in zip(frame["query_id"].astype(str), frame["prompt"], strict=True):
        if prompts.setdefault(query_id, prompt) != prompt:
            raise DataError(
                f"{path}: query_id {query_id!r} stands for different prompts; give each its own"
            )


def _check_score(path: Path, frame: pd.DataFrame) -> None:
    score = np.asarray(pd.to_numeric(frame["score"], errors="coerce"), dtype=np.float64)
    invalid = np.flatnonzero(~((score >= 0.0) & (score <= 1.0)))
    if len(invalid):
        row = int(invalid[0])
        raise DataError(
            f"{path}: row {row + 1}: column 'score' is {frame['score'].iloc[row]}; "
            "a score is a number from 0 (useless) to 1 (good)"
        )
    frame["score"] = score


def _check_confidence(path: Path, frame: pd.DataFrame) -> None:
    column = frame["confidence"]
    confidence = np.asarray(pd.to_numeric(column, errors="coerce"), dtype=np.float64)
    valid = column.isna().to_numpy() | ((confidence >= 0.0) & (confidence <= 1.0))
    invalid = np.flatnonzero(~valid)
    if len(invalid):
        row = int(invalid[0])
        raise DataError(
            f"{path}: row {row + 1}: column 'confidence' is {column.iloc[row]}; it is a number "
            "from 0 (guesses) to 1 (sure), or empty"
        )
    frame["confidence"] = confidence
