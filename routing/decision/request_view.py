"""A request as the router sees it: its demand, its features, and each model's quality.

Two interfaces provide learned quality: ``PromptQuality`` for chat prompts, ``TensorQuality`` for
rows of numbers and pictures. Requests that neither covers use each model's prior.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from routing.latency import Demand
from turnout.catalog import Catalog
from turnout.types import Generation, Request, Task, Tensors

_CHARS_PER_TOKEN = 4.0
_EXPECTED_OUTPUT_TOKENS = 96.0


@dataclass(slots=True)
class QualityEstimate:
    """A trained router's estimate for a request.

    Attributes:
        quality: P(good answer) of each model, by name.
        features: the request's features, for the log.
        router: digest of the router.
        part: the router's part: ``current``, ``canary`` or ``features``.
        by_content: whether the estimate depends on the request's content.
        by_prior: models it was not trained on, judged from their priors.
    """

    quality: Mapping[str, float]
    features: dict[str, float]
    router: str
    part: str
    by_content: bool = True
    by_prior: tuple[str, ...] = ()


class PromptQuality(Protocol):
    """Calibrated quality of models for a prompt."""

    def judge(self, prompt: str, models: Sequence[str], *, fast: bool, key: str) -> QualityEstimate:
        """Judge a prompt.

        Args:
            prompt: the conversation's last user message, with what came before it.
            models: catalog names.
            fast: use the real-time tier.
            key: of the session, else of the request; equal keys are judged by the same router.
        """
        ...


class TensorQuality(Protocol):
    """Calibrated quality of models for rows of numbers and pictures."""

    def judge(self, request: Request, models: Sequence[str]) -> QualityEstimate | None:
        """Judge a request for these candidates; None where nothing was learned for it."""
        ...


@dataclass(slots=True)
class View:
    """A request as the router sees it; see ``routing.decision.router.Question``.

    ``by_content`` says that the quality depends on the input's content, not only on its size;
    ``router`` and ``part`` name the trained router that judged it, if there is one; ``by_prior``
    lists the models that it was not trained on.
    """

    demand: Demand
    input_tokens: float
    quality: Mapping[str, float]
    features: dict[str, float]
    by_content: bool = False
    router: str | None = None
    part: str | None = None
    by_prior: tuple[str, ...] = ()


class RequestAnalyzer:
    """Turns requests into views.

    Args:
        catalog: for priors and classes.
        prompts: quality for chat; None uses priors alone.
        tensors: quality for rows and pictures; None uses priors alone.
    """

    def __init__(
        self,
        catalog: Catalog,
        prompts: PromptQuality | None = None,
        tensors: TensorQuality | None = None,
    ) -> None:
        self._prompts = prompts
        self._tensors = tensors
        self._urgent = {name: c.priority == 0 for name, c in catalog.classes.items()}
        self._priors = {name: model.quality.prior for name, model in catalog.models.items()}

    def look(self, request: Request, models: Sequence[str]) -> View:
        """Return the view of a request for these candidates."""
        if isinstance(request.inputs, Generation):
            return self._look_at_chat(request, request.inputs, models)
        rows = float(len(next(iter(request.inputs.values()))))
        features = {"rows": rows} | _tensor_features(request.task, request.inputs)
        estimate = None if self._tensors is None else self._tensors.judge(request, models)
        if estimate is not None:
            view = View(Demand(rows), 0.0, estimate.quality, features, estimate.by_content)
            view.router, view.by_prior = estimate.router, estimate.by_prior
            return view
        return View(Demand(rows), 0.0, {name: self._priors[name] for name in models}, features)

    def _look_at_chat(
        self, request: Request, generation: Generation, models: Sequence[str]
    ) -> View:
        prompt = generation.messages[-1].content
        chars = sum(len(message.content) for message in generation.messages)
        tokens = max(chars / _CHARS_PER_TOKEN, 1.0)
        output_tokens = min(float(generation.max_tokens), _EXPECTED_OUTPUT_TOKENS)
        features = {"chars": float(chars), "turns": float(len(generation.messages))}
        view = View(Demand(tokens, output_tokens), tokens, {}, features, by_content=True)
        if self._prompts is None:
            view.quality = {name: self._priors[name] for name in models}
            return view
        fast = self._urgent.get(request.latency_class, False)
        key = request.session or request.id
        estimate = self._prompts.judge(prompt, models, fast=fast, key=key)
        view.quality, view.router, view.part = estimate.quality, estimate.router, estimate.part
        view.by_prior = estimate.by_prior
        view.features = features | estimate.features
        return view


def _tensor_features(task: Task, tensors: Tensors) -> dict[str, float]:
    if task is Task.IMAGE:
        sizes = [len(image) for image in tensors["image"]]
        return {"bytes": float(sum(sizes))}
    if task is Task.EMBED or task is Task.CLASSIFY_TEXT:
        return {"bytes": float(sum(len(text) for text in tensors["text"]))}
    return {}
