"""``--engine ray``: the job's rows run by actors of a Ray cluster, through Ray Data.

An actor is a process with the same plane, runners and artefacts as a gateway; Ray Data feeds it
portions and runs those of an actor that died again elsewhere. Results come back to this process,
which stores them: the cluster needs no shared disk.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from services.batch_api.leases import Portion, Results
from services.batch_api.offline.job_file import JobFile
from services.batch_api.offline.parts import Parts
from turnout.catalog.reading import parse
from turnout.errors import ConfigError, UpstreamFailed
from turnout.settings import PROJECT

if TYPE_CHECKING:
    import numpy as np

_PORTIONS_A_CALL = 4
_LOOPBACK = "127.0.0.1"
_PASSED_ON = ("BENTOML_HOME", "TURNOUT_ROUTER")

Columns = dict[str, "np.ndarray[Any, Any]"]


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the actors run.

    Attributes:
        address: of a Ray cluster; None starts one here, on loopback, for this job only.
        actors: how many; each loads the models.
        cpus: cores that one takes.
        gpus: GPUs that one takes.
    """

    address: str | None = None
    actors: int = 1
    cpus: float = 1.0
    gpus: float = 0.0


def run(
    job: JobFile,
    catalog_text: str,
    cluster: Cluster,
    parts: Parts,
    todo: Iterator[Portion],
    report: Callable[[], None],
) -> None:
    """Run the portions of a job that are left.

    Args:
        job: the job.
        catalog_text: YAML; the actors' models. They must be built on every node.
        cluster: where to run.
        parts: stores the results.
        todo: the portions that are left.
        report: called after each portion that was stored.

    Raises:
        ConfigError: Ray is not installed.
        UpstreamFailed: the cluster failed, or no actor could load a model; stored results stay.
    """
    ray = _ray(cluster)
    try:
        items = [
            {"first_row": each.first_row, "input": each.input, "rows": each.rows} for each in todo
        ]
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        blocks = max(len(items) // _PORTIONS_A_CALL, min(len(items), 2 * cluster.actors))
        rows = ray.data.from_items(items, override_num_blocks=max(blocks, 1)).map_batches(
            Actor,
            fn_constructor_args=(catalog_text, job.endpoint, job.batch_id),
            batch_size=_PORTIONS_A_CALL,
            compute=ray.data.ActorPoolStrategy(size=cluster.actors),
            num_cpus=cluster.cpus,
            num_gpus=cluster.gpus,
        )
        for row in rows.iter_rows():
            results = Results(row["output"], row["errors"], row["completed"], row["failed"])
            parts.add(int(row["first_row"]), results)
            report()
    except ray.exceptions.RayError as error:
        raise UpstreamFailed("ray", f"the cluster failed: {error}") from error
    finally:
        ray.shutdown()


class Actor:
    """Runs portions in one process of the cluster; its models are loaded once."""

    def __init__(self, catalog_text: str, endpoint: str, batch_id: str) -> None:
        # Imported in the actor: the process that only keeps results loads no engine.
        from services.batch_api.offline.rows import Rows

        self._batch_id = batch_id
        self._loop = asyncio.new_event_loop()
        self._rows = Rows(parse(catalog_text, "the job's catalog"), endpoint)
        self._loop.run_until_complete(self._rows.start())

    def __call__(self, batch: Columns) -> dict[str, list[Any]]:
        """Run a few portions: columns ``first_row``, ``rows`` and ``input`` in, results out."""
        portions = [
            Portion(self._batch_id, int(first), int(rows), bytes(content))
            for first, rows, content in zip(
                batch["first_row"], batch["rows"], batch["input"], strict=True
            )
        ]
        done: dict[str, list[Any]] = {
            name: [] for name in ("first_row", "output", "errors", "completed", "failed")
        }

        async def keep(portion: Portion, results: Results) -> None:
            done["first_row"].append(portion.first_row)
            for name in ("output", "errors", "completed", "failed"):
                done[name].append(getattr(results, name))

        self._loop.run_until_complete(self._rows.run(self._batch_id, iter(portions), keep))
        return done


def _ray(cluster: Cluster) -> Any:
    """Ray, connected. A cluster of our own listens on loopback only; nothing is reported."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if cluster.address is None:
        # Ray replaces a loopback address by an outer one unless told that this is no cluster host.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--engine ray needs {error.name!r}, which is not installed; "
            "pip install 'turnout[ray]', or use --engine local"
        ) from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it narrates
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment = {"env_vars": passed | {"PYTHONPATH": str(PROJECT)}}
    if cluster.address is not None:
        # The nodes have their own checkout and store; only what says nothing of paths is passed.
        ray.init(address=cluster.address, log_to_driver=False)
    else:
        ray.init(
            num_cpus=max(int(cluster.actors * cluster.cpus), os.cpu_count() or 1),
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            runtime_env=environment,
            _node_ip_address=_LOOPBACK,
        )
    return ray
