"""Memory of a pool's results on single prompts, beyond what the features predict.

A prompt is recognised by its key (``routing.features.key``); neither its text nor any model's
answer is kept. Two questions that read alike differ in how hard they are; where a pool was scored
on this very question, its results are better evidence than likeness to other questions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from routing.features.key import prompt_key

Floats = NDArray[np.float32]
STEPS = 32.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Surplus of each remembered prompt over its smooth factors.

    Attributes:
        keys: of all prompts the pool was scored on, shape (q,), uint64, each once.
        surplus: shape (q, k), int8, in ``1 / STEPS`` of a standard deviation; 0 where a table of
            the pool does not hold the prompt, or nothing may be remembered of it.
        nothing: shape (k,), zeros: the surplus of any other prompt.
        row_of: row of each key.
    """

    keys: NDArray[np.uint64]
    surplus: NDArray[np.int8]
    nothing: Floats = field(init=False, repr=False)
    row_of: Mapping[int, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Build the index that every look-up needs."""
        object.__setattr__(self, "nothing", np.zeros(self.surplus.shape[1], dtype=np.float32))
        object.__setattr__(self, "row_of", {key: row for row, key in enumerate(self.keys.tolist())})

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def width(self) -> int:
        """Number of values it holds of a prompt."""
        return self.surplus.shape[1]

    def was_asked(self, prompt: str) -> bool:
        """Return whether the pool was scored on this prompt, even if no surplus is remembered."""
        return prompt_key(prompt) in self.row_of

    def of(self, prompt: str) -> Floats:
        """Return the surplus of a prompt, shape (k,); zeros where it is not remembered."""
        return self.by_key(prompt_key(prompt)) if self.row_of else self.nothing

    def by_key(self, key: int) -> Floats:
        """Return the surplus of a key of ``prompt_key``; ``NO_KEY`` is never remembered."""
        row = self.row_of.get(key)
        return self.nothing if row is None else self.surplus[row] * np.float32(1.0 / STEPS)
