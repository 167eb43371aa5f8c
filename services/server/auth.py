"""Authorisation of operators, who may change the gateway for all callers.

With ``TURNOUT_ADMIN_TOKEN`` set, a request needs it as a bearer token. Without, only this machine
is an operator: a connection from a loopback address that no proxy has forwarded.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
from collections.abc import Mapping

from services.http.messages import Scope
from turnout.errors import Forbidden

TOKEN = "TURNOUT_ADMIN_TOKEN"
_PROXY_HEADERS = frozenset({b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via"})


def check_operator(scope: Scope, environment: Mapping[str, str] | None = None) -> None:
    """Check that a request is an operator's.

    Raises:
        Forbidden: it is not; the message says what an operator needs.
    """
    env = os.environ if environment is None else environment
    headers = dict(scope["headers"])
    token = env.get(TOKEN)
    if token:
        authorization = headers.get(b"authorization", b"").decode("latin-1")
        if hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
            return
        raise Forbidden(f"this needs the operator's token ({TOKEN}) as a bearer token")
    client = scope.get("client")
    if client and _is_loopback(client[0]) and not _PROXY_HEADERS & headers.keys():
        return
    raise Forbidden(
        f"only this machine may do this; set {TOKEN} where the gateway runs to allow others"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
