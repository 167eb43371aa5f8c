"""The gateway starts first, the models in processes of their own after it.

``bentoml serve`` starts all processes at once, and what a language model imports takes longer
than the gateway's whole start. On two cores each would wait for the others; callers wait for the
gateway. So a model's process lets the gateway beside it come up before it imports anything, half
a second of BentoML included: its PYTHONPATH begins with ``services/process/sitecustomize``, whose
``sitecustomize`` calls ``begin``. From there each process, the gateway's own too, hurries: it looks
for no garbage while it only makes what stays, and large libraries are opened beside the imports.

Only the standard library is imported here, and little of it.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path

GATEWAY = "turnout"
_LIMIT_S = 30.0
_WARM_LIMIT_S = 3.0
_POLL_S = 0.05
_FIRST = str(Path(__file__).resolve().parent / "sitecustomize")


def starts_workers(arguments: Sequence[str] = sys.argv) -> bool:
    """Whether this process is ``bentoml serve``, which only starts those that serve."""
    return Path(arguments[0]).name == "bentoml" and "serve" in arguments[1:]


def lead_workers(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have every process that this one starts run ``begin`` before anything else.

    In the environment and not in a service's ``envs``: BentoML prefers what is there already.
    """
    others = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join([_FIRST, others] if others else [_FIRST])
    gc.freeze()  # what BentoML imports from here on need not be searched with all it has imported


def begin(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """What a worker does first: wait if it is a model beside a gateway, then hurry."""
    if _own_service(arguments) is None:
        return
    give_way(arguments, environment)
    from services.coldstart.preload import preload

    gc.disable()  # until ``settle_down``
    preload()


def settle_down() -> None:
    """Look for garbage again; what the start has made is none."""
    gc.freeze()
    gc.enable()


def beside_a_gateway(
    arguments: Sequence[str] = sys.argv, environment: Mapping[str, str] = os.environ
) -> bool:
    """Whether this process serves one of the models of a gateway that BentoML started with it."""
    return _own_service(arguments) != GATEWAY and GATEWAY in _addresses(environment)


def give_way(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Wait until the gateway beside this process is ready; at once where there is none.

    BentoML tells a worker its own service (``--service-name``) and where the others are
    (``BENTOML_RUNNER_MAP``). The gateway's socket is open before any process starts, so one
    request waits for it to come alive. It never waits for us: its most urgent models may be ours,
    so their being warm is waited for a short while only.

    Returns:
        whether there was a gateway to wait for.
    """
    place = _gateway(arguments, environment)
    if place is None:
        return False
    until_s = clock() + _LIMIT_S
    if _status(*place, "/livez", _LIMIT_S) is None:
        return True
    until_s = min(clock() + _WARM_LIMIT_S, until_s)
    while clock() < until_s and _status(*place, "/readyz", _WARM_LIMIT_S) == 503:
        sleep(_POLL_S)
    return True


def _gateway(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[str, int] | None:
    """Host and port of the gateway this process is a dependency of."""
    name, url = _own_service(arguments), _addresses(environment).get(GATEWAY, "")
    if name is None or name == GATEWAY or not url.startswith("http://"):
        return None
    host, _, port = url.removeprefix("http://").rpartition(":")
    return (host, int(port)) if port.isdigit() else None


def _own_service(arguments: Sequence[str]) -> str | None:
    """The service a worker of BentoML's was told to serve; None in any other process."""
    if "--service-name" not in arguments or "--worker-id" not in arguments:
        return None
    return arguments[arguments.index("--service-name") + 1]


def _addresses(environment: Mapping[str, str]) -> dict[str, str]:
    """Where the services of this server are, by name."""
    return json.loads(environment.get("BENTOML_RUNNER_MAP") or "{}")


def _status(host: str, port: int, path: str, timeout_s: float) -> int | None:
    """The status of a GET; None when there is no answer in time."""
    import socket

    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            said = connection.recv(12)
    except OSError:
        return None
    return int(said[9:12]) if said[9:12].isdigit() else None
