"""The trained routers of one gateway: the one that serves, a shadow, a canary.

Each has a folder. A router that appears there, or replaces another, is loaded beside the serving
one and takes over between two requests; one that cannot be read is refused and the old one stays.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from routing.decision.request_view import QualityEstimate
from routing.draws import Draws
from routing.quality import DEFAULT_ROUTER
from services.routers.canary import RouterCanary
from services.routers.prompts import LearnedPrompts, learned_prompts
from turnout.catalog import Catalog
from turnout.errors import ArtifactInvalid
from turnout.settings import Settings
from turnout.types import Task

logger = logging.getLogger("turnout.routers")

Name = Literal["current", "shadow", "canary"]
_FILES = ("router.json", "encoder.npz", "heads.npz")
Stamp = tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Part:
    """One of the routers.

    Attributes:
        folder: where it is.
        prompts: the loaded router; None before the first that can be read.
        digest: of its card, which holds the hashes of its weights.
        stamp: times and sizes of the files that were last tried.
        problem: why the last try was refused; None when it was not.
    """

    folder: Path
    prompts: LearnedPrompts | None = None
    digest: str = ""
    stamp: Stamp | None = None
    problem: str | None = None


class PromptRouters:
    """``routing.decision.request_view.PromptQuality`` over the routers of a gateway.

    Args:
        catalog: whose priors stand for models that a router was not trained on.
        current: folder of the one that serves; the one that ships when None.
        shadow: folder of one that decides beside it without being served.
        canary: folder of one that serves a share of requests.
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
        self._lock = threading.Lock()  # files are read on a thread, catalogs adopted beside it
        self._draws = Draws(seed)
        self._share = share
        self.canary = RouterCanary()
        given: dict[Name, Path | None] = {
            "current": current or DEFAULT_ROUTER,
            "shadow": shadow,
            "canary": canary,
        }
        self.parts: dict[Name, Part] = {
            name: Part(folder) for name, folder in given.items() if folder is not None
        }
        self.reload()
        problem = self.parts["current"].problem
        if problem is not None:
            raise ArtifactInvalid(problem)

    def adopt(self, catalog: Catalog) -> None:
        """Judge the models of this catalog from now on."""
        with self._lock:
            self._catalog = catalog
            for part in self.parts.values():
                if part.prompts is not None:
                    part.prompts = part.prompts.over(catalog)

    @property
    def shadow(self) -> LearnedPrompts | None:
        """The shadow router, if there is one that can be read."""
        part = self.parts.get("shadow")
        return None if part is None else part.prompts

    @property
    def share(self) -> float:
        """The canary's share now: 0 without one, or after it was found worse."""
        part = self.parts.get("canary")
        if part is None or part.prompts is None or self.canary.stopped is not None:
            return 0.0
        return self._share

    def judge(self, prompt: str, models: Sequence[str], *, fast: bool, key: str) -> QualityEstimate:
        """See ``PromptQuality.judge``."""
        share = self.share
        name: Name = "current"
        if share > 0.0 and self._draws.draw(f"canary {key}") < share:
            name = "canary"
        part = self.parts[name]
        if part.prompts is None:
            name, part = "current", self.parts["current"]
        prompts = part.prompts
        if prompts is None:
            raise ArtifactInvalid(f"router {part.folder} is not loaded")
        quality = prompts.quality(prompt, models, fast=fast)
        unknown = tuple(prompts.by_prior(models))
        return QualityEstimate(
            quality, prompts.features(prompt), part.digest, name, by_prior=unknown
        )

    def changed(self) -> bool:
        """Whether a folder holds other files than those last tried."""
        return any(stamp_of(part.folder, _FILES) != part.stamp for part in self.parts.values())

    def reload(self) -> dict[str, Any]:
        """Try what has changed; a router that cannot be read is refused and the old one stays."""
        for name, part in self.parts.items():
            stamp = stamp_of(part.folder, _FILES)
            if stamp == part.stamp and stamp is not None:
                continue
            if stamp is None and name != "current":
                with self._lock:
                    part.prompts, part.digest, part.problem, part.stamp = None, "", None, None
            else:
                self._load(name, part, stamp)
        return self.state()

    def state(self) -> dict[str, Any]:
        """Every router, the canary's share and the evidence against it."""
        chosen = self._candidates()
        return {
            "routers": {
                name: {
                    "folder": str(part.folder),
                    "digest": part.digest or None,
                    "problem": part.problem,
                    "judged_by_prior": part.prompts.by_prior(chosen) if part.prompts else [],
                }
                for name, part in self.parts.items()
            },
            "canary": {"share": self.share} | self.canary.state(),
        }

    def _candidates(self) -> list[str]:
        """Models that chat routes choose among, by name."""
        chats = [route for route in self._catalog.routes.values() if route.task is Task.CHAT]
        return sorted({name for route in chats for name in route.candidates})

    def _load(self, name: Name, part: Part, stamp: Stamp | None) -> None:
        try:
            prompts = learned_prompts(self._catalog, part.folder)
        except ArtifactInvalid as error:
            with self._lock:
                part.stamp, part.problem = stamp, str(error)
            stays = "" if part.prompts is None else ", the old one stays"
            logger.error("%s router refused%s: %s", name, stays, error)
            return
        digest = hashlib.sha256((part.folder / "router.json").read_bytes()).hexdigest()[:12]
        if digest != part.digest:
            if name != "shadow":
                self.canary = RouterCanary()
            logger.info("%s router is %s from %s", name, digest, part.folder)
        with self._lock:
            # A catalog may have been adopted while the files were read.
            part.prompts, part.digest = prompts.over(self._catalog), digest
            part.stamp, part.problem = stamp, None


def routers_for(catalog: Catalog, settings: Settings) -> PromptRouters | None:
    """The gateway's routers; None without a chat route that chooses, as they cost to load.

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
    """Whether a chat route has models to choose from."""
    routes = catalog.routes.values()
    return any(route.task is Task.CHAT and len(route.candidates) > 1 for route in routes)


def stamp_of(folder: Path, files: Sequence[str]) -> Stamp | None:
    """Times and sizes of a router's files; None while one is missing."""
    try:
        found = [(folder / name).stat() for name in files]
    except OSError:
        return None
    return tuple((one.st_mtime_ns, one.st_size) for one in found)
