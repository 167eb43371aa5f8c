"""What a running gateway says of its models."""

from __future__ import annotations

from typing import Any

import httpx

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
    return [row for row in found if "state" in row]  # routes have none
