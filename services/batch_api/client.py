"""A client of a gateway's files and batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from turnout.errors import DataError, InvalidRequest

_TIMEOUT_S = 600.0


class BatchClient:
    """The batch API of one gateway.

    Args:
        address: its base URL.

    Every method raises:
        InvalidRequest: the gateway refused; the message is its own.
        DataError: no gateway answers there, or it failed.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._http = httpx.Client(base_url=address, timeout=_TIMEOUT_S)

    def upload(self, file: Path) -> str:
        """Upload a job file; returns its id."""
        with file.open("rb") as content:
            form = {"purpose": "batch"}
            reply = self._ask("POST", "/v1/files", data=form, files={"file": (file.name, content)})
            return reply["id"]

    def create(
        self, file_id: str, endpoint: str, window: str, metadata: dict[str, str]
    ) -> dict[str, Any]:
        """Create a batch."""
        body = {"input_file_id": file_id, "endpoint": endpoint, "completion_window": window,
                "metadata": metadata}  # fmt: skip
        return self._ask("POST", "/v1/batches", json=body)

    def batch(self, batch_id: str) -> dict[str, Any]:
        """One batch."""
        return self._ask("GET", f"/v1/batches/{batch_id}")

    def batches(self, most: int) -> Iterator[dict[str, Any]]:
        """The newest batches, at most ``most``."""
        after: dict[str, str] = {}
        while most > 0:
            page = self._ask("GET", "/v1/batches", params={"limit": min(most, 100)} | after)
            yield from page["data"]
            most -= len(page["data"])
            if not page["has_more"]:
                return
            after = {"after": page["last_id"]}

    def cancel(self, batch_id: str) -> dict[str, Any]:
        """Cancel a batch."""
        return self._ask("POST", f"/v1/batches/{batch_id}/cancel")

    def download(self, file_id: str, target: Path) -> None:
        """Save a file's content; a download that breaks off leaves no file."""
        partial = target.with_name(f".{target.name}.new")
        try:
            with self._http.stream("GET", f"/v1/files/{file_id}/content") as reply:
                if reply.status_code != 200:
                    reply.read()
                    raise InvalidRequest(_message(reply))
                with partial.open("wb") as out:
                    for piece in reply.iter_bytes():
                        out.write(piece)
        except httpx.HTTPError as error:
            partial.unlink(missing_ok=True)
            raise self._unreachable(error) from error
        partial.replace(target)

    def _ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        try:
            reply = self._http.request(method, path, **more)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if reply.status_code >= 500:
            raise DataError(f"gateway {self._address}: {_message(reply)}")
        if reply.status_code >= 400:
            raise InvalidRequest(_message(reply))
        return reply.json()

    def _unreachable(self, error: httpx.HTTPError) -> DataError:
        return DataError(f"gateway {self._address}: no answer: {error}; is it running? see --url")


def _message(reply: httpx.Response) -> str:
    try:
        return reply.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"status {reply.status_code}: {reply.text[:200]}"
