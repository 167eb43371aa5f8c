"""The trained routers of routes whose requests are rows of numbers or pictures.

``TURNOUT_FEATURE_ROUTERS`` names a folder for each such route, see ``reloader``. A router that was
trained on other features than the route's requests have is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from routing.decision.request_view import QualityEstimate
from routing.features.picture import NAMES
from routing.features.rows import has_features, rows_of
from routing.quality.feature_artifact import FILES, load_feature_router
from routing.quality.feature_quality import MAX_ROWS, FeatureQuality, RowPredictor, row_predictor
from services.routers.reloader import Reloader, RouterFolder
from turnout.catalog import Catalog, Route, trained_name
from turnout.errors import ArtifactInvalid, ConfigError
from turnout.types import Request, Task, Tensors

if TYPE_CHECKING:
    import numpy as np

Array: TypeAlias = "np.ndarray[Any, Any]"
PART = "features"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A router as one route uses it; replaced whole, since files are read on a thread.

    Attributes:
        quality: the router.
        predict_row: its prediction for one row.
        columns: the head of each candidate, by name; absent without one.
        settled: by latency class, the estimate where the content of a request can't change the
            choice, so that it is not read.
        digest: digest of its card, which holds the hash of its weights.
        by_prior: candidates without a head.
    """

    quality: FeatureQuality
    predict_row: RowPredictor
    columns: dict[str, int]
    settled: dict[str, QualityEstimate]
    digest: str
    by_prior: tuple[str, ...]


@dataclass(slots=True)
class RouteRouter(RouterFolder[Loaded]):
    """The router of one route.

    Attributes:
        route: the route whose requests it judges.
        catalog: the route's catalog.
    """

    route: Route = field(kw_only=True)
    catalog: Catalog = field(kw_only=True)


class TensorRouters:
    """``routing.decision.request_view.TensorQuality`` over the routers of a catalog's routes.

    Args:
        catalog: the catalog.
        folders: a router's folder by the name of its route.

    Raises:
        ConfigError: a name is no route whose requests have features.
        ArtifactInvalid: a router cannot be read.
    """

    def __init__(self, catalog: Catalog, folders: Mapping[str, Path]) -> None:
        self._folders = folders
        self._reloader = Reloader()
        self.parts: dict[str, RouteRouter] = {}
        self.adopt(catalog)
        if problems := [part.problem for part in self.parts.values() if part.problem]:
            raise ArtifactInvalid("\n".join(problems))

    def adopt(self, catalog: Catalog) -> None:
        """Judge the requests of this catalog's routes from now on.

        Raises:
            ConfigError: a name is no route whose requests have features. Nothing has changed.
        """
        if problems := self.problems(catalog):
            raise ConfigError("\n".join(problems))
        parts = {
            name: RouteRouter(
                f"router of route {name!r}",
                folder,
                FILES,
                route=catalog.routes[name],
                catalog=catalog,
            )
            for name, folder in self._folders.items()
        }
        with self._reloader.lock:
            for name, part in parts.items():
                old = self.parts.get(name)
                if old is None or old.loaded is None:
                    continue
                # A refused router is tried again: it may fit the route as it is now.
                part.stamp = old.stamp if old.problem is None else None
                part.digest = old.digest
                part.loaded = _adapt(part, old.loaded.quality, old.digest)
            self.parts = parts
        self.reload()
        self._by_target: dict[tuple[str, Task], RouteRouter] = {}
        for name, part in self.parts.items():
            task = part.route.task
            self._by_target[name, task] = part
            if catalog.route_for(task) == name:
                self._by_target["auto", task] = part

    def problems(self, catalog: Catalog) -> list[str]:
        """Return a line for each name that is no route of this catalog with features."""
        able = ", ".join(name for name, r in catalog.routes.items() if has_features(r.task))
        routes = catalog.routes
        return [
            f"TURNOUT_FEATURE_ROUTERS: {name!r} is no route of rows or pictures; there are "
            f"{able or 'none'}"
            for name in self._folders
            if name not in routes or not has_features(routes[name].task)
        ]

    def judge(self, request: Request, models: Sequence[str]) -> QualityEstimate | None:
        """Judge a request; see ``TensorQuality.judge``."""
        part = self._by_target.get((request.target, request.task))
        router = None if part is None else part.loaded
        if part is None or router is None:
            return None
        settled = router.settled.get(request.latency_class)
        if settled is not None and request.limits.min_quality is None:
            return settled
        rows = rows_of(request.task, cast("Tensors", request.inputs), MAX_ROWS)
        if rows.shape[1] != len(router.quality.names):
            return None
        one_row = len(rows) == 1
        p_good = router.predict_row(rows[0]) if one_row else router.quality.of_request(rows)
        quality = {name: p_good[column] for name, column in router.columns.items()}
        estimates = _with_priors(part, quality)
        return QualityEstimate(estimates, {}, router.digest, PART, by_prior=router.by_prior)

    def gains(
        self, route: str, request: Request, pair: tuple[str, str], confidence: Array
    ) -> Array | None:
        """Return the expected gain of a second answer to each row over the first one.

        Args:
            route: the route that decided.
            request: the request.
            pair: the model that answered, and the one that would answer again.
            confidence: shape (n,), of the first model in each row's answer.

        Returns:
            shape (n,); NaN for rows unlike those of the training. None where nothing was learned.
        """
        part = self.parts.get(route)
        quality = None if part is None or part.loaded is None else part.loaded.quality
        if quality is None:
            return None
        first, better = (trained_name(name, quality.models) for name in pair)
        if first is None or better is None or first not in quality.after:
            return None
        rows = rows_of(request.task, cast("Tensors", request.inputs), len(confidence))
        if rows.shape[1] != len(quality.names):
            return None
        return quality.gain_after(first, better, rows, confidence)

    def changed(self) -> bool:
        """Return whether a folder holds other files than those last tried."""
        return any(part.changed() for part in self.parts.values())

    def reload(self) -> None:
        """Load routers whose files have changed; see ``Reloader``."""
        for name, part in self.parts.items():
            self._reloader.reload(part, partial(_read, name, part), partial(_adapt, part))

    def state(self) -> dict[str, Any]:
        """Return every router's folder, problem, and classes whose requests are not read."""
        return {
            name: {
                "folder": str(part.folder),
                "digest": part.digest or None,
                "problem": part.problem,
                "settled_classes": list(part.loaded.settled) if part.loaded else [],
            }
            for name, part in self.parts.items()
        }


def _read(name: str, part: RouteRouter) -> FeatureQuality:
    """Read a router and check it against its route.

    Raises:
        ArtifactInvalid: it cannot be read, or does not fit the route.
    """
    quality = load_feature_router(part.folder)
    if not any(trained_name(model, quality.models) for model in part.route.candidates):
        raise ArtifactInvalid(
            f"router {part.folder}: has no head for a candidate of route {name!r}; it has "
            f"{', '.join(quality.models)}"
        )
    n_features = len(NAMES)
    if part.route.task is not Task.IMAGE:
        signature = part.catalog.signature_of(name)
        n_features = signature.inputs[0].shape[-1] if signature else -1
    if n_features not in (-1, len(quality.names)):
        raise ArtifactInvalid(
            f"router {part.folder}: was trained on {len(quality.names)} features; requests of "
            f"route {name!r} have {n_features}"
        )
    return quality


def _adapt(part: RouteRouter, quality: FeatureQuality, digest: str) -> Loaded:
    """Fit a router to its route: find the classes whose requests need not be read."""
    catalog, route = part.catalog, part.route
    columns = {
        model: quality.models.index(head)
        for model in route.candidates
        if (head := trained_name(model, quality.models)) is not None
    }
    base_rates = {name: float(quality.base_rate[column]) for name, column in columns.items()}
    without_head = tuple(model for model in route.candidates if model not in columns)
    estimate = QualityEstimate(
        _with_priors(part, base_rates), {}, digest, PART, by_content=False, by_prior=without_head
    )
    settled = {name: estimate for name in catalog.classes if _is_settled(part, quality, name)}
    return Loaded(quality, row_predictor(quality), columns, settled, digest, without_head)


def _is_settled(part: RouteRouter, quality: FeatureQuality, latency_class: str) -> bool:
    route, models = part.route, part.catalog.models
    if len(route.candidates) < 2 or quality.constant:
        return True
    policy = route.policy_for(latency_class)
    if policy in ("fastest", "cascade") and not route.steered:
        return True
    if policy != "cheapest" or route.steered or route.min_quality > 0:
        return False
    cost = {name: models[name].cost.usd_per_request for name in route.candidates}
    order = sorted(route.candidates, key=lambda name: cost[name])
    heads = [head for name in order if (head := trained_name(name, quality.models)) is not None]
    with_heads = len(heads) == len(order)
    return with_heads and quality.settled(heads, route.target_for(latency_class))


def _with_priors(part: RouteRouter, learned: dict[str, float]) -> dict[str, float]:
    models = part.catalog.models
    return {
        name: learned[name] if name in learned else models[name].quality.prior
        for name in part.route.candidates
    }
