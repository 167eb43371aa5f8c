"""Routes: names that stand for several candidate models, and how one of these is chosen."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from turnout.catalog.fields import ModelName, Name, Share, Strict
from turnout.types import Task

PolicyName: TypeAlias = Literal["cheapest", "best", "fastest", "cascade"]
"""The policies a route may name; ``routing/decision/policy.py`` has the function of each."""


class Cascade(Strict):
    """Answer cheap, escalate when the cheap answer's own confidence is low.

    Attributes:
        threshold: confidence under which the better model answers too: of an image the top-1
            probability, of a row the likelier outcome's, of a text exp(mean token log-probability).
        gain: with a trained router for this route (``TURNOUT_FEATURE_ROUTERS``): a row goes on
            where a second answer is expected to be good so much more often, given the row and the
            first answer's confidence. ``threshold`` is left for rows unlike those it learned from.
        judged_tokens: a text is judged by so many first tokens; by all of them when none is
            given, a stream then by its first 24. Nothing is sent before.
        classes: latency classes that cascade; all when none is given. The others take the
            ``cheapest`` that reaches the target.
    """

    threshold: Share
    gain: Annotated[float, Field(ge=-1.0, le=1.0)] | None = None
    judged_tokens: PositiveInt | None = None
    classes: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None

    def covers(self, latency_class: str) -> bool:
        """Return whether requests of this class cascade."""
        return self.classes is None or latency_class in self.classes


class Explore(Strict):
    """A share of requests goes to a feasible candidate drawn at random.

    So the log can tell how other models would have done.

    Attributes:
        share: of requests that chance decides.
        classes: latency classes that take part; all when none is given.
    """

    share: Annotated[float, Field(gt=0.0, le=0.5)]
    classes: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None

    def covers(self, latency_class: str) -> bool:
        """Return whether requests of this class take part."""
        return self.classes is None or latency_class in self.classes


class Route(Strict):
    """A name callers use instead of a model.

    Attributes:
        task: what every candidate does.
        candidates: model names, in no order of preference; of a model with versions its name
            (production, with the canary's share), ``NAME@production`` or ``NAME@VERSION``.
        latency_class: the class of a request that names none.
        policy: ``cheapest`` that reaches the target; ``best`` quality; ``fastest``; or
            ``cascade``, cheap first and escalate when unsure.
        target_quality: share of the best candidate's quality that is good enough, one number
            or one per latency class.
        target_holds: whether ``target_quality`` holds for ``each`` answer, or on ``average`` over
            answers, which is cheaper.
        min_quality: floor under which a candidate is not used.
        max_strong_share: most answers that may come from the candidate with the highest prior
            quality (with policy ``cascade``: rows that may escalate), held on average.
        budget_usd_per_hour: expected cost of this route's answers, held on average.
        learn_from_feedback: whether ``POST /v1/feedback`` corrects the expected quality.
        explore: whether and how often chance decides.
    """

    task: Task
    candidates: Annotated[tuple[ModelName, ...], Field(min_length=1)]
    latency_class: Name
    policy: PolicyName = "cheapest"
    target_quality: Share | dict[Name, Share] = 0.95
    target_holds: Literal["each", "average"] = "each"
    min_quality: Share = 0.0
    max_strong_share: Share | None = None
    budget_usd_per_hour: PositiveFloat | None = None
    learn_from_feedback: bool = False
    explore: Explore | None = None
    cascade: Cascade | None = None

    @field_validator("candidates")
    @classmethod
    def _candidates_differ(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("a candidate is listed twice")
        return value

    @model_validator(mode="after")
    def _cascade_has_settings(self) -> Route:
        if (self.policy == "cascade") != (self.cascade is not None):
            raise ValueError("policy: cascade and the key cascade go together")
        return self

    @property
    def steered(self) -> bool:
        """Whether feedback control holds a setting of this route."""
        return (
            self.max_strong_share is not None
            or self.budget_usd_per_hour is not None
            or self.target_holds == "average"
            or self.learn_from_feedback
        )

    def policy_for(self, latency_class: str) -> PolicyName:
        """The policy of a class."""
        if self.cascade is not None and not self.cascade.covers(latency_class):
            return "cheapest"
        return self.policy

    def target_for(self, latency_class: str) -> float:
        """Return the target of a class: its own entry, else the strictest one listed."""
        if isinstance(self.target_quality, dict):
            return self.target_quality.get(latency_class, max(self.target_quality.values()))
        return self.target_quality
