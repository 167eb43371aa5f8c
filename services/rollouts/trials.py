"""The trials that run in one process: a canary each, and the evidence on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from routing.rollout.canary import CanaryTest
from services.rollouts.aliases import AliasRow
from services.rollouts.store import Rows
from turnout.catalog import Canary


@dataclass(frozen=True, slots=True)
class Trial:
    """A canary on trial.

    Attributes:
        basis: of the model's aliases; see ``basis_of``.
        number: of the trials of this model.
        canary: the version, and its present share.
        test: the evidence.
    """

    basis: str
    number: int
    canary: Canary
    test: CanaryTest

    @property
    def is_passed(self) -> bool:
        """Whether the canary is to be promoted: it was shown to be sound on enough requests."""
        enough = self.canary.promote_after
        return (
            enough is not None
            and self.test.verdict == "sound"
            and self.test.requests["canary"] >= enough
        )


class Trials:
    """The running trials by model."""

    def __init__(self) -> None:
        self._trials: dict[str, Trial] = {}

    def __iter__(self) -> Iterator[tuple[str, Trial]]:
        """Models and their trials; a copy, as a trial may end meanwhile."""
        return iter(list(self._trials.items()))

    def get(self, name: str) -> Trial | None:
        """The trial of a model; None when it has none."""
        return self._trials.get(name)

    @property
    def tests(self) -> Mapping[str, CanaryTest]:
        """The evidence by model."""
        return {name: trial.test for name, trial in self}

    def update(self, rows: Rows, testers: int) -> None:
        """Have a trial for each canary: the one that runs, or a new one.

        Args:
            rows: the present aliases.
            testers: processes that each have a trial of the same canary.
        """
        self._trials = {
            name: self._continue(name, row, row.aliases.canary, testers)
            for name, row in rows.items()
            if row.aliases.canary is not None
        }

    def _continue(self, name: str, row: AliasRow, canary: Canary, testers: int) -> Trial:
        number = row.aliases.trials
        running = self._trials.get(name)
        if running is not None and (running.basis, running.number) == (row.basis, number):
            return replace(running, canary=canary)
        return Trial(row.basis, number, canary, CanaryTest(canary.rollback, testers))
