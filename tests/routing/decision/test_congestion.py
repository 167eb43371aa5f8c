"""A simulated fleet under rising load: accuracy bends, latency does not, and bulk waits."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from routing.decision.decider import Decider
from routing.decision.request_view import RequestAnalyzer
from routing.decision.router import ModelState
from routing.latency import Busy, ModelLatency, Spread
from turnout.catalog.reading import parse
from turnout.types import Decision, Request, Task

CATALOG = parse(
    """version: 1
classes:
  interactive: {deadline_ms: 500, priority: 1, infeasible: fastest}
  bulk: {deadline_ms: 600000, percentile: 0.5, priority: 2, infeasible: queue}
models:
  small: {task: tabular, runner: {engine: fake}, quality: {prior: 0.80}}
  large:
    task: tabular
    runner: {engine: fake}
    cost: {usd_per_request: 5.0e-6}
    quality: {prior: 0.90}
routes:
  score:
    task: tabular
    candidates: [small, large]
    latency_class: interactive
    target_quality: 1.0
""",
    "test",
)
ROWS = {"features": np.zeros((1, 15), np.float32)}
RUN_S = {"small": 0.005, "large": 0.05}
PRIORITY = {"interactive": 1, "bulk": 2}


@dataclass(order=True)
class Job:
    """A request that waits for a model: the urgent ones first, then as they came."""

    priority: int
    arrived_s: float
    decision: Decision = field(compare=False)


@dataclass
class Server:
    """One model, one request at a time."""

    latency: ModelLatency
    waiting: list[Job] = field(default_factory=list)
    running: Job | None = None
    until_s: float = 0.0

    def busy(self, priority: int) -> Busy:
        ahead = sum(job.priority <= priority for job in self.waiting)
        return Busy(float(ahead), int(self.running is not None), 1, 1.0)


class Fleet:
    """Two servers, the decider in front, and time as a number."""

    def __init__(self) -> None:
        self.servers = {name: Server(ModelLatency(value)) for name, value in RUN_S.items()}
        latencies = {name: server.latency for name, server in self.servers.items()}
        self.decider = Decider(CATALOG, latencies, RequestAnalyzer(CATALOG))
        self.rng = np.random.default_rng(0)
        self.took_s: dict[str, list[float]] = {"interactive": [], "bulk": []}
        self.by: dict[str, list[str]] = {"interactive": [], "bulk": []}

    def arrive(self, latency_class: str, now_s: float) -> None:
        self.advance(now_s)
        priority = PRIORITY[latency_class]
        deadline_s = now_s + CATALOG.classes[latency_class].deadline_ms / 1e3
        request = Request(f"{now_s}", "score", Task.TABULAR, ROWS, latency_class, now_s, deadline_s)
        decided = self.decider.decide(
            request, lambda name: ModelState(self.servers[name].busy(priority))
        )
        heapq.heappush(
            self.servers[decided.decision.model].waiting, Job(priority, now_s, decided.decision)
        )
        self.advance(now_s)

    def advance(self, now_s: float) -> None:
        for name, server in self.servers.items():
            while server.running is not None or server.waiting:
                if server.running is None:
                    job = heapq.heappop(server.waiting)
                    run_s = RUN_S[name] * float(self.rng.lognormal(0.0, 0.1))
                    server.running = job
                    server.until_s = max(server.until_s, job.arrived_s) + run_s
                    server.latency.observe_run(1.0, run_s)
                if server.until_s > now_s:
                    break
                self._end(name, server.running, server.until_s)
                server.running = None

    def _end(self, name: str, job: Job, at_s: float) -> None:
        latency_class, actual_s = job.decision.latency_class, at_s - job.arrived_s
        self.took_s[latency_class].append(actual_s)
        self.by[latency_class].append(name)
        told = next(c.prediction for c in job.decision.candidates if c.model == name)
        spread = Spread(told.p50_s, told.p95_s, told.p99_s, told.expected_s, told.waited)
        self.servers[name].latency.observe_answer(spread, actual_s)


def arrivals(rate_hz: float, seconds: float, seed: int) -> Iterator[float]:
    rng = np.random.default_rng(seed)
    now_s = 0.0
    while now_s < seconds:
        now_s += float(rng.exponential(1.0 / rate_hz))
        yield now_s


def load(rate_hz: float, bulk_hz: float = 0.0) -> Fleet:
    fleet = Fleet()
    events = [(now_s, "interactive") for now_s in arrivals(rate_hz, 60.0, 1)]
    if bulk_hz:
        events += [(now_s, "bulk") for now_s in arrivals(bulk_hz, 60.0, 2)]
    for now_s, latency_class in sorted(events):
        fleet.arrive(latency_class, now_s)
    fleet.advance(1e6)
    return fleet


def strong(names: list[str]) -> float:
    return names.count("large") / len(names)


@pytest.mark.parametrize("rate_hz", [5.0, 40.0, 100.0])
def test_the_deadline_holds_at_every_load(rate_hz: float) -> None:
    took = np.array(load(rate_hz).took_s["interactive"])
    assert (took <= 0.5).mean() >= 0.93


def test_accuracy_bends_as_load_grows() -> None:
    shares = [strong(load(rate_hz).by["interactive"]) for rate_hz in (5.0, 40.0, 100.0)]
    assert shares[0] > 0.95
    assert shares[0] > shares[1] + 0.2 > shares[2] + 0.3
    assert shares[2] > 0.05


def test_bulk_waits_for_the_better_model_while_interactive_goes_elsewhere() -> None:
    fleet = load(60.0, bulk_hz=8.0)
    assert strong(fleet.by["bulk"]) == 1.0
    assert float(np.median(fleet.took_s["bulk"])) > float(np.median(fleet.took_s["interactive"]))
    assert (np.array(fleet.took_s["interactive"]) <= 0.5).mean() >= 0.93
    assert strong(fleet.by["interactive"]) < 0.5
