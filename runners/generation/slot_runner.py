"""The text runner every local engine shares: sequences in slots, advanced together.

The engine supplies a ``Decoder`` (forward passes over a cache with one slot a sequence); this
module decides which passes to make. Slots ``0..decoding-1`` are being written, in one batch; those
after them wait for their prompt to be read. A step is either one batch of decoding or one chunk
of one prompt, in turn, so a long prompt never holds up running answers for more than a chunk; the
two together stay within the token budget. Tokens of an answer that is written alone may be drafted
ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from runners.generation.decoder import Decoder
from runners.generation.prompt_lookup import PromptLookup
from runners.generation.sampling import Sampler, token_chance
from runners.generation.sequence_output import SequenceOutput, check, check_context
from runners.generation.tokenizer import Tokenizer
from runners.protocol import ActiveEngine, Step
from turnout.errors import InvalidRequest, RunFailed
from turnout.types import Generation, Piece, TokenChance

if TYPE_CHECKING:
    from runners.generation.json_constraint import JsonConstraint

_STEP_TOKENS = 128
_LEAST_CHUNK = 2


@dataclass(slots=True, eq=False)
class _Sequence:
    number: int
    prompt: list[int]
    generation: Generation
    answer: SequenceOutput
    sampler: Sampler
    constraint: JsonConstraint | None
    length: int
    lookup: PromptLookup | None
    last: int = 0


class SlotRunner:
    """A ``TextRunner`` over a decoder.

    Args:
        name: the model's name, for errors.
        max_sequences: answers written at the same time. The decoder is asked for one slot more,
            which is only used to exchange two.
        open_decoder: loads the model; called by ``load``.
        step_tokens: the most tokens of a step: one of each running answer, the rest of a prompt.
        draft_tokens: the most tokens drafted ahead of an answer that is written alone.
    """

    def __init__(
        self,
        name: str,
        max_sequences: int,
        open_decoder: Callable[[int], Decoder],
        step_tokens: int = _STEP_TOKENS,
        draft_tokens: int = 0,
    ) -> None:
        self._name = name
        self.max_sequences = max_sequences
        self._open = open_decoder
        self._step_tokens = step_tokens
        self._draft_tokens = draft_tokens
        self._decoder: Decoder | None = None
        self._slots: list[_Sequence] = []
        self._decoding = 0
        self._read_last = False
        self._next_number = 0

    def load(self) -> ActiveEngine:
        """Open the decoder; see ``Runner.load``."""
        self._decoder = self._open(self.max_sequences + 1)
        return self._decoder.active

    def close(self) -> None:
        """Free the model and its cache."""
        if self._decoder is not None:
            self._decoder.close()
        self._decoder = None
        self._slots.clear()
        self._decoding = 0

    def add(self, generation: Generation) -> int:
        """Put a sequence into a slot; its prompt is read by the steps that follow."""
        decoder = self._loaded()
        check(generation)
        tokenizer = decoder.tokenizer
        prompt = tokenizer.encode(generation.messages)
        room = check_context(prompt, decoder.context_tokens)
        constraint = _constraint(tokenizer, generation)
        if len(self._slots) >= self.max_sequences:
            raise RunFailed(self._name, f"all {self.max_sequences} slots are taken")
        held = decoder.rows.begin(len(self._slots), prompt)
        self._next_number += 1
        self._slots.append(
            _Sequence(
                self._next_number,
                prompt,
                generation,
                SequenceOutput(generation, tokenizer, len(prompt), room, held),
                Sampler(generation.temperature, generation.top_p, generation.seed),
                constraint,
                held,
                PromptLookup(prompt, self._draft_tokens) if self._draft_tokens else None,
            )
        )
        return self._next_number

    def step(self) -> Sequence[Step]:
        """Read one chunk of the newest prompt, or write one token of every answer, in turn."""
        decoder = self._loaded()
        waiting = len(self._slots) > self._decoding
        self._read_last = waiting and not (self._read_last and self._decoding)
        if self._read_last:
            return self._read(decoder)
        return self._write(decoder) if self._decoding else ()

    def remove(self, sequence: int) -> None:
        """Drop a sequence and free its slot at once. Unknown numbers are ignored."""
        slot = next((i for i, each in enumerate(self._slots) if each.number == sequence), None)
        if slot is not None:
            self._free(self._loaded(), slot)

    def _loaded(self) -> Decoder:
        if self._decoder is None:
            raise RunFailed(self._name, "is not loaded; call load first")
        return self._decoder

    def _read(self, decoder: Decoder) -> Sequence[Step]:
        slot = len(self._slots) - 1
        sequence = self._slots[slot]
        chunk = self._chunk(sequence)
        logits = self._guard(lambda: decoder.prefill(slot, chunk, sequence.length))
        sequence.length += len(chunk)
        decoder.rows.extend(slot, chunk)
        if sequence.length < len(sequence.prompt):
            return ()
        self._exchange(decoder, slot, self._decoding)
        self._decoding += 1
        return [self._advance(decoder, sequence, logits[-1])]

    def _chunk(self, sequence: _Sequence) -> list[int]:
        """Return what the budget allows of a prompt; leaves no single token (``LEFT_TO_READ``)."""
        size = max(self._step_tokens - self._decoding, _LEAST_CHUNK)
        if len(sequence.prompt) - sequence.length - size == 1:
            size = max(size - 1, _LEAST_CHUNK)
        return sequence.prompt[sequence.length : sequence.length + size]

    def _write(self, decoder: Decoder) -> Sequence[Step]:
        writing = self._slots[: self._decoding]
        if len(writing) == 1 and (draft := self._draft(decoder, writing[0])):
            return self._check(decoder, writing[0], draft)
        logits = self._guard(
            lambda: decoder.decode(
                [each.last for each in writing], [each.length for each in writing]
            )
        )
        for slot, sequence in enumerate(writing):
            sequence.length += 1
            decoder.rows.extend(slot, [sequence.last])
        # A finished sequence's slot is filled from the end: look at the last ones first.
        return [
            self._advance(decoder, sequence, logits[row])
            for row, sequence in reversed(list(enumerate(writing)))
        ][::-1]

    @staticmethod
    def _draft(decoder: Decoder, sequence: _Sequence) -> list[int]:
        if sequence.lookup is None:
            return []
        return sequence.lookup.propose(decoder.context_tokens - sequence.length - 1)

    def _check(self, decoder: Decoder, sequence: _Sequence, draft: list[int]) -> Sequence[Step]:
        """Read the last token and the draft after it in one pass; keep the accepted tokens.

        Each token is chosen from the model's own logits as ever, so a draft changes nothing but
        the number of passes.
        """
        tokens = [sequence.last, *draft]
        logits = self._guard(lambda: decoder.prefill(0, tokens, sequence.length, last=len(tokens)))
        steps: list[Step] = []
        for row, token in enumerate(tokens):
            sequence.length += 1
            decoder.rows.extend(0, [token])
            steps.append(self._advance(decoder, sequence, logits[row]))
            if sequence not in self._slots or tokens[row + 1 : row + 2] != [sequence.last]:
                break
        if sequence.lookup is not None:
            sequence.lookup.observe(len(steps) - 1)
        return steps

    def _advance(self, decoder: Decoder, sequence: _Sequence, logits: np.ndarray[Any, Any]) -> Step:
        if not np.isfinite(logits.max()):
            raise RunFailed(self._name, "the model's logits are not finite numbers")
        try:
            piece = self._piece(decoder.tokenizer, sequence, logits)
        except InvalidRequest as error:
            self._free(decoder, self._slots.index(sequence))
            return Step(sequence.number, error)
        if piece.finish_reason is not None:
            self._free(decoder, self._slots.index(sequence))
        return Step(sequence.number, piece)

    @staticmethod
    def _piece(tokenizer: Tokenizer, sequence: _Sequence, logits: np.ndarray[Any, Any]) -> Piece:
        """Choose the next token and add it to the answer."""
        generation, constraint = sequence.generation, sequence.constraint
        allowed = logits if constraint is None else constraint.allowed(logits)
        sequence.last = token = sequence.sampler.pick(allowed)
        if sequence.lookup is not None:
            sequence.lookup.push(token)
        chance: TokenChance | None = None
        if generation.logprobs:
            vocabulary = tokenizer.vocabulary()
            chance = token_chance(
                logits,
                token,
                generation.top_logprobs,
                lambda token: vocabulary.decode_bytes([token]),
            )
        complete = constraint is not None and constraint.accept(token)
        return sequence.answer.push(token, chance, complete=complete)

    def _free(self, decoder: Decoder, slot: int) -> None:
        """Fill the gap of a sequence with the last one being written, and that with the last one.

        Its row moves to the end, where a prompt with the same prefix may reuse it.
        """
        if slot < self._decoding:
            self._decoding -= 1
            self._exchange(decoder, slot, self._decoding)
            slot = self._decoding
        self._exchange(decoder, slot, len(self._slots) - 1)
        self._slots.pop()

    def _exchange(self, decoder: Decoder, first: int, second: int) -> None:
        decoder.rows.exchange(first, second)
        slots = self._slots
        slots[first], slots[second] = slots[second], slots[first]

    def _guard(self, forward: Callable[[], np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        try:
            return forward()
        except RunFailed:
            raise
        except Exception as error:
            # an engine may raise anything
            raise RunFailed(self._name, f"{type(error).__name__}: {error}") from error


def _constraint(tokenizer: Tokenizer, generation: Generation) -> JsonConstraint | None:
    if generation.json is None:
        return None
    # Imported here: llguidance takes 40 to 70 ms and 5 MiB, and few models are asked for JSON.
    from runners.generation.json_constraint import JsonConstraint

    return JsonConstraint(tokenizer.vocabulary(), generation.json)
