"""Workers of one gateway that ask each other: for a decision, or to bring metrics up to date.

With ``gateway: {workers: N}`` a request reaches any of N processes, and each remembers only its own
decisions. What a worker does not know it asks the others, over a Unix socket that only this user
can reach; nothing of it is on the way of an inference request.
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

_PATIENCE_S = 1.0
_MOST_BYTES = 16 * 1024 * 1024

Answers: TypeAlias = Mapping[str, Callable[[Any], Any]]
"""What answers a question, by its name; both question and answer are plain values, or awaited."""


class Peers:
    """The other workers of this gateway.

    Args:
        folder: where the workers' sockets are; the same for all of one gateway.
        answers: what this worker answers when it is asked.
    """

    def __init__(self, folder: Path, answers: Answers) -> None:
        self._folder = folder
        self._answers = answers
        self._mine = folder / f"{os.getpid()}.{os.urandom(3).hex()}"
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Be reachable.

        Raises:
            PermissionError: the folder is another user's.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._folder.stat().st_uid != os.getuid():
            raise PermissionError(f"{self._folder} belongs to another user; remove it")
        self._server = await asyncio.start_unix_server(self._answer, self._mine, limit=_MOST_BYTES)

    async def stop(self) -> None:
        """Be out of reach again."""
        if self._server is not None:
            self._server.close()
            self._mine.unlink(missing_ok=True)
            with suppress(OSError):
                self._folder.rmdir()  # the last one to leave

    async def ask(
        self, question: str, value: Any = None, patience_s: float = _PATIENCE_S
    ) -> list[Any]:
        """What the others answer; those that can't answer in time are left out."""
        return (await self.ask_all(question, value, patience_s))[0]

    async def ask_all(
        self, question: str, value: Any = None, patience_s: float = _PATIENCE_S
    ) -> tuple[list[Any], list[str]]:
        """What the others answer, and who is there and did not answer."""
        others = [path for path in self._sockets() if path != self._mine]
        found = await asyncio.gather(
            *(self._ask(path, question, value, patience_s) for path in others),
            return_exceptions=True,
        )
        answers: list[Any] = []
        silent: list[str] = []
        for path, answer in zip(others, found, strict=True):
            if isinstance(answer, ConnectionRefusedError | FileNotFoundError):
                path.unlink(missing_ok=True)  # it has left, or was killed and left its socket
            elif isinstance(answer, OSError | TimeoutError | ValueError):
                logger.warning("worker %s did not answer %r: %r", path.name, question, answer)
                silent.append(path.name)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                answers.append(answer)
        return answers, silent

    def _sockets(self) -> list[Path]:
        try:
            return sorted(self._folder.iterdir())
        except OSError:
            return []

    async def _ask(self, path: Path, question: str, value: Any, patience_s: float) -> Any:
        async with asyncio.timeout(patience_s):
            reader, writer = await asyncio.open_unix_connection(path, limit=_MOST_BYTES)
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


def meeting_place(name: str) -> Path:
    """The folder where the workers of this gateway meet: children of one ``bentoml serve``."""
    return Path(tempfile.gettempdir()) / f"turnout-{os.getuid()}-{os.getppid()}-{name}"
