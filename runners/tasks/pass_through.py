"""A task that changes nothing: for engines that take and give public tensors themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from turnout.types import Tensors


class PassThrough:
    """Implements ``TensorTask`` for the ``fake`` engine."""

    def prepare(self, tensors: Tensors) -> Tensors:
        """The inputs as they are."""
        return tensors

    def collate(self, requests: Sequence[Tensors]) -> Tensors:
        """The rows of all requests, in order."""
        return {name: np.concatenate([one[name] for one in requests]) for name in requests[0]}

    def finish(self, outputs: Tensors) -> Tensors:
        """The outputs as they are."""
        return outputs

    def example(self, rows: int) -> Tensors | None:
        """Nothing is known of what such an engine takes."""
        return None
