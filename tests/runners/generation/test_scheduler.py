"""The core loop, turned by hand over the fake runner: no thread, no clock, no sleep."""

import itertools

import pytest

from runners.engines import make
from runners.generation.scheduler import Scheduler
from runners.protocol import Step, Ticket
from turnout.catalog import Model
from turnout.errors import DeadlineUnreachable, InvalidRequest, LoadFailed, QueueFull, RunFailed
from turnout.types import Generation, Message, Piece

FAR = 1e9


def saying(text, **more):
    return Generation((Message("user", text),), **more)


class Bench:
    """A loop over the fake runner, with a clock to set and every event kept."""

    def __init__(self, max_sequences=2, fail="never", context_tokens=2048, **options):
        runner = {"engine": "fake", "max_sequences": max_sequences, "fail": fail}
        model = Model.model_validate(
            {"task": "chat", "runner": runner, "context_tokens": context_tokens}
        )
        self.runner = make("m", model, None)
        self.runner.load()
        self.now_s = 0.0
        self.events = []
        self.loop = Scheduler(
            "m", self.runner, self.events.extend, clock=lambda: self.now_s, **options
        )
        self._ids = itertools.count()

    def submit(self, text, priority=1, deadline_s=FAR, **more):
        ticket = Ticket(str(next(self._ids)), priority, deadline_s)
        return self.loop.submit(saying(text, **more), ticket)

    def turn(self, times=1):
        """The events of each of so many turns."""
        turns = []
        for _ in range(times):
            before = len(self.events)
            self.loop.turn()
            turns.append(self.events[before:])
        return turns

    def drain(self):
        for _ in range(2000):
            if self.loop.idle:
                return
            self.loop.turn()
        pytest.fail("the loop does not come to rest")

    def text(self, job):
        return "".join(
            event.text for each, event in self.events if each is job and isinstance(event, Piece)
        )

    def error(self, job):
        return next(event for each, event in self.events if each is job)


def test_answers_are_written_side_by_side_and_each_is_whole():
    bench = Bench(max_sequences=3, reserved=0)
    jobs = [bench.submit(text) for text in ("one", "two hundred", "drei é")]
    bench.drain()
    assert [bench.text(job) for job in jobs] == ["one", "two hundred", "drei é"]
    last = [piece for _, piece in bench.events if piece.finish_reason]
    assert [piece.finish_reason for piece in last] == ["stop"] * 3


def test_a_newcomer_joins_between_two_steps_and_does_not_starve_the_others():
    bench = Bench(max_sequences=4, reserved=0)
    first = bench.submit("a" * 200)
    bench.turn(3)
    long = bench.submit("b" * 1000)  # eight chunks of prompt
    seen = [{job for job, _ in events} for events in bench.turn(16)]
    assert all(first in a | b for a, b in itertools.pairwise(seen))
    bench.drain()
    assert bench.text(long) == "b" * 256


def test_the_most_urgent_waits_for_one_step_at_most():
    bench = Bench(max_sequences=2)
    bulk = [bench.submit("x" * 50, priority=2) for _ in range(3)]
    bench.turn(6)
    assert {job for job, _ in bench.events} == {bulk[0]}  # the last slot is kept free
    urgent = bench.submit("now", priority=0)
    assert urgent in {job for job, _ in bench.turn()[0]}


def test_waiting_work_goes_by_priority_then_deadline_then_arrival():
    bench = Bench(max_sequences=1)
    jobs = {
        "running": bench.submit("r", priority=2),
        "bulk": bench.submit("b", priority=2),
        "late": bench.submit("l", priority=1, deadline_s=50),
        "soon": bench.submit("s", priority=1, deadline_s=10),
        "soon too": bench.submit("t", priority=1, deadline_s=10),
    }
    names = {job: name for name, job in jobs.items()}
    bench.drain()
    done = [names[job] for job, piece in bench.events if piece.finish_reason]
    assert done == ["soon", "soon too", "late", "running", "bulk"]


def test_bulk_goes_first_once_after_it_has_waited_long():
    bench = Bench(max_sequences=1)
    bulk = bench.submit("b", priority=2)
    bench.now_s = 6.0
    urgent = [bench.submit("u", priority=0) for _ in range(2)]
    bench.drain()
    assert [job for job, piece in bench.events if piece.finish_reason] == [bulk, *urgent]


def test_a_full_queue_refuses_and_says_when_to_return():
    bench = Bench(max_sequences=1, max_queue=1)
    bench.submit("a")
    bench.turn()
    bench.submit("b")
    with pytest.raises(QueueFull) as refused:
        bench.submit("c")
    assert refused.value.depth == 1
    assert refused.value.retry_after_s == pytest.approx(1.0)
    bench.now_s = 5.0
    bench.drain()  # now it knows that a generation holds the slot for longer
    bench.submit("d")
    with pytest.raises(QueueFull) as refused:
        bench.submit("e")
    assert refused.value.retry_after_s > 1.0


def test_work_whose_deadline_passes_in_the_queue_is_told_so():
    bench = Bench(max_sequences=1)
    running = bench.submit("a" * 20)
    bench.turn()
    late = bench.submit("b", deadline_s=1.0)
    bench.now_s = 2.0
    bench.turn()
    assert isinstance(bench.error(late), DeadlineUnreachable)
    assert "after 2 s in the queue" in str(bench.error(late))
    bench.drain()
    assert bench.text(running) == "a" * 20  # a deadline concerns the first token only


@pytest.mark.parametrize("turns", [0, 1, 5])
def test_a_cancelled_generation_frees_its_slot_before_the_next_step(turns):
    bench = Bench(max_sequences=1)
    gone = bench.submit("x" * 500)
    next_one = bench.submit("y")
    bench.turn(turns)
    bench.loop.cancel(gone)
    events = bench.turn()[0]
    assert {job for job, _ in events} == {next_one}
    assert bench.loop.load_now().running == 1


def test_a_prompt_that_does_not_fit_fails_alone():
    bench = Bench(max_sequences=2, reserved=0, context_tokens=10)
    long, short = bench.submit("x" * 30), bench.submit("ok")
    bench.drain()
    assert isinstance(bench.error(long), InvalidRequest)
    assert "takes 31 tokens and the model's context is 10" in str(bench.error(long))
    assert bench.text(short) == "ok"


def test_a_runner_that_keeps_failing_is_taken_out_of_service():
    bench = Bench(max_sequences=1, fail="run")
    jobs = [bench.submit("x") for _ in range(5)]
    bench.drain()
    errors = [type(bench.error(job)) for job in jobs]
    assert errors == [RunFailed] * 3 + [LoadFailed] * 2
    with pytest.raises(LoadFailed, match="failed 3 times in a row and is out of service"):
        bench.submit("y")


def test_the_load_counts_what_waits_and_what_runs():
    bench = Bench(max_sequences=2, reserved=0)
    for _ in range(4):
        bench.submit("long enough")
    bench.turn(2)
    load = bench.loop.load_now()
    assert (load.queued, load.running, load.queued_rows) == (2, 2, 2)


class GoesWrong:
    """Its first sequence writes for ever; the second can't be written on."""

    max_sequences = 2

    def __init__(self):
        self._count = 0

    def add(self, generation):
        self._count += 1
        return self._count

    def step(self):
        wrong = [Step(2, InvalidRequest("its schema is too complex"))]
        return [Step(1, Piece("x")), *(wrong if self._count == 2 else [])]

    def remove(self, sequence):
        raise AssertionError("it has left by itself")


def test_a_sequence_that_goes_wrong_ends_alone():
    events = []
    loop = Scheduler("m", GoesWrong(), events.extend, clock=lambda: 0.0, reserved=0)
    right = loop.submit(saying("a"), Ticket("1", 1, FAR))
    loop.turn()
    wrong = loop.submit(saying("b"), Ticket("2", 1, FAR))
    loop.turn()
    assert [type(event) for job, event in events if job is wrong] == [InvalidRequest]
    assert [event.text for job, event in events if job is right] == ["x", "x"]
    assert loop.load_now().running == 1
