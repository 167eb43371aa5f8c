"""A gateway's trained routers of chat prompts: the serving one, a shadow, a canary.

Each has a folder, see ``reloader``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from routing.decision.request_view import QualityEstimate
from routing.draws import Draws
from routing.quality import DEFAULT_ROUTER, LearnedQuality, ModelPrior, load_router
from services.routers.canary import RouterCanary
from services.routers.reloader import Reloader, RouterFolder
from turnout.catalog import Catalog, split
from turnout.errors import ArtifactInvalid
from turnout.settings import Settings
from turnout.types import Task

Name = Literal["current", "shadow", "canary"]
_FILES = ("router.json", "encoder.npz", "heads.npz")


class LearnedPrompts:
    """``routing.decision.request_view.PromptQuality`` over a trained router.

    Args:
        catalog: gives priors and proxies of models the router was not trained on. Versions of a
            model share the head of its name.
        router: the trained router.
    """

    def __init__(self, catalog: Catalog, router: LearnedQuality) -> None:
        self._router = router
        self._priors = {
            name: ModelPrior(split(name)[0], model.quality.prior, model.quality.proxy)
            for name, model in catalog.models.items()
        }
        heads = set(router.models)
        self._without_head = frozenset(
            name
            for name, model in self._priors.items()
            if model.name not in heads and model.proxy not in heads
        )

    def by_prior(self, models: Iterable[str]) -> list[str]:
        """Return the models without a trained head, which are judged by their prior."""
        return [name for name in models if name in self._without_head]

    def over(self, catalog: Catalog) -> LearnedPrompts:
        """Return the same router over another catalog."""
        return LearnedPrompts(catalog, self._router)

    def quality(self, prompt: str, models: Sequence[str], *, fast: bool) -> Mapping[str, float]:
        """Return P(good answer) of each model, by name."""
        priors = [self._priors[name] for name in models]
        p_good = self._router.predict(prompt, priors, fast=fast)
        return {name: float(p) for name, p in zip(models, p_good, strict=True)}

    def features(self, prompt: str) -> dict[str, float]:
        """Return features for the log; ``routing.quality.explain`` explains a prompt on demand."""
        return {"prompt_chars": float(len(prompt))}


class PromptRouters:
    """``routing.decision.request_view.PromptQuality`` over the routers of a gateway.

    Args:
        catalog: gives the priors of models that a router was not trained on.
        current: folder of the serving router; None takes the one that ships.
        shadow: folder of a router that decides beside it without serving.
        canary: folder of a router that serves a share of requests.
        share: the canary's share.
        seed: of the canary's draws.

    Raises:
        ArtifactInvalid: the serving router cannot be read.
    """

    def __init__(
        self,
        catalog: Catalog,
        current: Path | None = None,
        *,
        shadow: Path | None = None,
        canary: Path | None = None,
        share: float = 0.05,
        seed: bytes = b"",
    ) -> None:
        self._catalog = catalog
        self._reloader = Reloader()
        self._draws = Draws(seed)
        self._share = share
        self.canary = RouterCanary()
        folders: dict[Name, Path | None] = {
            "current": current or DEFAULT_ROUTER,
            "shadow": shadow,
            "canary": canary,
        }
        self.parts: dict[Name, RouterFolder[LearnedPrompts]] = {
            name: RouterFolder(f"{name} router", folder, _FILES)
            for name, folder in folders.items()
            if folder is not None
        }
        self.reload()
        problem = self.parts["current"].problem
        if problem is not None:
            raise ArtifactInvalid(problem)

    def adopt(self, catalog: Catalog) -> None:
        """Predict for the models of this catalog from now on."""
        with self._reloader.lock:
            self._catalog = catalog
            for part in self.parts.values():
                if part.loaded is not None:
                    part.loaded = part.loaded.over(catalog)

    @property
    def shadow(self) -> LearnedPrompts | None:
        """The shadow router, if one is loaded."""
        part = self.parts.get("shadow")
        return None if part is None else part.loaded

    @property
    def share(self) -> float:
        """The canary's share now: 0 without one, or once it is shown to be worse."""
        part = self.parts.get("canary")
        if part is None or part.loaded is None or self.canary.worse is not None:
            return 0.0
        return self._share

    def judge(self, prompt: str, models: Sequence[str], *, fast: bool, key: str) -> QualityEstimate:
        """Judge a prompt; see ``PromptQuality.judge``."""
        share = self.share
        name: Name = "current"
        if share > 0.0 and self._draws.draw(f"canary {key}") < share:
            name = "canary"
        part = self.parts[name]
        if part.loaded is None:
            name, part = "current", self.parts["current"]
        prompts = part.loaded
        if prompts is None:
            raise ArtifactInvalid(f"router {part.folder} is not loaded")
        quality = prompts.quality(prompt, models, fast=fast)
        by_prior = tuple(prompts.by_prior(models))
        return QualityEstimate(
            quality, prompts.features(prompt), part.digest, name, by_prior=by_prior
        )

    def changed(self) -> bool:
        """Return whether a folder holds other files than those last tried."""
        return any(part.changed() for part in self.parts.values())

    def reload(self) -> dict[str, Any]:
        """Load routers whose files have changed; see ``Reloader``. Returns ``state``."""
        for name, part in self.parts.items():
            if name != "current" and part.stamp_now() is None:
                with self._reloader.lock:
                    part.loaded, part.digest, part.problem, part.stamp = None, "", None, None
            else:
                self._reloader.reload(
                    part, partial(load_router, part.folder), partial(self._adapt, name)
                )
        return self.state()

    def state(self) -> dict[str, Any]:
        """Return every router, the canary's share and the evidence against it."""
        chosen = self._candidates()
        return {
            "routers": {
                name: {
                    "folder": str(part.folder),
                    "digest": part.digest or None,
                    "problem": part.problem,
                    "judged_by_prior": part.loaded.by_prior(chosen) if part.loaded else [],
                }
                for name, part in self.parts.items()
            },
            "canary": {"share": self.share} | self.canary.state(),
        }

    def _candidates(self) -> list[str]:
        """Return the names of the models that chat routes choose among."""
        chats = [route for route in self._catalog.routes.values() if route.task is Task.CHAT]
        return sorted({name for route in chats for name in route.candidates})

    def _adapt(self, name: Name, router: LearnedQuality, digest: str) -> LearnedPrompts:
        if digest != self.parts[name].digest and name != "shadow":
            self.canary = RouterCanary()
        return LearnedPrompts(self._catalog, router)


def routers_for(catalog: Catalog, settings: Settings) -> PromptRouters | None:
    """Load the gateway's routers; None without a chat route that chooses, as loading is costly.

    Raises:
        ArtifactInvalid: the serving router cannot be read.
    """
    if not asks_router(catalog):
        return None
    return PromptRouters(
        catalog,
        settings.router,
        shadow=settings.shadow_router,
        canary=settings.canary_router,
        share=settings.canary_share,
        seed=os.urandom(16),
    )


def asks_router(catalog: Catalog) -> bool:
    """Return whether a chat route has models to choose from."""
    routes = catalog.routes.values()
    return any(route.task is Task.CHAT and len(route.candidates) > 1 for route in routes)
