"""The tree of errors that Turnout raises on purpose.

    TurnoutError
    ├─ InvalidRequest          the request itself is wrong                 (4xx)
    │  ├─ UnknownModel (WrongTask) · UnknownRoute · UnknownClass · UnknownPath
    │  └─ PayloadTooLarge · Forbidden · MethodNotAllowed · LimitUnreachable
    ├─ CapacityError           the request is right but cannot be served now
    │  └─ QueueFull · DeadlineUnreachable · OverMemoryBudget · Overloaded · Draining
    ├─ RunnerError             a model could not load or run
    │  └─ LoadFailed · RunFailed · UpstreamFailed
    ├─ ConfigError             an operator's configuration is wrong
    │  └─ CatalogInvalid · ArtifactInvalid
    └─ DataError               a table or file given to a command is wrong
       └─ TooFewOutcomes

An error carries a stable ``code`` and named fields, never an HTTP status: each protocol
adapter owns one table from code to status and body. A message says what was wrong, where,
and what to do about it.
"""

from __future__ import annotations


class TurnoutError(Exception):
    """Root of the tree. ``code`` is stable across releases; ``str(error)`` is for people.

    ``stage`` names the pipeline's stage that failed, where it was one.
    """

    code = "internal"
    stage: str | None = None

    def __str__(self) -> str:
        text = super().__str__()
        return text if self.stage is None else f"stage {self.stage!r}: {text}"


class InvalidRequest(TurnoutError):
    """The request can never succeed as it is. ``param`` names the offending field."""

    code = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class UnknownModel(InvalidRequest):
    """No model or route has this name."""

    code = "unknown_model"

    def __init__(self, name: str, names: tuple[str, ...] = ()) -> None:
        hint = f"; known here: {', '.join(names)}" if names else ""
        super().__init__(f"no model or route is named {name!r}{hint}", param="model")
        self.name = name


class WrongTask(UnknownModel):
    """The named model or route does another task."""

    def __init__(self, name: str, task: str, wanted: str, names: tuple[str, ...]) -> None:
        InvalidRequest.__init__(
            self,
            f"{name!r} does {task}, and this request is for {wanted}; for that there are "
            f"{', '.join(names)}",
            param="model",
        )
        self.name = name


class UnknownRoute(InvalidRequest):
    """No route has this name."""

    code = "unknown_route"

    def __init__(self, name: str, names: tuple[str, ...] = ()) -> None:
        hint = f"; known here: {', '.join(names)}" if names else ""
        super().__init__(f"no route is named {name!r}{hint}", param="route")
        self.name = name


class UnknownClass(InvalidRequest):
    """No latency class has this name."""

    code = "unknown_latency_class"

    def __init__(self, name: str, names: tuple[str, ...] = ()) -> None:
        hint = f"; known here: {', '.join(names)}" if names else ""
        super().__init__(f"no latency class is named {name!r}{hint}", param="latency_class")
        self.name = name


class UnknownPath(InvalidRequest):
    """No handler answers at this path."""

    code = "unknown_path"

    def __init__(self, path: str, names: tuple[str, ...]) -> None:
        super().__init__(f"nothing answers at {path}; there are {', '.join(names)}")


class PayloadTooLarge(InvalidRequest):
    """The body, or a file that it names, is larger than the gateway accepts."""

    code = "payload_too_large"

    def __init__(self, limit_bytes: int, what: str = "the request body") -> None:
        super().__init__(f"{what} is larger than the limit of {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


class Forbidden(InvalidRequest):
    """The operation is reserved for operators."""

    code = "forbidden"


class MethodNotAllowed(InvalidRequest):
    """The path exists, but takes other methods."""

    code = "method_not_allowed"

    def __init__(self, method: str, path: str, allowed: tuple[str, ...]) -> None:
        super().__init__(f"{path} does not take {method}; it takes {', '.join(allowed)}")
        self.allowed = allowed


class LimitUnreachable(InvalidRequest):
    """No candidate ever keeps a limit of the request, even without load.

    ``nearest`` is the value of ``param`` that one of them would keep; None where limits exclude
    each other.
    """

    code = "limit_unreachable"

    def __init__(self, message: str, *, param: str | None, nearest: float | None = None) -> None:
        super().__init__(message, param=param)
        self.nearest = nearest


class CapacityError(TurnoutError):
    """A sound request that cannot be served now. ``retry_after_s`` says when to try again."""

    code = "capacity"

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueFull(CapacityError):
    """The model's queue is full."""

    code = "queue_full"

    def __init__(self, model: str, depth: int, retry_after_s: float) -> None:
        super().__init__(
            f"the queue of model {model!r} is full ({depth} waiting); "
            f"retry in {retry_after_s:.3g} s",
            retry_after_s=retry_after_s,
        )
        self.model = model
        self.depth = depth


class DeadlineUnreachable(CapacityError):
    """No candidate can answer inside the deadline, or it passed while the request waited."""

    code = "deadline_unreachable"


class OverMemoryBudget(CapacityError):
    """Loading the model would exceed the memory budget and nothing may be evicted."""

    code = "over_memory_budget"


class Overloaded(CapacityError):
    """More requests arrive than the gateway itself can answer in time."""

    code = "overloaded"


class Draining(CapacityError):
    """The gateway is shutting down and takes no new work."""

    code = "draining"


class RunnerError(TurnoutError):
    """A model failed. ``model`` names it, ``problem`` is the message without its name."""

    code = "runner_error"

    def __init__(self, model: str, problem: str) -> None:
        super().__init__(f"model {model!r}: {problem}")
        self.model = model
        self.problem = problem


class LoadFailed(RunnerError):
    """The model could not be loaded; it stays out of service, the others keep serving."""

    code = "load_failed"


class RunFailed(RunnerError):
    """The model was loaded but this run failed."""

    code = "run_failed"


class UpstreamFailed(RunnerError):
    """A remote model answered with an error, or not at all."""

    code = "upstream_failed"


class ConfigError(TurnoutError):
    """An operator's configuration is wrong. The message names file, line and key."""

    code = "config_error"


class CatalogInvalid(ConfigError):
    """The catalog is invalid. ``problems`` holds one line each: ``file:line: key: problem``."""

    code = "catalog_invalid"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ArtifactInvalid(ConfigError):
    """A model file is missing, corrupt, of a refused kind, or does not match its hash."""

    code = "artifact_invalid"


class DataError(TurnoutError):
    """A table or file given to a command is wrong. The message names file, row or column."""

    code = "data_error"


class TooFewOutcomes(DataError):
    """The table holds too few recorded outcomes to fit or calibrate a router."""

    code = "too_few_outcomes"
