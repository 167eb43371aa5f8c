"""Who may change what the gateway does for everybody.

With ``TURNOUT_ADMIN_TOKEN`` set, whoever sends it as a bearer token. Without, only this machine:
a connection from a loopback address that no proxy has passed on.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
from collections.abc import Mapping

from services.http.messages import Scope
from turnout.errors import Forbidden

TOKEN = "TURNOUT_ADMIN_TOKEN"
_PASSED_ON = frozenset({b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via"})


def check_operator(scope: Scope, environment: Mapping[str, str] | None = None) -> None:
    """Let an operator's request pass.

    Raises:
        Forbidden: it is not one; says what would be.
    """
    env = os.environ if environment is None else environment
    headers = dict(scope["headers"])
    token = env.get(TOKEN)
    if token:
        given = headers.get(b"authorization", b"").decode("latin-1")
        if hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            return
        raise Forbidden(f"this needs the operator's token ({TOKEN}) as a bearer token")
    client = scope.get("client")
    if client and _is_loopback(client[0]) and not _PASSED_ON & headers.keys():
        return
    raise Forbidden(
        f"only this machine may do this; set {TOKEN} where the gateway runs to allow others"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
