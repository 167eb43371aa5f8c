"""Questions between the workers of one gateway: for a decision, or for up-to-date metrics.

With ``gateway: {workers: N}`` a request reaches any of N processes, and each remembers only its own
decisions. A worker asks the others over a Unix socket that only this user can reach; no inference
request passes here.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import orjson

logger = logging.getLogger("turnout.peers")

_TIMEOUT_S = 1.0
_MAX_BYTES = 16 * 1024 * 1024

Answers: TypeAlias = Mapping[str, Callable[[Any], Any]]
"""The function that answers each question, by name; it takes and returns plain values, or an
awaitable of one."""


class Peers:
    """The other workers of this gateway.

    Args:
        folder: where the workers' sockets are; the same for all of one gateway.
        answers: how this worker answers the others.
    """

    def __init__(self, folder: Path, answers: Answers) -> None:
        self._folder = folder
        self._answers = answers
        self._own_socket = folder / f"{os.getpid()}.{os.urandom(3).hex()}"
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Open this worker's socket.

        Raises:
            PermissionError: the folder is another user's.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._folder.stat().st_uid != os.getuid():
            raise PermissionError(f"{self._folder} belongs to another user; remove it")
        self._server = await asyncio.start_unix_server(
            self._answer, self._own_socket, limit=_MAX_BYTES
        )

    async def stop(self) -> None:
        """Close this worker's socket; the last worker removes the folder."""
        if self._server is not None:
            self._server.close()
            self._own_socket.unlink(missing_ok=True)
            with suppress(OSError):
                self._folder.rmdir()

    async def ask(
        self, question: str, value: Any = None, timeout_s: float = _TIMEOUT_S
    ) -> list[Any]:
        """The answers of the other workers; those that can't answer in time are left out."""
        return (await self.ask_all(question, value, timeout_s))[0]

    async def ask_all(
        self, question: str, value: Any = None, timeout_s: float = _TIMEOUT_S
    ) -> tuple[list[Any], list[str]]:
        """The answers of the other workers, and the names of those that did not answer."""
        others = [path for path in self._sockets() if path != self._own_socket]
        outcomes = await asyncio.gather(
            *(self._ask(path, question, value, timeout_s) for path in others),
            return_exceptions=True,
        )
        answers: list[Any] = []
        silent: list[str] = []
        for path, outcome in zip(others, outcomes, strict=True):
            if isinstance(outcome, ConnectionRefusedError | FileNotFoundError):
                path.unlink(missing_ok=True)  # the worker has ended, or was killed
            elif isinstance(outcome, OSError | TimeoutError | ValueError):
                logger.warning("worker %s did not answer %r: %r", path.name, question, outcome)
                silent.append(path.name)
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                answers.append(outcome)
        return answers, silent

    def _sockets(self) -> list[Path]:
        try:
            return sorted(self._folder.iterdir())
        except OSError:
            return []

    async def _ask(self, path: Path, question: str, value: Any, timeout_s: float) -> Any:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(path, limit=_MAX_BYTES)
            try:
                writer.write(orjson.dumps([question, value]) + b"\n")
                return orjson.loads(await reader.readline())
            finally:
                writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            question, value = orjson.loads(await reader.readline())
            answer = self._answers[question](value)
            if inspect.isawaitable(answer):
                answer = await answer
            writer.write(orjson.dumps(answer) + b"\n")
            await writer.drain()
        except (OSError, ValueError, KeyError) as error:
            logger.warning("a worker's question could not be answered: %r", error)
        finally:
            writer.close()


def socket_folder(name: str) -> Path:
    """The folder of the sockets of this gateway's workers: children of one ``bentoml serve``."""
    return Path(tempfile.gettempdir()) / f"turnout-{os.getuid()}-{os.getppid()}-{name}"
