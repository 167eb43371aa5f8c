"""The services of one ``bentoml serve``: their names, their addresses, the order they start in.

``bentoml serve`` starts all processes at once, and the imports of a language model take longer
than the gateway's whole start. On two cores each would wait for the others; callers wait for the
gateway. So the process of a model waits for the gateway beside it before it imports anything, half
a second of BentoML included: its PYTHONPATH begins with ``services/process/sitecustomize``, whose
``sitecustomize`` calls ``begin``. ``begin`` also speeds up the start of every process: garbage
collection is off until the start is over, and large libraries are opened beside the imports.

Imports only the standard library, and little of it: this runs before everything else.
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
_SITECUSTOMIZE = str(Path(__file__).resolve().parent / "sitecustomize")


def starts_workers(arguments: Sequence[str] = sys.argv) -> bool:
    """Whether this process is ``bentoml serve`` itself, which only starts the workers."""
    return Path(arguments[0]).name == "bentoml" and "serve" in arguments[1:]


def prepare_workers(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have every process that this one starts run ``begin`` before anything else.

    In the environment and not in a service's ``envs``: BentoML prefers what is there already.
    """
    others = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join(
        [_SITECUSTOMIZE, others] if others else [_SITECUSTOMIZE]
    )
    gc.freeze()  # collections during BentoML's further imports skip what is imported already


def begin(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Prepare a worker's start: wait if it is a model beside a gateway, then preload libraries.

    Does nothing in a process that is no worker of BentoML's.
    """
    if _own_service(arguments) is None:
        return
    wait_for_gateway(arguments, environment)
    from services.process.preload import (
        preload,
    )  # only workers need it, and every process runs this

    gc.disable()  # until ``resume_collection``
    preload()


def resume_collection() -> None:
    """Turn garbage collection on again; it skips the objects that the start has made."""
    gc.freeze()
    gc.enable()


def beside_a_gateway(
    arguments: Sequence[str] = sys.argv, environment: Mapping[str, str] = os.environ
) -> bool:
    """Whether this process serves one of the models of a gateway that BentoML started with it."""
    return _own_service(arguments) != GATEWAY and GATEWAY in service_addresses(environment)


def service_name(model: str) -> str:
    """The BentoML service of a model: ``turnout-`` and its name, with dashes for dots.

    A version is spelled out, as BentoML takes no ``@`` in a name.
    """
    return "turnout-" + model.replace("@", "-version-").replace(".", "-")


def service_addresses(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """URL of each service that BentoML started with this one, by service name.

    A Unix socket has the scheme ``unix``, a port ``http``.
    """
    addresses: dict[str, str] = json.loads(environment.get("BENTOML_RUNNER_MAP") or "{}")
    return {
        name: url.replace("file://", "unix://", 1).replace("tcp://", "http://", 1)
        for name, url in addresses.items()
    }


def wait_for_gateway(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Wait until the gateway beside this process is ready; return at once where there is none.

    BentoML passes a worker its own service (``--service-name``) and the addresses of the others
    (``BENTOML_RUNNER_MAP``). The gateway's socket is open before any process starts, so one
    request waits until the gateway is alive. The wait for its readiness is short: the gateway may
    need the model of this process to be ready.

    Returns:
        whether there was a gateway to wait for.
    """
    address = _gateway_address(arguments, environment)
    if address is None:
        return False
    limit_s = clock() + _LIMIT_S
    if _status(*address, "/livez", _LIMIT_S) is None:
        return True
    limit_s = min(clock() + _WARM_LIMIT_S, limit_s)
    while clock() < limit_s and _status(*address, "/readyz", _WARM_LIMIT_S) == 503:
        sleep(_POLL_S)
    return True


def _gateway_address(
    arguments: Sequence[str], environment: Mapping[str, str]
) -> tuple[str, int] | None:
    """Host and port of the gateway this process is a dependency of; None where there is none."""
    name, url = _own_service(arguments), service_addresses(environment).get(GATEWAY, "")
    if name is None or name == GATEWAY or not url.startswith("http://"):
        return None
    host, _, port = url.removeprefix("http://").rpartition(":")
    return (host, int(port)) if port.isdigit() else None


def _own_service(arguments: Sequence[str]) -> str | None:
    """The service that a worker of BentoML's serves; None in any other process."""
    if "--service-name" not in arguments or "--worker-id" not in arguments:
        return None
    return arguments[arguments.index("--service-name") + 1]


def _status(host: str, port: int, path: str, timeout_s: float) -> int | None:
    """The status of a GET; None when there is no answer in time."""
    import socket  # only the process of a model beside a gateway needs it

    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            code = connection.recv(12)[9:]
    except OSError:
        return None
    return int(code) if code.isdigit() else None
