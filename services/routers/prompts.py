"""The learned quality of chat models: the trained router, asked by catalog name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from routing.quality import DEFAULT_ROUTER, LearnedQuality, ModelPrior, load_router
from turnout.catalog import Catalog, split


class LearnedPrompts:
    """``routing.decision.request_view.PromptQuality`` over a trained router.

    Args:
        catalog: whose priors and proxies stand for models the router was not trained on. Versions
            of a model share what was learned of its name.
        router: the trained router.
    """

    def __init__(self, catalog: Catalog, router: LearnedQuality) -> None:
        self._router = router
        self._priors = {
            name: ModelPrior(split(name)[0], model.quality.prior, model.quality.proxy)
            for name, model in catalog.models.items()
        }
        known = set(router.models)
        self._without_head = frozenset(
            name
            for name, model in self._priors.items()
            if model.name not in known and model.proxy not in known
        )

    def by_prior(self, models: Iterable[str]) -> list[str]:
        """Which of these models have no trained head and are judged by their prior."""
        return [name for name in models if name in self._without_head]

    def over(self, catalog: Catalog) -> LearnedPrompts:
        """The same router over another catalog."""
        return LearnedPrompts(catalog, self._router)

    def quality(self, prompt: str, models: Sequence[str], *, fast: bool) -> Mapping[str, float]:
        """P(good answer) of each model, by name."""
        priors = [self._priors[name] for name in models]
        judged = self._router.predict(prompt, priors, fast=fast)
        return {name: float(p) for name, p in zip(models, judged, strict=True)}

    def features(self, prompt: str) -> dict[str, float]:
        """What was seen of the prompt; the router's own explanation is made on demand."""
        return {"prompt_chars": float(len(prompt))}


def learned_prompts(catalog: Catalog, folder: Path | None = None) -> LearnedPrompts:
    """Load a trained router; the one that ships when no folder is given.

    Raises:
        ArtifactInvalid: the folder holds no router this version can read.
    """
    return LearnedPrompts(catalog, load_router(folder or DEFAULT_ROUTER))
