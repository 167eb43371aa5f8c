"""Measure prompt-lookup decoding (``draft_tokens``): one answer at a time, with and without.

    python -m benchmarks.guessing --json benchmarks/results/guessing.json

Two kinds of prompts on the chat models of ``benchmarks/generation.yaml``: questions, whose answers
say new things, and texts to be said again or put into JSON, whose answers repeat the prompt. Each
prompt is answered with every number of guesses in turn, greedily, by engines of their own, so that
whatever else the machine does hits all. Answers are compared token by token.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.passages import PASSAGES
from benchmarks.provenance import save
from benchmarks.servers import PROJECT
from runners.engines import make
from services.artifacts.store import resolve
from turnout.catalog import Model, load
from turnout.types import Generation, Message

GUESSES: tuple[int, ...] = (0, 2, 4, 8)
KINDS = {
    "questions": [
        f"Tell me three facts about {topic}." for topic in ("bees", "tea", "owls", "salt")
    ],
    "repeats": [f"Repeat this text word for word: {passage[:300]}" for passage in PASSAGES[:4]],
}


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--catalog", type=Path, default=PROJECT / "benchmarks/generation.yaml")
    arguments.add_argument("--models", nargs="*", default=["smollm2-int8", "smollm2-fp32"])
    arguments.add_argument("--tokens", type=int, default=64, help="written by each request")
    arguments.add_argument("--json", type=Path)
    given = arguments.parse_args()
    models = load(given.catalog).models
    result = {name: measure(name, models[name], given.tokens) for name in given.models}
    save(given.json, {"tokens": given.tokens, "models": result})


def measure(name: str, model: Model, tokens: int) -> dict[str, Any]:
    """Return tokens per second by prompt kind and draft length, and the equal answers."""
    runners = {guesses: _opened(name, model, guesses) for guesses in GUESSES}
    result: dict[str, Any] = {}
    for kind, prompts in KINDS.items():
        took_s = dict.fromkeys(GUESSES, 0.0)
        written = dict.fromkeys(GUESSES, 0)
        same = dict.fromkeys(GUESSES, 0)
        for prompt in prompts:
            answers = {guesses: _written(runners[guesses], prompt, tokens) for guesses in GUESSES}
            for guesses, (answer, spent_s) in answers.items():
                took_s[guesses] += spent_s
                written[guesses] += len(answer)
                same[guesses] += answer == answers[0][0]
        result[kind] = {
            str(guesses): {
                "tokens_per_s": round(written[guesses] / took_s[guesses], 1),
                "speedup": round(written[guesses] / took_s[guesses] / (written[0] / took_s[0]), 2),
                "answers_as_without": f"{same[guesses]} of {len(prompts)}",
            }
            for guesses in GUESSES
        }
        print(name, kind, result[kind])
    for runner in runners.values():
        runner.close()
    return result


def _opened(name: str, model: Model, guesses: int) -> Any:
    if model.artifact is None:
        raise ValueError(f"{name} has no files to run")
    options = model.runner.model_copy(update={"draft_tokens": guesses, "max_sequences": 1})
    runner: Any = make(name, model.model_copy(update={"runner": options}), resolve(model.artifact))
    runner.load()
    _written(runner, "Hello.", 8)
    return runner


def _written(runner: Any, prompt: str, tokens: int) -> tuple[Sequence[int], float]:
    """Return a greedy answer and the seconds from its first token to its last."""
    runner.add(Generation((Message("user", prompt),), max_tokens=tokens))
    answer: list[int] = []
    first_s = time.perf_counter()
    while True:
        for step in runner.step():
            if not answer:
                first_s = time.perf_counter()
            answer += step.piece.token_ids
            if step.piece.finish_reason is not None:
                return answer, time.perf_counter() - first_s


if __name__ == "__main__":
    main()
