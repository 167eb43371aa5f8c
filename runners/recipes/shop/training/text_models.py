"""Train the models that read hashed text: two-tower embedders and classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from runners.tasks.hashed_ngrams import HashedNgrams

_BATCH = 512
_TEMPERATURE = 0.08
_LEARNING_RATE = 0.01


def train_embedder(
    pairs: tuple[Sequence[str], Sequence[str]], buckets: int, width: int, epochs: int = 4
) -> np.ndarray:
    """Train vectors such that a text is nearer to its partner than to others of its batch.

    Args:
        pairs: texts and their partners, equally many.
        buckets: the number of hashes of grams.
        width: the width of a vector.
        epochs: passes over the pairs.

    Returns:
        Table of gram vectors, float32 [buckets + 1, width]; row 0, padding, is zero.

    Source: van den Oord et al., "Representation Learning with Contrastive Predictive Coding".
    """
    torch.manual_seed(1)
    grams = HashedNgrams(buckets)
    left, right = (torch.from_numpy(grams.read(texts)["grams"]) for texts in pairs)
    table = torch.nn.Embedding(buckets + 1, width, padding_idx=0)
    torch.nn.init.normal_(table.weight, 0.0, 0.1)
    with torch.no_grad():
        table.weight[0] = 0.0  # padding is never trained, so it must start at zero
    optimiser = torch.optim.Adam(table.parameters(), lr=_LEARNING_RATE)
    same = torch.arange(_BATCH)
    with _one_thread():
        for _ in range(epochs):
            for rows in torch.randperm(len(left)).split(_BATCH):
                a, b = _unit(table(left[rows]).sum(1)), _unit(table(right[rows]).sum(1))
                likeness = a @ b.T / _TEMPERATURE
                loss = torch.nn.functional.cross_entropy(likeness, same[: len(rows)])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
    return _table(table)


def train_classifier(
    texts: Sequence[str], labels: np.ndarray, buckets: int, width: int, hidden: int, epochs: int = 4
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Train a classifier of texts.

    Args:
        texts: the texts.
        labels: int64 [n].
        buckets: the number of hashes of grams.
        width: the width of a text's vector.
        hidden: units of the hidden layer; 0 for none.
        epochs: passes over the texts.

    Returns:
        Table of gram vectors, float32 [buckets + 1, width], and the weight and bias of each layer.
    """
    torch.manual_seed(1)
    grams = torch.from_numpy(HashedNgrams(buckets).read(texts)["grams"])
    wanted = torch.from_numpy(labels)
    table = torch.nn.Embedding(buckets + 1, width, padding_idx=0)
    sizes = [width, *([hidden] if hidden else []), int(labels.max()) + 1]
    layers = [torch.nn.Linear(a, b) for a, b in pairwise(sizes)]
    parameters = [*table.parameters(), *(p for layer in layers for p in layer.parameters())]
    optimiser = torch.optim.Adam(parameters, lr=_LEARNING_RATE)
    with _one_thread():
        for _ in range(epochs):
            for rows in torch.randperm(len(grams)).split(_BATCH):
                value = _unit(table(grams[rows]).sum(1))
                for index, layer in enumerate(layers):
                    value = layer(torch.relu(value) if index else value)
                loss = torch.nn.functional.cross_entropy(value, wanted[rows], label_smoothing=0.02)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
    arrays = [[layer.weight.detach().T, layer.bias.detach()] for layer in layers]
    return _table(table), [part.contiguous().numpy() for pair in arrays for part in pair]


class _one_thread:
    """Limit PyTorch to one thread in a block: more threads on shared cores wait by spinning."""

    def __enter__(self) -> None:
        self._before = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._before)


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(vectors, dim=1)


def _table(table: torch.nn.Embedding) -> np.ndarray:
    return table.weight.detach().numpy().astype(np.float32)
