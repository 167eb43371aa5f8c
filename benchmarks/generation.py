"""Tokens per second and time to first token of the chat engines, beside plain transformers.

    python -m benchmarks.generation --json benchmarks/results/generation.json

The reference is ``transformers.generate`` on the same machine in the same run, one request after
another, greedy, the same prompts and lengths. Models are the catalog's chat models (built by
``make setup``), each through its backend as a service calls it.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.provenance import save
from runners.engines import make
from runners.engines.threads import sleep_when_idle
from runners.generation import LocalText
from runners.protocol import TextRunner, Ticket
from services.store import resolve
from turnout.catalog import Model, load
from turnout.types import Generation, Message, Task

_STREAMS = (1, 4, 8)
_FAR_S = 1e9
_SUBJECTS = ("the sea", "bees", "iron", "Rome", "chess", "the moon", "salt", "trains")
PROMPTS = [f"Tell me three facts about {subject}." for subject in _SUBJECTS]


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--catalog", type=Path, default=Path("catalog/default.yaml"))
    arguments.add_argument("--tokens", type=int, default=48, help="written by each request")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--json", type=Path)
    given = arguments.parse_args()
    models = {
        name: (model, resolve(model.artifact))
        for name, model in load(given.catalog).models.items()
        if model.task is Task.CHAT and model.artifact is not None
    }
    transformers = next(f for m, f in models.values() if m.runner.engine == "deepspeed")
    result: dict[str, Any] = {"tokens": given.tokens, "threads": given.threads}
    result["transformers"] = reference(transformers, given.tokens, given.threads)
    print("transformers, one after another:", result["transformers"])
    for name, (model, folder) in models.items():
        result[name] = asyncio.run(measure(name, model, folder, given.tokens, given.threads))
        rate = result["transformers"]["tokens_per_s"]
        result[name]["speedup_of_8"] = round(result[name]["8"]["tokens_per_s"] / rate, 2)
        print(f"{name} ({model.runner.engine}):", result[name])
    save(given.json, result)


def reference(folder: Path, tokens: int, threads: int) -> Mapping[str, float]:
    """Plain ``transformers.generate`` over the prompts, one after another."""
    sleep_when_idle()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(threads)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    written, began_s, firsts_s = 0, 0.0, []
    for index, prompt in enumerate([PROMPTS[0], *PROMPTS]):
        if index == 1:  # the first one warms up
            written, began_s, firsts_s = 0, time.monotonic(), []
        asked: Any = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        size = asked["input_ids"].shape[1]
        with torch.inference_mode():
            answer = model.generate(**asked, max_new_tokens=tokens, do_sample=False)
            written += answer.shape[1] - size
    rate = written / (time.monotonic() - began_s)
    for prompt in PROMPTS[:3]:
        asked = tokenizer(prompt, return_tensors="pt")
        start_s = time.monotonic()
        with torch.inference_mode():
            model.generate(**asked, max_new_tokens=1, do_sample=False)
        firsts_s.append(time.monotonic() - start_s)
    return {"tokens_per_s": round(rate, 1), "ttft_ms": _ms(firsts_s)}


async def measure(
    name: str, model: Model, folder: Path, tokens: int, threads: int
) -> dict[str, Any]:
    """Throughput at each number of streams, and a real-time request beside bulk ones."""
    runner = model.runner.model_copy(update={"max_sequences": 9, "threads": threads})
    wide = model.model_copy(update={"runner": runner})

    def make_text() -> TextRunner:
        return make(name, wide, folder)  # type: ignore[return-value]

    backend = LocalText(name, make_text)
    await backend.start()
    active = backend.active
    result: dict[str, Any] = {}
    if active is not None:
        result["precision"] = active.precision
        result["load_s"] = round(active.load_s, 2)
    await _write(backend, PROMPTS[0], tokens, 0)
    for streams in _STREAMS:
        start_s = time.monotonic()
        runs = await asyncio.gather(
            *(_write(backend, prompt, tokens, 1) for prompt in PROMPTS[:streams])
        )
        took_s = time.monotonic() - start_s
        result[str(streams)] = {
            "tokens_per_s": round(sum(count for count, _ in runs) / took_s, 1),
            "ttft_ms": _ms([first_s for _, first_s in runs]),
        }
    result["realtime_ttft_ms"] = await _beside_bulk(backend)
    await backend.stop()
    return result


async def _beside_bulk(backend: LocalText) -> Mapping[str, float]:
    """Time to first token of a priority 0 request, alone and beside 8 running bulk streams."""
    alone = [(await _write(backend, prompt, 1, 0))[1] for prompt in PROMPTS[:5]]
    bulk = [asyncio.create_task(_write(backend, prompt, 400, 2)) for prompt in PROMPTS]
    while backend.load_now().running < len(PROMPTS) and not all(task.done() for task in bulk):
        await asyncio.sleep(0.01)
    beside = [(await _write(backend, prompt, 1, 0))[1] for prompt in PROMPTS[:5]]
    for task in bulk:
        task.cancel()
    await asyncio.gather(*bulk, return_exceptions=True)
    return {"alone": _ms(alone), "beside_8_bulk": _ms(beside)}


async def _write(backend: LocalText, prompt: str, tokens: int, priority: int) -> tuple[int, float]:
    """Tokens written, and seconds to the first of them."""
    generation = Generation((Message("user", prompt),), max_tokens=tokens)
    start_s = time.monotonic()
    first_s = 0.0
    count = 0
    async for piece in backend.generate(generation, Ticket(prompt, priority, _FAR_S)):
        first_s = first_s or time.monotonic() - start_s
        count += len(piece.token_ids)
    return count, first_s


def _ms(seconds: Sequence[float]) -> float:
    """Median, in milliseconds."""
    return round(statistics.median(seconds) * 1e3, 1)


if __name__ == "__main__":
    main()
