"""The interfaces of inference engines (runners), and of backends as the services see them.

Two layers:

* A **runner** is synchronous and owns one loaded model. ``TensorRunner.run`` maps tensors to
  tensors; ``TextRunner`` writes several answers at once, one token each a step. A runner is
  called from one thread at a time and knows nothing of queues, priorities or HTTP.
* A **backend** is asynchronous and is called by the services: it queues, batches and schedules a
  local runner, or speaks to a remote one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from runners.active import ActiveEngine
from turnout.errors import InvalidRequest
from turnout.types import Generation, Piece, Tensors


class Runner(Protocol):
    """One loaded model."""

    def load(self) -> ActiveEngine:
        """Load the model and return what really runs.

        Raises:
            LoadFailed: with what is wrong and what to do.
        """
        ...

    def close(self) -> None:
        """Free the resources of ``load``. Safe to call twice, or without ``load``."""
        ...


class TensorRunner(Runner, Protocol):
    """A model from tensors to tensors; the first axis of each is rows."""

    def run(self, tensors: Tensors) -> Tensors:
        """Run one batch.

        Args:
            tensors: the model's inputs by name, all with the same number of rows.

        Raises:
            RunFailed: the engine refused or failed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """A piece of a sequence, from ``TextRunner.step``; an error ends that sequence only."""

    sequence: int
    piece: Piece | InvalidRequest


class TextRunner(Runner, Protocol):
    """A generating model that advances all its sequences by one token a step.

    The iteration-level (continuous batching) contract: sequences join and leave between steps.
    """

    max_sequences: int

    def add(self, generation: Generation) -> int:
        """Start a sequence and return its number.

        Raises:
            InvalidRequest: the prompt does not fit the context, or is empty.
            RunFailed: the engine refused it.
        """
        ...

    def step(self) -> Sequence[Step]:
        """Advance every sequence by one token (or one prefill); finished ones leave by themselves.

        Raises:
            RunFailed: the engine failed; every sequence in it is lost.
        """
        ...

    def remove(self, sequence: int) -> None:
        """Drop a sequence and free its slot at once. Unknown numbers are ignored."""
        ...


@dataclass(slots=True)
class Ticket:
    """The urgency of a piece of work.

    Attributes:
        id: the request's id.
        priority: the latency class's; 0 is served first.
        deadline_s: monotonic instant after which the answer is useless.
    """

    id: str
    priority: int
    deadline_s: float


@dataclass(slots=True)
class BackendLoad:
    """A backend's present load, for the latency prediction.

    Attributes:
        queued: pieces of work waiting.
        running: pieces of work in the engine now.
        queued_rows: rows waiting.
    """

    queued: int = 0
    running: int = 0
    queued_rows: int = 0


@dataclass(slots=True)
class TensorResult:
    """The outputs of a request, and how it ran.

    Attributes:
        tensors: the public outputs.
        queue_s: wait before the run.
        run_s: the batch's run.
        batch: rows run together.
    """

    tensors: Tensors
    queue_s: float
    run_s: float
    batch: int


class RunTimes(Protocol):
    """The measured latency-versus-batch curve of a model."""

    def run_s(self, units: float) -> float:
        """Expected seconds of one run of ``units`` rows."""
        ...

    def observe_run(self, units: float, run_s: float) -> None:
        """Learn from one run."""
        ...


class Backend(Protocol):
    """The part that both kinds of backend share."""

    @property
    def active(self) -> ActiveEngine | None:
        """What runs; None before ``start`` has finished."""
        ...

    def load_now(self) -> BackendLoad:
        """The present load."""
        ...

    async def start(self) -> None:
        """Load the model (or reach the remote one).

        Raises:
            LoadFailed: with what is wrong and what to do.
        """
        ...

    async def stop(self) -> None:
        """Finish accepted work, then free everything."""
        ...


class TensorBackend(Backend, Protocol):
    """Answers tensors with tensors."""

    async def infer(self, tensors: Tensors, ticket: Ticket) -> TensorResult:
        """Run public inputs (see ``turnout.types.SIGNATURES``) and return public outputs.

        Raises:
            InvalidRequest: a row cannot be read (say, bytes that are no image).
            CapacityError: the queue is full, or the deadline passed in it.
            RunnerError: the run failed.
        """
        ...


class TextBackend(Backend, Protocol):
    """Writes text."""

    def generate(self, generation: Generation, ticket: Ticket) -> AsyncIterator[Piece]:
        """Write an answer, piece by piece; closing the iterator frees its slot at once.

        Raises:
            InvalidRequest: the prompt does not fit.
            CapacityError: the queue is full, or the deadline for the first token passed in it.
            RunnerError: the engine failed.
        """
        ...
