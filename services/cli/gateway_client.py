"""Query and operate the models of a running gateway."""

from __future__ import annotations

import os
from typing import Any

import httpx

from services.server.auth import TOKEN
from turnout.errors import DataError

_TIMEOUT_S = 10.0


def models(url: str) -> list[dict[str, Any]]:
    """Return every model behind a gateway: name, state, requested and actual provider, reason.

    Raises:
        DataError: the URL does not answer, or not as a gateway.
    """
    try:
        with httpx.Client(base_url=url, timeout=_TIMEOUT_S) as client:
            listed = client.get("/v1/models").raise_for_status().json()["data"]
            models = [
                {"model": entry["id"]}
                | client.get(f"/v2/models/{entry['id']}").raise_for_status().json()["parameters"]
                for entry in listed
                if entry["id"] != "auto"
            ]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{url} does not answer as a Turnout gateway: {type(error).__name__}: {error}"
        ) from error
    # Routes have no state; a model with versions is listed by its versions only.
    return [
        row for row in models if "state" in row and ("version" not in row or "@" in row["model"])
    ]


def operate(url: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Post an operator's request, with the token of ``TURNOUT_ADMIN_TOKEN`` if it is set.

    Raises:
        DataError: the URL does not answer, or the gateway refuses; with its message.
    """
    token = os.environ.get(TOKEN)
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        reply = httpx.post(url.rstrip("/") + path, json=body or {}, headers=headers, timeout=300.0)
        answer = reply.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise DataError(
            f"{url} does not answer as a Turnout gateway: {type(error).__name__}: {error}"
        ) from error
    if reply.status_code != 200:
        problem = answer.get("error", answer) if isinstance(answer, dict) else answer
        raise DataError(problem["message"] if isinstance(problem, dict) else str(problem))
    return answer


def is_ready(url: str) -> bool:
    """Return whether a gateway answers and is ready."""
    try:
        return httpx.get(f"{url}/readyz", timeout=1.0).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def states(url: str) -> dict[str, tuple[str, str]]:
    """Return every model's state and reason, by name; empty when the gateway does not answer."""
    try:
        rows = httpx.post(f"{url}/v2/repository/index", timeout=5.0).json()
    except (httpx.HTTPError, ValueError):
        return {}
    return {row["name"]: (row["state"], row["reason"]) for row in rows}
