"""Construction of a data plane from a catalog: each model's backend by its placement.

``inline`` runs here, in the pool, on threads that all such models share. ``process`` is the
model's own BentoML service in another process, and ``remote`` any server by URL; both are
reached by open protocols, so a model can move unnoticed by its callers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from routing.decision.request_view import RequestAnalyzer
from runners.backends.local_tensors import LocalTensors, TensorOptions
from runners.backends.local_text import LocalText
from runners.batching.threads import WorkerThreads
from runners.engines import make as make_runner
from runners.pool import Pool
from runners.pool.eviction import ORDERS
from runners.protocol import RunTimes, TensorBackend, TensorRunner, TextBackend, TextRunner
from runners.tasks import TensorTask, load_task
from runners.tasks.pass_through import PassThrough
from services.artifacts.measured_quality import with_measured_quality
from services.artifacts.store import resolve, verify
from services.dataplane.data_plane import DataPlane
from services.dataplane.decision_log import DecisionLog
from services.fleet.fleet import Fleet, urgency_of
from services.fleet.memory_estimate import footprint
from services.fleet.profiles import Profiles
from services.metrics.metrics import Metrics
from services.process.startup import service_addresses, service_name
from services.routers.prompt_routers import routers_for
from turnout.catalog import Catalog, Model
from turnout.catalog.engines import OpenAI, OpenInference
from turnout.errors import ArtifactInvalid, LoadFailed
from turnout.settings import Settings
from turnout.types import Task

if TYPE_CHECKING:
    from services.routers.tensor_routers import TensorRouters

Classes: TypeAlias = Mapping[int, str]
_LOAD_LIMIT_S = 300.0
_NICE_A_RANK = 5
_WORKERS_A_CORE = 2


def compose(
    catalog: Catalog,
    settings: Settings,
    metrics: Metrics | None = None,
    *,
    kind: type[DataPlane] = DataPlane,
) -> DataPlane:
    """Build the plane of a catalog; nothing is loaded until ``fleet.start``.

    Args:
        catalog: the catalog.
        settings: paths of routers and logs.
        metrics: counts everything.
        kind: the class of the plane.
    """
    catalog = with_measured_quality(catalog)
    metrics = metrics or Metrics()
    addresses = service_addresses()
    classes = {entry.priority: name for name, entry in catalog.classes.items()}
    pool = Pool(
        catalog.gateway.budgets,
        urgency=urgency_of(catalog),
        order=ORDERS[catalog.gateway.eviction],
        came_up=metrics.came_up,
        went=metrics.went,
    )
    resources = LocalResources(pool)

    def make(name: str, model: Model, latency: RunTimes) -> TensorBackend | TextBackend:
        nice = _NICE_A_RANK * rank_of(catalog, name)
        return make_backend(name, model, latency, addresses, classes, resources, nice)

    fleet = Fleet(
        catalog,
        make,
        pool=pool,
        weigh=footprint,
        came_up=metrics.came_up,
        prior=Profiles.read().prior,
    )
    for name, member in fleet.members.items():
        beside = member.model.placement == "process" and service_name(name) in addresses
        member.measured_apart = beside
    routers, learned = routers_for(catalog, settings), _learned(catalog, settings)
    log = DecisionLog(
        settings.decision_log, prompts=settings.log_prompts, features=settings.log_features
    )
    judge = RequestAnalyzer(catalog, routers, learned)
    return kind(catalog, fleet, judge, metrics, log, routers=routers, learned=learned)


def _learned(catalog: Catalog, settings: Settings) -> TensorRouters | None:
    if not settings.feature_routers:
        return None
    # Imported here: a gateway without such routers does not pay for them at start.
    from services.routers.tensor_routers import TensorRouters

    return TensorRouters(catalog, settings.feature_routers)


@dataclass(frozen=True, slots=True)
class LocalResources:
    """The resources that the models of this process share.

    Attributes:
        pool: holds the loaded models.
        verified: folders whose files matched their hashes, which are not verified again when a
            model is loaded again.
    """

    pool: Pool
    verified: set[Path] = field(default_factory=set)
    _workers: dict[int, WorkerThreads] = field(default_factory=dict)

    def workers(self, nice: int) -> WorkerThreads:
        """Return the threads that models of one urgency run on; a few more than there are cores."""
        if nice not in self._workers:
            count = _WORKERS_A_CORE * (os.cpu_count() or 1)
            self._workers[nice] = WorkerThreads(count, f"model-nice-{nice}", nice)
        return self._workers[nice]


def make_backend(
    name: str,
    model: Model,
    latency: RunTimes,
    addresses: Mapping[str, str],
    classes: Classes,
    resources: LocalResources,
    nice: int = 0,
) -> TensorBackend | TextBackend:
    """Build the backend of one model, not yet loaded.

    Args:
        name: its catalog name.
        model: its catalog entry.
        latency: learns its run times.
        addresses: URL of each model that runs in a process of its own, by service name.
        classes: latency class to send to another server, by priority.
        nice: niceness of its threads; more for less urgent models.
        resources: shared by the models of this process.
    """
    runner = model.runner
    if runner.engine == "openai" or runner.engine == "open-inference":
        return _remote(name, model, runner, classes, turnout=False)
    address = addresses.get(service_name(name))
    if model.placement == "process" and address is not None:
        return _process(name, model, address, classes)
    if model.task is Task.CHAT:
        return _local_text(name, model, resources)
    return _local_tensors(name, model, latency, resources, nice)


def rank_of(catalog: Catalog, name: str) -> int:
    """Return a model's rank: 0 where a route of the most urgent class may choose it, then 1 ..."""
    ranks = sorted({latency_class.priority for latency_class in catalog.classes.values()})
    urgent = [
        ranks.index(catalog.classes[route.latency_class].priority)
        for route in catalog.routes_of(name)
    ]
    return min(urgent, default=len(ranks) - 1)


def _remote(
    name: str, model: Model, options: OpenAI | OpenInference, classes: Classes, *, turnout: bool
) -> TensorBackend | TextBackend:
    # Imported here: a catalog without remote models does not pay for an HTTP client at start.
    from runners.backends.remote import OpenAIBackend, OpenInferenceBackend

    if options.engine == "openai":
        return OpenAIBackend(name, options, classes=classes, turnout=turnout)
    return OpenInferenceBackend(name, options, model.task, classes=classes, turnout=turnout)


def _process(
    name: str, model: Model, address: str, classes: Classes
) -> TensorBackend | TextBackend:
    options = (
        OpenAI(engine="openai", url=address, model=name, timeout_s=_LOAD_LIMIT_S)
        if model.task is Task.CHAT
        else OpenInference(
            engine="open-inference", url=address, model=name, timeout_s=_LOAD_LIMIT_S
        )
    )
    return _remote(name, model, options, classes, turnout=True)


def _local_text(name: str, model: Model, resources: LocalResources) -> LocalText:
    def make() -> TextRunner:
        runner = make_runner(name, model, _folder(name, model, resources.verified))
        if not hasattr(runner, "step"):
            raise LoadFailed(name, f"engine {model.runner.engine!r} does not generate text")
        return runner  # type: ignore[return-value]

    return LocalText(name, make, max_queue=model.batching.max_queue, broke=resources.pool.give_up)


def _local_tensors(
    name: str, model: Model, latency: RunTimes, resources: LocalResources, nice: int
) -> LocalTensors:
    def make() -> tuple[TensorRunner, TensorTask]:
        folder = _folder(name, model, resources.verified)
        runner = make_runner(name, model, folder)
        if not hasattr(runner, "run"):
            raise LoadFailed(name, f"engine {model.runner.engine!r} does not run tensors")
        share = getattr(runner, "share", None)
        if share is not None and resources.pool.budgets:
            share()
        task = PassThrough() if folder is None else load_task(model.task, folder, model.dimensions)
        return runner, task  # type: ignore[return-value]

    return LocalTensors(
        name,
        make,
        latency,
        TensorOptions(
            max_rows=model.batching.max_rows,
            max_queue=model.batching.max_queue,
            max_run_s=model.limits.max_run_s,
            max_load_s=model.limits.max_load_s,
            heavy_prepare=model.task is Task.IMAGE,
            nice=nice,
            finite=not model.limits.allow_nan,
        ),
        # OpenMP keeps a team of threads for each thread that calls it, so PyTorch has its own.
        workers=None if model.runner.engine == "torch" else resources.workers(nice),
        hung=resources.pool.give_up,
    )


def _folder(name: str, model: Model, verified: set[Path]) -> Path | None:
    """Return the folder of a model's verified files; None when it has none.

    Raises:
        LoadFailed: the files were never built, are damaged, or their gate refused them.
    """
    if model.artifact is None:
        return None
    try:
        folder = resolve(model.artifact)
        if folder not in verified:
            verify(folder)
            verified.add(folder)
        return folder
    except ArtifactInvalid as error:
        raise LoadFailed(name, str(error)) from error
