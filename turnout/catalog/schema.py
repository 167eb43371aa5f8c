"""The catalog's schema: latency classes, models and gateway limits, as strict pydantic models.

Each model refuses unknown keys and impossible values of its own. ``consistency`` checks what one
entry says against the others; ``catalog.Catalog`` is the whole, checked.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, PositiveFloat, PositiveInt, model_validator
from pydantic.json_schema import SkipJsonSchema

from turnout.catalog.artifact import Artifact
from turnout.catalog.engines import RemoteEngine, Runner
from turnout.catalog.fields import Bytes, Device, ModelName, Name, Strict, Window
from turnout.catalog.pipeline import Pipeline
from turnout.catalog.route import Route
from turnout.catalog.versions import PRODUCTION, Versioned, model_name, schema_extra, split
from turnout.errors import InvalidRequest, UnknownModel
from turnout.types import DIMENSIONS, Signature, Task, signature


class LatencyClass(Strict):
    """What a caller of this class may expect, and what happens when it can't be had.

    Attributes:
        deadline_ms: the answer (chat: its first token) is due this long after arrival.
        percentile: share of answers that must hold the deadline.
        priority: 0 is served first.
        infeasible: when no candidate can hold the deadline: ``refuse`` with Retry-After,
            ``fastest`` candidate anyway, or ``queue`` as if there were no deadline.
    """

    deadline_ms: PositiveFloat
    percentile: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    priority: Annotated[int, Field(ge=0, le=9)]
    infeasible: Literal["refuse", "fastest", "queue"] = "fastest"


class Cost(Strict):
    """What one answer costs, in US dollars. Parts add up."""

    usd_per_request: Annotated[float, Field(ge=0)] = 0.0
    usd_per_1m_input_tokens: Annotated[float, Field(ge=0)] = 0.0
    usd_per_1m_output_tokens: Annotated[float, Field(ge=0)] = 0.0


class Quality(Strict):
    """What is known of a model's quality before anything is learned.

    Attributes:
        prior: expected share of good answers on typical traffic.
        proxy: a model of the trained router whose judgement stands for this one.
    """

    prior: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    proxy: str | None = None


class Profile(Strict):
    """Latency expected before the first measurement on this host.

    Attributes:
        base_ms: one row (chat: to the first token), model idle.
        per_row_ms: each further row of a batch (chat: each prompt token).
        per_token_ms: each written token (chat only).
    """

    base_ms: PositiveFloat = 50.0
    per_row_ms: Annotated[float, Field(ge=0)] = 0.0
    per_token_ms: Annotated[float, Field(ge=0)] = 0.0


class Batching(Strict):
    """Limits of the adaptive batcher; within them it follows the measured curve."""

    max_rows: PositiveInt = 64
    max_queue: PositiveInt = 1024


class Limits(Strict):
    """What keeps one model's trouble from the others.

    Attributes:
        max_run_s: a run that takes longer is given up and the model quarantined.
        max_load_s: a load that takes longer is given up, for others to load; tried again later.
        allow_nan: whether an answer may hold numbers that are not finite.
    """

    max_run_s: PositiveFloat = 30.0
    max_load_s: PositiveFloat = 300.0
    allow_nan: bool = False


class Model(Strict):
    """One model: its task, its engine, where its files come from and where it runs.

    Attributes:
        dimensions: sizes of its public tensors, where the task leaves them open
            (see ``turnout.types.DIMENSIONS``).
        memory: what it takes while loaded, believed until it is measured; by default guessed from
            the size of its files.
        pinned: loaded at start and never evicted.
        warm_utc: windows of the day in which it is kept loaded like a pinned one.
        limits: what keeps its trouble from other models.

    With ``versions`` each of them becomes a model of its own: see ``turnout.catalog.versions``.
    """

    model_config = ConfigDict(json_schema_extra=schema_extra)
    task: Task
    dimensions: dict[str, PositiveInt] = Field(default_factory=dict)
    runner: Runner
    artifact: Artifact | None = None
    placement: Literal["inline", "process", "remote"] = "inline"
    cost: Cost = Cost()
    quality: Quality = Quality()
    profile: Profile = Profile()
    batching: Batching = Batching()
    memory: Bytes = 64 * 1024**2
    pinned: bool = False
    warm_utc: tuple[Window, ...] = ()
    limits: Limits = Limits()
    context_tokens: PositiveInt = 2048
    tags: tuple[str, ...] = ()

    @property
    def device(self) -> str:
        """The device whose memory it takes while loaded: ``cpu`` or ``cuda:N``."""
        runner = self.runner
        if getattr(runner, "provider", None) == "cuda" or runner.engine == "tensorrt":
            return f"cuda:{getattr(runner, 'device', 0)}"
        return "cuda:0" if getattr(runner, "device", "cpu") == "cuda" else "cpu"

    @property
    def knows_memory(self) -> bool:
        """Whether the catalog states the model's memory."""
        return "memory" in self.model_fields_set

    @model_validator(mode="after")
    def _dimensions_are_the_tasks(self) -> Model:
        dimensions = DIMENSIONS.get(self.task, {})
        for name in self.dimensions:
            if name not in dimensions:
                hint = f"it has {', '.join(dimensions)}" if dimensions else "it has none"
                raise ValueError(f"task {self.task.value!r} has no dimension {name!r}; {hint}")
        return self

    @model_validator(mode="after")
    def _engine_fits_placement(self) -> Model:
        remote = isinstance(self.runner, RemoteEngine)
        if remote != (self.placement == "remote"):
            need = "placement: remote" if remote else "placement: inline or process"
            raise ValueError(f"engine {self.runner.engine!r} needs {need}")
        if not remote and self.artifact is None and self.runner.needs_files:
            raise ValueError(f"engine {self.runner.engine!r} needs an artifact")
        if self.runner.tasks is not None and self.task not in self.runner.tasks:
            raise ValueError(f"engine {self.runner.engine!r} cannot do task {self.task.value!r}")
        return self


class Gateway(Strict):
    """Limits of the gateway itself.

    Attributes:
        max_body: largest request body.
        workers: gateway processes that share the port. Each holds every inline model; the queues
            of inline models and the memory budget are divided among them.
        memory_budget: resident memory of the gateway, with its inline models; one size, or one for
            each device (``cpu``, ``cuda:0``). None loads every model at start.
        eviction: who makes room for others: those ``worth`` least, or the least recently used.
    """

    max_body: Bytes = 32 * 1024**2
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    memory_budget: Bytes | dict[Device, Bytes] | None = None
    eviction: Literal["worth", "lru"] = "worth"

    @property
    def budgets(self) -> dict[str, int]:
        """Bytes by device; empty without a budget."""
        if self.memory_budget is None:
            return {}
        if isinstance(self.memory_budget, dict):
            return dict(self.memory_budget)
        return {"cpu": self.memory_budget}


class CatalogEntries(Strict):
    """The entries of a catalog and the look-ups over them; ``Catalog`` checks that they agree."""

    version: Literal[1]
    gateway: Gateway = Gateway()
    classes: Annotated[dict[Name, LatencyClass], Field(min_length=1)]
    models: Annotated[dict[ModelName, Model], Field(min_length=1)]
    routes: Annotated[dict[Name, Route], Field(min_length=1)]
    pipelines: dict[Name, Pipeline] = Field(default_factory=dict)
    versioned: SkipJsonSchema[dict[Name, Versioned]] = Field(default_factory=dict)

    def route_for(self, task: Task) -> str | None:
        """Return the first route that does this task, which is the meaning of ``auto``."""
        return next((name for name, route in self.routes.items() if route.task == task), None)

    def model_called(self, name: str) -> str | None:
        """Return the plain model that ``NAME``, ``NAME@VERSION`` or ``NAME@ALIAS`` means now."""
        if name in self.models:
            return name
        base, alias = split(name)
        versioned = self.versioned.get(base)
        alias_or_id = PRODUCTION if alias is None else alias
        version = None if versioned is None else versioned.version_of(alias_or_id)
        return None if version is None else model_name(base, version)

    def no_model(self, name: str, models: Collection[str]) -> InvalidRequest | UnknownModel:
        """Return the error for a name that is none of these models; it may be a route's."""
        route = self.routes.get(name)
        if route is None:
            return UnknownModel(name, tuple(models))
        return InvalidRequest(
            f"{name!r} is a route; name one of its models: {', '.join(route.candidates)}",
            param="model",
        )

    def named(self, name: str) -> Route | Model | None:
        """Return the route or model that a caller means by a name."""
        route = self.routes.get(name)
        return route or self.models.get(self.model_called(name) or "")

    def models_of(self, name: str) -> tuple[str, ...]:
        """Return the plain models that may answer for a route or model; none if there is none.

        Canaries are left out: chance decides whether they answer.
        """
        route = self.routes.get(name)
        if route is not None:
            return route.candidates
        model = self.model_called(name)
        return () if model is None else (model,)

    @property
    def names(self) -> tuple[str, ...]:
        """Names that callers may use: routes, models, and versioned models with their versions."""
        return (*self.routes, *self.versioned, *self.models)

    def routes_of(self, model: str) -> list[Route]:
        """Return the routes that may choose a model: now, or when an alias of its name moves."""
        versioned = self.versioned.get(split(model)[0])
        moving = () if versioned is None else (*versioned.routes, *versioned.steady)
        return [
            route
            for name, route in self.routes.items()
            if model in route.candidates or name in moving
        ]

    def signature_of(self, name: str) -> Signature | None:
        """Return the public tensors of a model or route (its candidates agree), if it exists."""
        model = self.models.get(next(iter(self.models_of(name)), ""))
        return None if model is None else signature(model.task, model.dimensions)
