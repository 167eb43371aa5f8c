"""What a running gateway says of its models."""

from __future__ import annotations

import os
from typing import Any

import httpx

from services.server.auth import TOKEN
from turnout.errors import DataError

_TIMEOUT_S = 10.0


def models(url: str) -> list[dict[str, Any]]:
    """Every model behind a gateway: name, state, what was asked for, what runs and why.

    Raises:
        DataError: nothing answers there, or something else does.
    """
    try:
        with httpx.Client(base_url=url, timeout=_TIMEOUT_S) as client:
            listed = client.get("/v1/models").raise_for_status().json()["data"]
            found = [
                {"model": entry["id"]}
                | client.get(f"/v2/models/{entry['id']}").raise_for_status().json()["parameters"]
                for entry in listed
                if entry["id"] != "auto"
            ]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{url} does not answer as a Turnout gateway: {type(error).__name__}: {error}"
        ) from error
    # Routes have no state, and the name of a model with versions has that of its production.
    return [
        row for row in found if "state" in row and ("version" not in row or "@" in row["model"])
    ]


def operate(url: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Ask a gateway to do something for its operator.

    The token of ``TURNOUT_ADMIN_TOKEN``, where it is set, goes with it.

    Raises:
        DataError: nothing answers there, or it refuses; with its words.
    """
    token = os.environ.get(TOKEN)
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        reply = httpx.post(url.rstrip("/") + path, json=body or {}, headers=headers, timeout=300.0)
        said = reply.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise DataError(
            f"{url} does not answer as a Turnout gateway: {type(error).__name__}: {error}"
        ) from error
    if reply.status_code != 200:
        problem = said.get("error", said) if isinstance(said, dict) else said
        raise DataError(problem["message"] if isinstance(problem, dict) else str(problem))
    return said
