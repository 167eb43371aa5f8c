"""Tensor parallelism: one process per rank; all ranks run the same passes at the same time.

The serving process keeps the slots and the sampling; it sends each pass to every rank and takes the
logits of rank 0. Its own environment and device stay unchanged, and a rank that dies is an error of
this model, not the end of the process.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing.connection import Connection, Listener, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners.engines.deepspeed.weights import check_files
from runners.engines.load_cost import LoadMeter
from runners.generation.kv_cache_rows import CacheRows, NamedRows, Rows
from runners.generation.tokenizer import FileTokenizer
from turnout.errors import LoadFailed, RunFailed

if TYPE_CHECKING:
    import numpy as np

    from turnout.catalog.engines import DeepSpeed

_START_S = 300.0
_PASS_S = 120.0


class TensorParallelDecoder:
    """A ``Decoder`` over ``tensor_parallel`` processes (one is allowed).

    Args:
        name: the model's name, for errors.
        folder: safetensors, config and tokenizer.
        slots: rows of the cache.
        options: the catalog's.
        context_tokens: positions of a slot.

    Raises:
        LoadFailed: a rank could not load, with the rank's message.
    """

    def __init__(
        self, name: str, folder: Path, slots: int, options: DeepSpeed, context_tokens: int
    ) -> None:
        meter = LoadMeter("deepspeed")
        check_files(name, folder)
        self.tokenizer = FileTokenizer(name, folder)
        self._name = name
        self.rows: Rows = (
            NamedRows(self.exchange) if options.fastgen else CacheRows(slots - 1, self.copy)
        )
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ranks: list[Connection] = []
        arguments = (name, str(folder), slots, options.model_dump_json(), context_tokens)
        try:
            self._launch(options.tensor_parallel, arguments)
            inner, self.context_tokens = self._answers(_START_S)
        except (RunFailed, OSError) as error:
            self.close()
            raise LoadFailed(name, f"in a separate process: {error}") from error
        times = f" x {options.tensor_parallel}" if options.tensor_parallel > 1 else ""
        self.active = meter.finish(
            f"{options.device}{times}",
            f"{inner.provider}{times}",
            precision=inner.precision,
            reason=inner.reason,
        )

    def prefill(
        self, slot: int, tokens: Sequence[int], start: int, last: int = 1
    ) -> np.ndarray[Any, Any]:
        """See ``Decoder.prefill``."""
        return self._all("prefill", slot, list(tokens), start, last)

    def decode(self, tokens: Sequence[int], lengths: Sequence[int]) -> np.ndarray[Any, Any]:
        """See ``Decoder.decode``."""
        return self._all("decode", list(tokens), list(lengths))

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first ``length`` positions of a slot over another."""
        self._all("copy", source, target, length)

    def exchange(self, first: int, second: int) -> None:
        """Exchange two slots by name."""
        self._all("exchange", first, second)

    def close(self) -> None:
        """End every rank."""
        for rank in self._ranks:
            rank.close()
        self._ranks.clear()
        for process in self._processes:
            process.kill()
            process.wait()
        self._processes.clear()

    def _launch(self, size: int, arguments: tuple[object, ...]) -> None:
        """Start the ranks; each connects back to a socket with a secret key."""
        key = secrets.token_bytes(32)
        with tempfile.TemporaryDirectory(prefix="turnout-ranks-") as folder:
            address = str(Path(folder) / "ranks.sock")
            with Listener(address, "AF_UNIX", authkey=key) as listener:
                port = _free_port()
                for rank in range(size):
                    self._processes.append(_start(rank, size, port, address, key))
                # If a child dies before it connects, accept() would wait for ever.
                listener._listener._socket.settimeout(_START_S)  # type: ignore[attr-defined]
                for _ in range(size):
                    self._ranks.append(listener.accept())
        numbers = [rank.recv() for rank in self._ranks]
        self._ranks = [self._ranks[numbers.index(number)] for number in range(size)]
        for rank in self._ranks:
            rank.send(arguments)

    def _all(self, verb: str, *arguments: object) -> Any:
        try:
            for rank in self._ranks:
                rank.send((verb, arguments))
        except OSError as error:
            self.close()
            raise RunFailed(self._name, f"one of its ranks has ended: {error}") from error
        return self._answers(_PASS_S)

    def _answers(self, timeout_s: float) -> Any:
        """Return rank 0's answer once every rank has answered; if one fails, end all of them."""
        answers: dict[Connection, Any] = {}
        while len(answers) < len(self._ranks):
            left = [rank for rank in self._ranks if rank not in answers]
            ready = wait(left, timeout_s)
            problem = None if ready else f"no answer for {timeout_s:.0f} s"
            for rank in ready:
                succeeded, answer = False, "it ended without a message"
                with contextlib.suppress(EOFError, OSError):
                    succeeded, answer = rank.recv()  # type: ignore[union-attr]
                answers[rank] = answer  # type: ignore[index]
                problem = problem if succeeded else answer
            if problem is not None:
                self.close()
                raise RunFailed(self._name, f"one of its ranks failed: {problem}")
        if not answers:
            raise RunFailed(self._name, "its ranks have ended; load it again")
        return answers[self._ranks[0]]


def _start(rank: int, size: int, port: int, address: str, key: bytes) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        # torchrun's variables; without LOCAL_SIZE DeepSpeed fails on a CPU.
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "TURNOUT_RANKS_ADDRESS": address,
        "TURNOUT_RANKS_KEY": key.hex(),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "runners.engines.deepspeed.tensor_parallel_rank"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # DeepSpeed prints what it shards
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
