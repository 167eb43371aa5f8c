"""Compare the precisions of the chat model: quality of the text, speed and memory.

    python -m benchmarks.quantisation --json benchmarks/results/quantisation.json

Every variant is built from the same float32 weights and decoded token by token by the engine
that serves it. Float32 is the reference in the same run.
"""

from __future__ import annotations

import argparse
import gc
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.passages import PASSAGES, QUESTIONS
from benchmarks.provenance import save
from runners.engines.onnx_genai import GenAIDecoder
from runners.recipes.smollm2 import write_transformers
from runners.recipes.smollm2_genai import run_builder
from turnout.types import Message

REFERENCE = "fp32"
_APART = "shared_embeddings=false"
_HEAD8 = "matmul_mixed_precision=last_matmul:int8"
_ASYMMETRIC = "is_symmetric=false"
VARIANTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    REFERENCE: ("fp32", ()),
    "int8": ("int8", ()),
    "int8, asymmetric": ("int8", (_ASYMMETRIC,)),
    "int8, fp32 activations": ("int8", ("accuracy_level=1",)),
    "int4": ("int4", ()),
    "int4, head int8": ("int4", (_APART, _HEAD8)),
    "int4, head int8, asymmetric": ("int4", (_APART, _HEAD8, _ASYMMETRIC)),
    "int4 k-quant, head and sensitive layers int8": (
        "int4",
        (_APART, _HEAD8 + ",mixed_layers:int8", "algo_config=k_quant"),
    ),
}
"""The model builder's precision and extra options of each variant."""

_ANSWER_TOKENS = 96
_AGREEMENT_TOKENS = 40
_SPEED_TOKENS = 48
_SLOTS = 12


@dataclass(frozen=True, slots=True)
class Row:
    """The measurements of one variant.

    Attributes:
        perplexity: on the passages, lower is better.
        agreement: share of the reference's own greedy tokens that this variant would also write.
        right: questions whose answer holds the expected word.
        repetition: share of the answers' 4-grams that occurred before in the same answer.
        distinct_answers: answers that are not the reference's, word for word.
        tokens_per_s_1: decoding one sequence; ``_4``: four at once, all together.
        size_mb: of graph and weights.
        build_s: by the model builder; None when it was built before.
    """

    variant: str
    perplexity: float
    agreement: float
    right: int
    questions: int
    repetition: float
    distinct_answers: int
    tokens_per_s_1: float
    tokens_per_s_4: float
    size_mb: float
    build_s: float | None


def measure(
    variant: str, folder: Path, threads: int, reference: Sequence[Sequence[int]] | None
) -> tuple[Row, list[list[int]], list[str]]:
    """Measure one built variant; also return its greedy answers as tokens and as text."""
    decoder = GenAIDecoder(variant, folder, slots=_SLOTS, threads=threads, context_tokens=512)
    answers = _answers(decoder)
    texts = [decoder.tokenizer.decode(answer) for answer in answers]
    right = sum(
        word.lower() in text.lower() for text, (_, word) in zip(texts, QUESTIONS, strict=True)
    )
    expected = answers if reference is None else reference
    files = [path for path in folder.iterdir() if path.name.startswith("model.onnx")]
    row = Row(
        variant=variant,
        perplexity=round(_perplexity(decoder), 3),
        agreement=round(_agreement(decoder, expected), 4),
        right=right,
        questions=len(QUESTIONS),
        repetition=round(float(np.mean([repetition(answer) for answer in answers])), 4),
        distinct_answers=sum(a != list(b) for a, b in zip(answers, expected, strict=True)),
        tokens_per_s_1=round(_speed(decoder, 1), 1),
        tokens_per_s_4=round(_speed(decoder, 4), 1),
        size_mb=round(sum(path.stat().st_size for path in files) / 1e6, 1),
        build_s=None,
    )
    return row, answers, texts


def repetition(tokens: Sequence[int], length: int = 4) -> float:
    """Return the share of n-grams that occurred before in the same text."""
    grams = [tuple(tokens[i : i + length]) for i in range(len(tokens) - length + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _prompts(decoder: GenAIDecoder) -> list[list[int]]:
    return [decoder.tokenizer.encode([Message("user", question)]) for question, _ in QUESTIONS]


def _answers(decoder: GenAIDecoder) -> list[list[int]]:
    """Generate greedy answers, several at once."""
    answers: list[list[int]] = [[] for _ in QUESTIONS]

    def best(row: int, step: int, logits: np.ndarray) -> int | None:
        token = int(logits.argmax())
        if token in decoder.tokenizer.ends or step >= _ANSWER_TOKENS:
            return None
        answers[row].append(token)
        return token

    _walk(decoder, _prompts(decoder), best)
    return answers


def _agreement(decoder: GenAIDecoder, expected: Sequence[Sequence[int]]) -> float:
    """Return the share of equal next tokens after the same text (teacher forcing)."""
    same: list[bool] = []

    def forced(row: int, step: int, logits: np.ndarray) -> int | None:
        if step >= min(len(expected[row]), _AGREEMENT_TOKENS):
            return None
        same.append(int(logits.argmax()) == expected[row][step])
        return expected[row][step]

    _walk(decoder, _prompts(decoder), forced)
    return float(np.mean(same))


def _perplexity(decoder: GenAIDecoder) -> float:
    """Return the perplexity of the passages, token by token."""
    texts = [decoder.tokenizer.encode([Message("user", passage)]) for passage in PASSAGES]
    losses: list[float] = []

    def forced(row: int, step: int, logits: np.ndarray) -> int | None:
        if step + 1 >= len(texts[row]):
            return None
        token = texts[row][step + 1]
        losses.append(_log_sum_exp(logits) - float(logits[token]))
        return token

    _walk(decoder, [text[:1] for text in texts], forced)
    return math.exp(float(np.mean(losses)))


def _walk(
    decoder: GenAIDecoder,
    prompts: Sequence[Sequence[int]],
    choose: Callable[[int, int, np.ndarray], int | None],
) -> None:
    """Decode prompts, ``_SLOTS`` at a time; ``choose(row, step, logits)`` gives the next token."""
    for first in range(0, len(prompts), _SLOTS):
        rows = range(first, min(first + _SLOTS, len(prompts)))
        logits = [decoder.prefill(slot, prompts[row], 0)[-1] for slot, row in enumerate(rows)]
        lengths = [len(prompts[row]) for row in rows]
        step = 0
        while True:
            chosen = [choose(row, step, logits[slot]) for slot, row in enumerate(rows)]
            if all(token is None for token in chosen):
                break
            # An ended row writes over its own last place until the others have ended too.
            tokens = [0 if token is None else token for token in chosen]
            logits = list(decoder.decode(tokens, lengths))
            lengths = [n + (t is not None) for n, t in zip(lengths, chosen, strict=True)]
            step += 1


def _speed(decoder: GenAIDecoder, sequences: int) -> float:
    """Return the tokens per second of all sequences together, the best of three runs."""
    prompt = _prompts(decoder)[0]
    best_s = math.inf
    for _ in range(3):
        tokens = [int(decoder.prefill(slot, prompt, 0).argmax()) for slot in range(sequences)]
        started_s = time.perf_counter()
        for step in range(_SPEED_TOKENS):
            lengths = [len(prompt) + step] * sequences
            tokens = [int(token) for token in decoder.decode(tokens, lengths).argmax(axis=-1)]
        best_s = min(best_s, time.perf_counter() - started_s)
    return sequences * _SPEED_TOKENS / best_s


def _log_sum_exp(logits: np.ndarray) -> float:
    top = float(logits.max())
    return top + math.log(float(np.exp(logits - top, dtype=np.float64).sum()))


def main() -> None:
    """Build and measure every variant, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, help="keep the built variants here")
    parser.add_argument("--only", nargs="*", help="variants beside the reference")
    arguments = parser.parse_args()
    rows: list[Row] = []
    samples: dict[str, list[str]] = {}
    reference: list[list[int]] | None = None
    print("perplexity  agree  right  repeat  differ  tok/s x1  x4     MB  variant")
    with tempfile.TemporaryDirectory() as scratch:
        work = arguments.work or Path(scratch)
        for name, (precision, extra) in VARIANTS.items():
            if arguments.only is not None and name not in {*arguments.only, REFERENCE}:
                continue
            folder, build_s = _built(work, name, precision, extra)
            row, answers, texts = measure(name, folder, arguments.threads, reference)
            gc.collect()
            reference = reference or answers
            samples[name] = texts[:3]
            rows.append(Row(**{**asdict(row), "build_s": build_s}))
            _print(rows[-1])
    save(arguments.json, {"rows": [asdict(row) for row in rows], "first_answers": samples})


def _built(
    work: Path, name: str, precision: str, extra: tuple[str, ...]
) -> tuple[Path, float | None]:
    """Return the variant's folder and its build's seconds; None when it was already built."""
    folder = work / name.replace(" ", "_").replace(",", "")
    if (folder / "genai_config.json").is_file():
        return folder, None
    source = work / "transformers"
    if not source.is_dir():
        source.mkdir(parents=True)
        write_transformers(source, print)
    started_s = time.monotonic()
    run_builder(source, folder, work / "cache", precision, extra)
    return folder, round(time.monotonic() - started_s, 1)


def _print(row: Row) -> None:
    print(
        f"{row.perplexity:10.3f} {row.agreement:6.3f} {row.right:3}/{row.questions} "
        f"{row.repetition:6.3f} {row.distinct_answers:6} {row.tokens_per_s_1:9.1f} "
        f"{row.tokens_per_s_4:6.1f} {row.size_mb:6.0f}  {row.variant}",
        flush=True,
    )


if __name__ == "__main__":
    main()
