"""A task without conversion, for engines whose inputs and outputs are public tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from turnout.types import Tensors


class PassThrough:
    """Implements ``TensorTask`` for the ``fake`` engine."""

    def prepare(self, tensors: Tensors) -> Tensors:
        """Return the inputs unchanged."""
        return tensors

    def collate(self, requests: Sequence[Tensors]) -> Tensors:
        """Return the rows of all requests, in order."""
        return {
            name: np.concatenate([request[name] for request in requests]) for name in requests[0]
        }

    def finish(self, outputs: Tensors) -> Tensors:
        """Return the outputs unchanged."""
        return outputs

    def example(self, rows: int) -> Tensors | None:
        """Return None: the inputs of such an engine are unknown."""
        return None
