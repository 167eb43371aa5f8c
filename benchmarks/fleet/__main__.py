"""Compare one process with a budget for a third of its models with LRU and a process per model.

    python -m benchmarks.fleet --json FILE [--catalog catalog/ecommerce.yaml] [--rate 200]
        [--seconds 40] [--rounds 2] [--processes 6] [--fault] [--fault-seconds 30]

Every inline model of the catalog is asked for by name, open loop, how often by Zipf's law over a
shuffled order, in the class of its most urgent route. The budget is what the process takes beside
its models under this traffic plus a third of what all models take, both measured first; a model
that is larger than that third is not asked for. The same traffic then meets the same pool with
least-recently-used eviction, turn about. ``--processes`` models are served by one BentoML process
each, for their memory. ``--fault`` adds five models beside them, in health, then each in its
trouble, then all, and compares what the others attain.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import yaml

from benchmarks.fleet.faults import faults
from benchmarks.fleet.runs import MIB, measured, processes, sizes, together
from benchmarks.fleet.serving import inline_only
from benchmarks.fleet.traffic import classes_of
from benchmarks.provenance import save
from benchmarks.servers import PROJECT
from turnout.catalog import load

_SHARE = 1 / 3
_WANTED = {"realtime": 0.999, "interactive": 0.99}
_READY_S = 10.0
_OVER = 1.05
_MEMORY_RATIO = 0.2
_LOST_POINTS = 0.1


def main() -> int:
    """Run the benchmark; return 1 when a target was missed."""
    given = _arguments()
    catalog = load(given.catalog)
    models = classes_of(catalog)
    document = yaml.safe_load(given.catalog.read_text("utf-8"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = inline_only(document, models)
        size = sizes(folder, base, catalog, models, given)
        room = given.share * size["models"]
        budget = int(size["process"] + room)
        print(f"{len(models)} models take {size['models'] / MIB:.0f} MiB, the process beside them "
              f"{size['process'] / MIB:.0f} MiB, budget {budget / MIB:.0f} MiB",
              flush=True)  # fmt: skip
        large = [name for name, taken in size["each"].items() if taken > room]
        if large:
            print(f"not asked for, larger than the room: {', '.join(large)}")
        models = {name: kept for name, kept in models.items() if name not in large}
        result: dict[str, Any] = {
            "not_asked": large,
            "models": len(models),
            "sizes": size,
            "budget_bytes": budget,
        }
        gateway = base.get("gateway", {}) | {"memory_budget": f"{budget}B"}
        orders = {
            order: base | {"gateway": gateway | {"eviction": order}} for order in ("worth", "lru")
        }
        rounds: dict[str, list[dict[str, Any]]] = {order: [] for order in orders}
        for _ in range(given.rounds):
            for order, its in orders.items():
                rounds[order].append(measured(folder, order, its, catalog, models, given))
        result |= {order: together(its) for order, its in rounds.items()}
        if given.fault:
            result["faults"] = faults(folder, orders["worth"], catalog, models, given)
        if given.processes:
            result["processes"] = processes(folder, document, models, given.processes)
            small = size["models"] / len(size["each"])
            ratio = small / result["processes"]["bytes_a_model"]
            result["memory_ratio"] = round(ratio, 4)
            print(f"a model here takes {small / MIB:.1f} MiB on average: {ratio:.3f} of a process")
    result["missed"] = missed(result)
    save(given.json, result)
    for target in result["missed"]:
        print(f"missed: {target}")
    return 1 if result["missed"] else 0


def missed(result: dict[str, Any]) -> list[str]:
    """Return the missed targets, each with its number."""
    worth, lru = result["worth"], result["lru"]
    found = [
        f"{key} attains {worth['classes'][key]['attainment']:.3%}, wanted {wanted:.1%}"
        for key, wanted in _WANTED.items()
        if worth["classes"][key]["attainment"] < wanted
    ]
    for key, one in worth["classes"].items():
        lost = {status: n for status, n in one["statuses"].items() if status in ("0", "unanswered")}
        if lost:
            found.append(f"{key} lost requests: {lost}")
    if worth["peak_bytes"] > _OVER * result["budget_bytes"]:
        found.append(f"peak {worth['peak_bytes'] / MIB:.0f} MiB, over the budget by more than 5 %")
    if worth["ready_s"] > _READY_S:
        found.append(f"ready after {worth['ready_s']} s, wanted {_READY_S:g} s")
    urgent = {order["classes"]["realtime"]["attainment"]: name
              for name, order in (("worth", worth), ("lru", lru))}  # fmt: skip
    if len(urgent) < 2 or urgent[max(urgent)] != "worth":
        found.append(
            f"real time by worth {worth['classes']['realtime']['attainment']:.3%}, by lru "
            f"{lru['classes']['realtime']['attainment']:.3%}, wanted more by worth"
        )
    if result.get("memory_ratio", 0.0) > _MEMORY_RATIO:
        found.append(f"memory a model {result['memory_ratio']} of a process, wanted a fifth")
    for trouble, one in result.get("faults", {}).items():
        found += [
            f"beside {trouble}, {key} lost {points} points"
            for key, points in one["lost"].items()
            if points > _LOST_POINTS
        ]
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A fleet in one process.")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--catalog", type=Path, default=PROJECT / "catalog" / "ecommerce.yaml")
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--share", type=float, default=_SHARE, help="of all models that may stay")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--processes", type=int, default=6)
    parser.add_argument("--fault", action="store_true")
    parser.add_argument("--fault-seconds", type=float, default=30.0)
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
