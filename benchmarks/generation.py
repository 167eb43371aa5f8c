"""Measure tokens per second and time to first token of the chat engines and of transformers.

    python -m benchmarks.generation --json benchmarks/results/generation.json

The reference is ``transformers.generate`` on the same machine in the same run, before and after
everything else, one request after another, greedy. Models are the chat models of
``benchmarks/generation.yaml``, each through its backend as a service calls it. No prompt is used
twice with one engine, for an engine does not read a prompt twice; what all prompts begin with (the
model's system prompt) it does have from the second one on, as in a service.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.provenance import save
from benchmarks.servers import PROJECT
from runners.backends.local_text import LocalText
from runners.engines import make
from runners.engines.threads import sleep_when_idle
from runners.protocol import TextRunner, Ticket
from services.artifacts.store import resolve
from turnout.catalog import Model, load
from turnout.types import Generation, Message, Task

TARGETS = {"speedup_of_8": 2.5, "speedup_of_1": 1.8, "realtime_ratio": 2.0}
_FAR_S = 1e9
_PAUSE_S = 0.3
_TOPICS = """
the sea, bees, iron, Rome, chess, the moon, salt, trains; glass, rivers, tea, Mars; owls, bread,
copper, wind; snow, horses, paper, Kyoto, ants, figs, sugar, foxes; silk, whales, clocks, maize,
Peru, lakes, coal, drums; cats
"""
_GROUPS = [
    [f"Tell me three facts about {topic.strip()}." for topic in group.split(",")]
    for group in _TOPICS.split(";")
]
EIGHT, FOUR, ONE, ALONE, BESIDE, FIRST = _GROUPS


@dataclass(frozen=True, slots=True)
class Written:
    """One generated answer.

    Attributes:
        tokens: what was written.
        first_s: seconds to the first of them.
        last_s: seconds to the last.
    """

    tokens: list[int]
    first_s: float
    last_s: float


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--catalog", type=Path, default=PROJECT / "benchmarks/generation.yaml")
    arguments.add_argument("--tokens", type=int, default=48, help="written by each request")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--only", nargs="*", help="these models, beside transformers")
    arguments.add_argument("--json", type=Path)
    given = arguments.parse_args()
    models = {
        name: (model, resolve(model.artifact))
        for name, model in load(given.catalog).models.items()
        if model.task is Task.CHAT and model.artifact is not None
    }
    folder = next(f for m, f in models.values() if m.runner.engine == "deepspeed")
    before = reference(folder, given.tokens, given.threads)
    print("transformers, one after another:", _said(before))
    measured = {
        name: asyncio.run(measure(name, model, where, given.tokens, given.threads))
        for name, (model, where) in models.items()
        if given.only is None or name in given.only
    }
    after = reference(folder, given.tokens, given.threads)
    print("transformers, one after another:", _said(after))
    result = {
        "tokens": given.tokens,
        "threads": given.threads,
        "targets": TARGETS,
        "transformers": {"before": _said(before), "after": _said(after)},
    } | {name: _compared(found, before, after) for name, found in measured.items()}
    for name in measured:
        print(name, result[name])
    save(given.json, result)


def reference(folder: Path, tokens: int, threads: int) -> list[Written]:
    """Run plain ``transformers.generate`` over the eight prompts, one after another."""
    sleep_when_idle()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(threads)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    answers: list[Written] = []
    for prompt in [*FIRST, *EIGHT]:  # the first one warms up
        asked: Any = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        size = asked["input_ids"].shape[1]
        start_s = time.monotonic()
        with torch.inference_mode():
            model.generate(**asked, max_new_tokens=1, do_sample=False)
            first_s = time.monotonic() - start_s
            start_s = time.monotonic()
            answer = model.generate(**asked, max_new_tokens=tokens, do_sample=False)
        took_s = time.monotonic() - start_s
        answers.append(Written(answer[0, size:].tolist(), first_s, took_s))
    return answers[len(FIRST) :]


async def measure(
    name: str, model: Model, folder: Path, tokens: int, threads: int
) -> dict[str, Any]:
    """Measure each number of streams, and real-time requests alone and beside bulk ones."""
    runner = model.runner.model_copy(update={"max_sequences": 9, "threads": threads})
    wide = model.model_copy(update={"runner": runner})

    def make_text() -> TextRunner:
        return make(name, wide, folder)  # type: ignore[return-value]

    backend = LocalText(name, make_text)
    await backend.start()
    active = backend.active
    result: dict[str, Any] = {"engine": model.runner.engine}
    if active is not None:
        result |= {"precision": active.precision, "load_s": round(active.load_s, 2)}
    await _write(backend, FIRST[0], tokens, 0)
    result["1"] = [await _write(backend, prompt, tokens, 1) for prompt in ONE]
    for prompts in (FOUR, EIGHT):
        together = (_write(backend, prompt, tokens, 1) for prompt in prompts)
        result[str(len(prompts))] = list(await asyncio.gather(*together))
    result["alone"] = await _now_and_then(backend, ALONE)
    result["beside"] = await _beside_bulk(backend)
    await backend.stop()
    return result


async def _beside_bulk(backend: LocalText) -> list[Written]:
    """Measure real-time requests beside 8 running bulk streams."""
    bulk = [asyncio.create_task(_write(backend, f"{prompt} Go on.", 400, 2)) for prompt in EIGHT]
    while backend.load_now().running < len(bulk) and not all(task.done() for task in bulk):
        await asyncio.sleep(0.01)
    beside = await _now_and_then(backend, BESIDE)
    for task in bulk:
        task.cancel()
    await asyncio.gather(*bulk, return_exceptions=True)
    return beside


async def _now_and_then(backend: LocalText, prompts: Sequence[str]) -> list[Written]:
    """Request one token of each prompt, at times independent of the engine's steps."""
    pauses = random.Random(7)
    answers: list[Written] = []
    for prompt in prompts:
        await asyncio.sleep(pauses.uniform(0.0, _PAUSE_S))
        answers.append(await _write(backend, prompt, 1, 0))
    return answers


async def _write(backend: LocalText, prompt: str, tokens: int, priority: int) -> Written:
    generation = Generation((Message("user", prompt),), max_tokens=tokens)
    start_s = time.monotonic()
    first_s = 0.0
    written: list[int] = []
    async for piece in backend.generate(generation, Ticket(prompt, priority, _FAR_S)):
        first_s = first_s or time.monotonic() - start_s
        written += piece.token_ids
    return Written(written, first_s, time.monotonic() - start_s)


def _compared(
    found: dict[str, Any], before: Sequence[Written], after: Sequence[Written]
) -> dict[str, Any]:
    """Return an engine's numbers with the reference's mean rate before and after."""
    plain = statistics.mean(_rate_in_turn(each) for each in (before, after))
    result = {key: found[key] for key in ("engine", "precision", "load_s") if key in found}
    rates = {"1": _rate_in_turn(found["1"])} | {
        key: sum(len(one.tokens) for one in found[key]) / max(one.last_s for one in found[key])
        for key in ("4", "8")
    }
    alone, beside = (_ms([one.first_s for one in found[key]]) for key in ("alone", "beside"))
    return result | {
        "tokens_per_s": {key: round(rate, 1) for key, rate in rates.items()},
        "speedup_of_1": round(rates["1"] / plain, 2),
        "speedup_of_8": round(rates["8"] / plain, 2),
        "realtime_ttft_ms": {"alone": alone, "beside_8_bulk": beside},
        "realtime_ratio": round(beside / alone, 2),
        "answers_as_the_reference": sum(
            ours.tokens == theirs.tokens[: len(ours.tokens)]
            for ours, theirs in zip(found["8"], before, strict=True)
        ),
    }


def _rate_in_turn(answers: Sequence[Written]) -> float:
    """Return the tokens per second of answers generated one after another."""
    return sum(len(one.tokens) for one in answers) / sum(one.last_s for one in answers)


def _said(answers: Sequence[Written]) -> dict[str, float]:
    return {
        "tokens_per_s": round(_rate_in_turn(answers), 1),
        "ttft_ms": _ms([one.first_s for one in answers]),
    }


def _ms(seconds: Sequence[float]) -> float:
    """Return the median, in milliseconds."""
    return round(statistics.median(seconds) * 1e3, 1)


if __name__ == "__main__":
    main()
