"""The gateway starts first, the models in processes of their own after it.

``bentoml serve`` starts all processes at once, and what a language model imports takes longer
than the gateway's whole start. On two cores each would wait for the others; callers wait for the
gateway. So a model's process lets the gateway beside it come up before it imports anything, half
a second of BentoML included: its PYTHONPATH begins with ``services/first``, whose
``sitecustomize`` calls ``give_way``.

Only the standard library is imported here, and little of it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

GATEWAY = "turnout"
_LIMIT_S = 30.0
_WARM_LIMIT_S = 3.0
_POLL_S = 0.05


def after_the_gateway(
    arguments: Sequence[str] = sys.argv, environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Variables that make a model's processes give way.

    Only where ``bentoml serve`` runs: in a built Bento the place of this file would be wrong.
    """
    if Path(arguments[0]).name != "bentoml" or "serve" not in arguments[1:]:
        return {}
    first = str(Path(__file__).resolve().parent / "first")
    others = environment.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([first, others] if others else [first])}


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
