"""Traffic split between versions: a canary takes its share of production's requests.

The policy chooses among production versions as if there were no canary, so a trial changes neither
routing nor what the two versions are compared on. Where it chose production of a model with a
canary, a keyed hash of the session (or the request) then says which of the two answers: always the
same for a session, whichever process decides, and a larger share includes every session of a
smaller one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Literal

from routing.draws import Draws
from routing.rollout.canary import CanaryTest, Part
from turnout.catalog import Canary, Catalog, model_name
from turnout.types import Candidate, Decision


@dataclass(frozen=True, slots=True)
class Rollout:
    """One canary on trial.

    Attributes:
        name: of the model.
        production: the plain model of its production version.
        canary: the plain model of the version on trial.
        share: of production's requests that the canary answers.
        targets: the names that take part: the model itself, and the routes that name it.
        draws: draws one number a session or request.
        trial: the test of the canary.
    """

    name: str
    production: str
    canary: str
    share: float
    targets: frozenset[str]
    draws: Draws
    trial: CanaryTest

    def takes(self, target: str) -> bool:
        """Return whether requests of this route or model take part; none if the canary is worse."""
        return target in self.targets and self.trial.worse is None

    def draw(self, key: str) -> float:
        """Return the number drawn for a session or request, in [0, 1)."""
        return self.draws.draw(key)


@dataclass(frozen=True, slots=True)
class VersionDraw:
    """The version drawn for a decision.

    Attributes:
        rollout: the rollout.
        part: the version that the request was drawn for.
        draw: the number drawn.
        why_not: why production answers although the canary was drawn; None when it does not.
        fault: the loss that ``why_not`` counts as in the canary's test; None when it is not its
            fault.
        cold: whether the version was not loaded, so that its time is not counted.
    """

    rollout: Rollout
    part: Part
    draw: float
    why_not: str | None = None
    fault: Literal["failed", "late"] | None = None
    cold: bool = False

    @property
    def model(self) -> str:
        """The version that was drawn."""
        return self.rollout.canary if self.part == "canary" else self.rollout.production

    @property
    def policy_model(self) -> str:
        """The policy's choice: production."""
        return self.rollout.production

    @property
    def served(self) -> bool:
        """Whether the request goes to the canary."""
        return self.part == "canary" and self.why_not is None

    def propensity(self, model: str) -> float:
        """Return the probability of this version, given that the policy chose the model."""
        if self.why_not is not None:
            return float(model != self.rollout.canary)
        share = self.rollout.share
        if model == self.rollout.canary:
            return share
        return 1.0 - share if model == self.rollout.production else 1.0


def rollouts_of(catalog: Catalog, trials: Mapping[str, CanaryTest]) -> dict[str, Rollout]:
    """Return the canaries of a catalog under trial, by the model of their production version."""
    rollouts: dict[str, Rollout] = {}
    for name, versioned in catalog.versioned.items():
        if versioned.canary is None or name not in trials:
            continue
        rollout = _rollout(
            name, versioned.production, versioned.canary, versioned.routes, trials[name]
        )
        rollouts[rollout.production] = rollout
    return rollouts


def _rollout(
    name: str, production: str, canary: Canary, routes: Iterable[str], trial: CanaryTest
) -> Rollout:
    return Rollout(
        name,
        model_name(name, production),
        model_name(name, canary.version),
        canary.share,
        frozenset((name, *routes)),
        Draws(blake2b(f"canary {name}@{canary.version}".encode()).digest()),
        trial,
    )


def swapped(decision: Decision, drawn: VersionDraw, canary: Candidate | None) -> Decision:
    """Return the decision with the drawn version; a canary's first fallback is production.

    Args:
        decision: the policy's choice: production.
        drawn: the version drawn.
        canary: the canary as a candidate; None where production was drawn.
    """
    propensity = decision.propensity * drawn.propensity(drawn.model)
    if canary is None:
        return replace(decision, propensity=propensity)
    candidates = (*decision.candidates, canary)
    if drawn.why_not is not None:
        reason = f"{decision.reason}; its canary {canary.model} was drawn but {drawn.why_not}"
        return replace(decision, reason=reason, candidates=candidates)
    reason = (
        f"{canary.model} is on trial and answers {drawn.rollout.share:.3g} of the requests of "
        f"{drawn.rollout.name} (this one drew {drawn.draw:.3f}); {decision.reason}"
    )
    return replace(
        decision,
        model=canary.model,
        fallbacks=(decision.model, *decision.fallbacks),
        reason=reason,
        rule="canary",
        candidates=candidates,
        propensity=propensity,
    )
