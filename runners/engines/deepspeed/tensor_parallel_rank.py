"""One tensor-parallel rank: a process that ``tensor_parallel`` starts with ``python -m``."""

from __future__ import annotations

import os
import warnings
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

from runners.engines.deepspeed.runner import open_decoder
from runners.engines.threads import sleep_when_idle
from runners.generation.decoder import Decoder
from turnout.catalog.engines import DeepSpeed


def main() -> None:
    """Load this rank's share, then run each requested pass until the socket closes."""
    number = int(os.environ["RANK"])
    key = bytes.fromhex(os.environ.pop("TURNOUT_RANKS_KEY"))
    with Client(os.environ["TURNOUT_RANKS_ADDRESS"], "AF_UNIX", authkey=key) as caller:
        caller.send(number)
        name, folder, slots, options, context_tokens = caller.recv()
        try:
            _stay_with_gloo()
            decoder = open_decoder(
                name,
                Path(folder),
                slots,
                DeepSpeed.model_validate_json(options),
                context_tokens,
                number,
            )
        except Exception as error:  # noqa: BLE001 - the caller must hear of every failure
            caller.send((False, str(error)))
            return
        caller.send((True, (decoder.active, decoder.context_tokens)))
        while True:
            try:
                verb, arguments = caller.recv()
            except EOFError:
                return
            caller.send(_run(decoder, verb, arguments, answers=number == 0))


def _stay_with_gloo() -> None:
    """Keep DeepSpeed from compiling its shared-memory reduction at the first start.

    The compilation takes minutes, needs a compiler that a container has not, and one that is
    killed leaves a lock at which every later start waits for ever.
    """
    sleep_when_idle()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # DeepSpeed's imports warn of their own internals
        import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def _run(
    decoder: Decoder, verb: str, arguments: tuple[Any, ...], *, answers: bool
) -> tuple[bool, Any]:
    try:
        answer = getattr(decoder, verb)(*arguments)
    except Exception as error:  # noqa: BLE001 - the caller must hear of every failure
        return False, f"{type(error).__name__}: {error}"
    return True, answer if answers else None


if __name__ == "__main__":
    main()
