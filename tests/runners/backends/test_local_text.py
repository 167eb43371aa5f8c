"""The local text backend: asyncio in front, the engine's thread behind."""

import asyncio
import contextlib
import threading

import pytest

from runners.backends.local_text import LocalText
from runners.backends.on_demand import OnDemandText
from runners.engines.fake import make
from runners.pool import Footprint, Pool, Slot
from runners.protocol import Ticket
from turnout.catalog import Model
from turnout.errors import Draining, LoadFailed, QueueFull, RunFailed
from turnout.types import Generation, Message

FAR = 1e9


def saying(text, **more):
    return Generation((Message("user", text),), **more)


def fake(sleep=lambda _: None, **runner):
    runner = {"engine": "fake", "latency_ms": 1, **runner}
    return make("m", Model.model_validate({"task": "chat", "runner": runner}), sleep=sleep)


@contextlib.asynccontextmanager
async def started(sleep=lambda _: None, max_queue=64, **runner):
    backend = LocalText("m", lambda: fake(sleep, **runner), max_queue=max_queue)
    await backend.start()
    try:
        yield backend
    finally:
        await backend.stop()


async def collect(pieces):
    return [piece async for piece in pieces]


async def test_answers_stream_and_end_with_their_usage():
    async with started() as backend:
        assert backend.active.engine == "fake"
        pieces = await collect(backend.generate(saying("hello"), Ticket("1", 1, FAR)))
    assert [piece.text for piece in pieces] == ["h", "e", "l", "l", "o", ""]
    last = pieces[-1]
    assert (last.finish_reason, last.prompt_tokens, last.completion_tokens) == ("stop", 6, 5)


async def test_many_answers_at_once_stay_apart():
    async with started(max_sequences=4) as backend:
        texts = [f"answer number {index}" for index in range(20)]
        answers = await asyncio.gather(
            *(
                collect(backend.generate(saying(text), Ticket(text, index % 3, FAR)))
                for index, text in enumerate(texts)
            )
        )
    assert ["".join(piece.text for piece in answer) for answer in answers] == texts


async def test_closing_the_iterator_frees_the_slot():
    async with started(max_sequences=1) as backend:
        pieces = backend.generate(saying("x" * 2000, max_tokens=2000), Ticket("1", 1, FAR))
        assert (await anext(pieces)).text == "x"
        await pieces.aclose()
        answer = await collect(backend.generate(saying("next"), Ticket("2", 1, FAR)))
        assert "".join(piece.text for piece in answer) == "next"
        assert backend.load_now().running == 0


async def test_a_client_that_is_cancelled_frees_the_slot():
    async with started(max_sequences=1) as backend:
        long = saying("x" * 2000, max_tokens=2000)
        task = asyncio.create_task(collect(backend.generate(long, Ticket("1", 1, FAR))))
        while backend.load_now().running == 0:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await collect(backend.generate(saying("next"), Ticket("2", 1, FAR)))


async def test_stop_finishes_what_is_accepted_and_refuses_the_rest():
    gate = threading.Event()
    backend = LocalText("m", lambda: fake(lambda _: gate.wait()))
    await backend.start()
    running = asyncio.create_task(collect(backend.generate(saying("hello"), Ticket("1", 1, FAR))))
    while backend.load_now().running == 0:
        await asyncio.sleep(0)
    stopping = asyncio.create_task(backend.stop())
    await asyncio.sleep(0)
    with pytest.raises(Draining):
        await anext(backend.generate(saying("late"), Ticket("2", 1, FAR)))
    gate.set()
    await stopping
    assert "".join(piece.text for piece in await running) == "hello"


async def test_a_full_queue_refuses():
    gate = threading.Event()
    async with started(lambda _: gate.wait(), max_queue=1, max_sequences=1) as backend:
        tasks = []
        for index in range(2):
            answer = backend.generate(saying("a"), Ticket(str(index), 1, FAR))
            tasks.append(asyncio.create_task(collect(answer)))
            while backend.load_now().running == 0:
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await anext(backend.generate(saying("c"), Ticket("3", 1, FAR)))
        gate.set()
        await asyncio.gather(*tasks)


async def test_a_model_that_cannot_load_says_so_and_stops_cleanly():
    backend = LocalText("m", lambda: fake(fail="load"))
    with pytest.raises(LoadFailed, match="fail: load"):
        await backend.start()
    with pytest.raises(LoadFailed, match="is not loaded"):
        await anext(backend.generate(saying("a"), Ticket("1", 1, FAR)))
    await backend.stop()


async def test_loading_leaves_the_event_loop_free():
    gate = threading.Event()

    def slowly():
        gate.wait()
        return fake()

    backend = LocalText("m", slowly)
    starting = asyncio.create_task(backend.start())
    await asyncio.sleep(0)
    assert backend.active is None
    gate.set()
    await starting
    await backend.stop()


class Wrecked:
    """A runner whose engine is gone: no step goes, and no sequence can be let go."""

    def __init__(self, runner):
        self._runner = runner

    def __getattr__(self, name):
        return getattr(self._runner, name)

    def step(self):
        raise RuntimeError("the engine is gone")

    def remove(self, number):
        raise RuntimeError(f"cannot let go of {number}")


async def test_an_engine_that_is_gone_fails_all_there_is_and_is_loaded_afresh():
    class Clock:
        now_s = 0.0

    runners = [fake(), Wrecked(fake())]
    gone = asyncio.Event()
    pool = Pool(clock=lambda: Clock.now_s)

    def broke(backend, reason):
        pool.give_up(backend, reason)
        gone.set()

    slot = Slot("m", lambda: LocalText("m", runners.pop, broke=broke), Footprint(1))
    pool.add(slot)
    backend = OnDemandText(pool, slot)
    async with asyncio.timeout(60):
        asked = [
            collect(backend.generate(saying(str(index)), Ticket(str(index), 1, FAR)))
            for index in range(4)
        ]
        for error in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(error, RunFailed | LoadFailed)
            assert "cannot let go" in str(error)
        await gone.wait()
        assert slot.inner is None
        with pytest.raises(LoadFailed, match="cannot let go"):
            await collect(backend.generate(saying("soon"), Ticket("s", 1, FAR)))
        Clock.now_s += 11.0
        answer = await collect(backend.generate(saying("later"), Ticket("l", 1, FAR)))
    assert "".join(piece.text for piece in answer) == "later"
    await pool.stop()
