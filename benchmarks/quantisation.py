"""Which precision of the chat model still writes sense, and what each costs.

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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.passages import PASSAGES, QUESTIONS
from benchmarks.provenance import save
from runners.engines.onnx_genai import GenAIDecoder
from runners.export.smollm2 import write_transformers
from runners.export.smollm2_genai import run_builder
from turnout.types import Message

REFERENCE = "fp32"
_APART = "shared_embeddings=false"
_HEAD8 = "matmul_mixed_precision=last_matmul:int8"
_ASYMMETRIC = "is_symmetric=false"
VARIANTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    REFERENCE: ("fp32", ()),
    "int8": ("int8", ()),
    "int8, fp32 activations": ("int8", ("accuracy_level=1",)),
    "int4": ("int4", ()),
    "int4, block 16": ("int4", ("block_size=16",)),
    "int4, embedding apart": ("int4", (_APART,)),
    "int4, head int8": ("int4", (_APART, _HEAD8)),
    "int4, head int8, asymmetric": ("int4", (_APART, _HEAD8, _ASYMMETRIC)),
    "int4, head int8, asymmetric, block 16": (
        "int4",
        (_APART, _HEAD8, _ASYMMETRIC, "block_size=16"),
    ),
    "int4 k-quant, head int8": ("int4", (_APART, _HEAD8, "algo_config=k_quant")),
    "int4 k-quant, head and sensitive layers int8": (
        "int4",
        (_APART, _HEAD8 + ",mixed_layers:int8", "algo_config=k_quant"),
    ),
}
"""The model builder's precision and extra options of each variant."""

_ANSWER_TOKENS = 96
_SPEED_TOKENS = 48
_SPEED_BATCHES = (1, 4)


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one variant.

    Attributes:
        perplexity: on the passages, lower is better.
        agreement: share of the reference's own greedy tokens that this variant would also write.
        right: questions whose answer holds the expected word.
        repetition: share of the answers' 4-grams that occurred before in the same answer.
        distinct_answers: answers that are not the reference's, word for word.
        tokens_per_s_1: decoding one sequence; ``_4``: four at once, all together.
        size_mb: of graph and weights.
        build_s: by the model builder.
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
    build_s: float


def measure(
    variant: str, folder: Path, threads: int, reference: Sequence[Sequence[int]] | None
) -> tuple[Row, list[list[int]], list[str]]:
    """Measure one built variant; also returns its greedy answers as tokens and as text."""
    decoder = GenAIDecoder(
        variant, folder, slots=max(_SPEED_BATCHES), threads=threads, context_tokens=1024
    )
    answers = [_answer(decoder, _prompt(decoder, question)) for question, _ in QUESTIONS]
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
        build_s=0.0,
    )
    return row, answers, texts


def repetition(tokens: Sequence[int], length: int = 4) -> float:
    """Share of n-grams that have occurred before in the same text."""
    grams = [tuple(tokens[i : i + length]) for i in range(len(tokens) - length + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _prompt(decoder: GenAIDecoder, question: str) -> list[int]:
    return decoder.tokenizer.encode([Message("user", question)])


def _answer(decoder: GenAIDecoder, prompt: Sequence[int]) -> list[int]:
    """Write greedily."""
    written: list[int] = []
    token = int(decoder.prefill(0, prompt, 0).argmax())
    while token not in decoder.tokenizer.ends and len(written) < _ANSWER_TOKENS:
        written.append(token)
        token = int(decoder.decode([token], [len(prompt) + len(written) - 1])[0].argmax())
    return written


def _perplexity(decoder: GenAIDecoder) -> float:
    """Exp of the mean negative log-likelihood of the passages, token by token."""
    losses: list[float] = []
    for passage in PASSAGES:
        tokens = decoder.tokenizer.encode([Message("user", passage)])
        logits = decoder.prefill(0, tokens[:1], 0)
        for place, token in enumerate(tokens[1:], start=1):
            losses.append(_log_sum_exp(logits) - float(logits[token]))
            logits = decoder.decode([token], [place])[0]
    return math.exp(float(np.mean(losses)))


def _agreement(decoder: GenAIDecoder, expected: Sequence[Sequence[int]]) -> float:
    """Teacher forcing: would the same next token be written after the same text?"""
    same = count = 0
    for (question, _), answer in zip(QUESTIONS, expected, strict=True):
        prompt = _prompt(decoder, question)
        logits = decoder.prefill(0, prompt, 0)
        for place, token in enumerate(answer):
            same += int(logits.argmax()) == token
            count += 1
            logits = decoder.decode([token], [len(prompt) + place])[0]
    return same / count


def _speed(decoder: GenAIDecoder, sequences: int) -> float:
    """Tokens a second of all sequences together, the best of three runs."""
    prompt = _prompt(decoder, QUESTIONS[0][0])
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
    parser.add_argument("--only", nargs="*", help="variants beside the reference")
    arguments = parser.parse_args()
    rows: list[Row] = []
    samples: dict[str, list[str]] = {}
    reference: list[list[int]] | None = None
    print("perplexity  agree  right  repeat  differ  tok/s x1  x4     MB  variant")
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "transformers"
        source.mkdir()
        write_transformers(source, lambda line: None)
        for name, (precision, extra) in VARIANTS.items():
            if arguments.only is not None and name not in {*arguments.only, REFERENCE}:
                continue
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                out = Path(folder) / "out"
                started_s = time.monotonic()
                run_builder(source, out, Path(folder) / "cache", precision, extra)
                build_s = round(time.monotonic() - started_s, 1)
                row, answers, texts = measure(name, out, arguments.threads, reference)
                gc.collect()
            reference = reference or answers
            samples[name] = texts[:3]
            rows.append(Row(**{**asdict(row), "build_s": build_s}))
            _print(rows[-1])
    save(arguments.json, {"rows": [asdict(row) for row in rows], "first_answers": samples})


def _print(row: Row) -> None:
    print(
        f"{row.perplexity:10.3f} {row.agreement:6.3f} {row.right:3}/{row.questions} "
        f"{row.repetition:6.3f} {row.distinct_answers:6} {row.tokens_per_s_1:9.1f} "
        f"{row.tokens_per_s_4:6.1f} {row.size_mb:6.0f}  {row.variant}",
        flush=True,
    )


if __name__ == "__main__":
    main()
