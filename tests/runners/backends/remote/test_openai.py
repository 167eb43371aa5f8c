"""Chat from a real server, streamed."""

import asyncio
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.backends.remote import OpenAIBackend
from runners.backends.remote.events import EventLines
from runners.protocol import Ticket
from turnout.catalog.engines import OpenAI
from turnout.errors import InvalidRequest, LoadFailed, UpstreamFailed
from turnout.types import Generation, JsonFormat, Message, TokenChance

ASKED = Generation(
    (Message("system", "be brief"), Message("user", "hi")),
    max_tokens=7,
    temperature=0.5,
    stop=("\n",),
    seed=3,
    logprobs=True,
)


def chunk(text=None, reason=None, logprob=None):
    choice = {"index": 0, "delta": {} if text is None else {"content": text}}
    if reason:
        choice["finish_reason"] = reason
    if logprob is not None:
        choice["logprobs"] = {"content": [{"token": text, "logprob": logprob}]}
    return {"choices": [choice]}


USAGE = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}


def options(url):
    return OpenAI(engine="openai", url=url, model="gpt", api_key_env="KEY")


@pytest.fixture
async def backend(url, pauses):
    environment = {"KEY": "secret"}
    backend = OpenAIBackend("here", options(url), sleep=pauses, environment=environment)
    await backend.start()
    yield backend
    await backend.stop()


def ticket():
    return Ticket("r1", 1, time.monotonic() + 60)


async def collect(pieces):
    return [piece async for piece in pieces]


async def test_an_answer_streams_with_its_usage(upstream, backend):
    upstream.stream(chunk("He", logprob=-0.5), chunk("y"), chunk(reason="stop"), USAGE)
    pieces = await collect(backend.generate(ASKED, ticket()))
    assert [piece.text for piece in pieces] == ["He", "y", ""]
    assert pieces[0].logprobs == (TokenChance(b"He", -0.5),)
    last = pieces[-1]
    assert (last.finish_reason, last.prompt_tokens, last.completion_tokens) == ("stop", 9, 2)


async def test_everything_asked_for_is_sent(upstream, backend):
    upstream.stream(chunk("x"), chunk(reason="length"))
    pieces = await collect(backend.generate(ASKED, ticket()))
    assert pieces[-1].finish_reason == "length"
    assert pieces[-1].completion_tokens == 1  # this server counts nothing: chunks are counted
    _, path, headers, body = upstream.asked[-1]
    assert path == "/v1/chat/completions"
    assert headers["authorization"] == "Bearer secret"
    assert 0 < int(headers["x-deadline-ms"]) <= 60_000
    assert json.loads(body) == {
        "model": "gpt",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "hi"},
        ],
        "max_tokens": 7,
        "temperature": 0.5,
        "top_p": 1.0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "stop": ["\n"],
        "seed": 3,
        "logprobs": True,
    }


async def test_the_likeliest_tokens_and_what_was_cached_come_back(upstream, backend):
    other = {"token": "\N{REPLACEMENT CHARACTER}", "logprob": -0.7, "bytes": [0xC3]}
    listed = {"token": "x", "logprob": -0.5, "bytes": [120], "top_logprobs": [other]}
    piece = chunk("x")
    piece["choices"][0]["logprobs"] = {"content": [listed]}
    usage = {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 8}}
    upstream.stream(piece, chunk(reason="stop"), {"choices": [], "usage": usage})
    asked = Generation((Message("user", "hi"),), logprobs=True, top_logprobs=1)
    first, last = await collect(backend.generate(asked, ticket()))
    assert first.logprobs == (TokenChance(b"x", -0.5, (TokenChance(b"\xc3", -0.7),)),)
    assert last.cached_tokens == 8
    assert json.loads(upstream.asked[-1][3])["top_logprobs"] == 1


@pytest.mark.parametrize(
    ("form", "sent"),
    [
        (JsonFormat(), {"type": "json_object"}),
        (
            JsonFormat('{"type": "object"}', "a", True),
            {
                "type": "json_schema",
                "json_schema": {"name": "a", "strict": True, "schema": {"type": "object"}},
            },
        ),
    ],
)
async def test_the_form_of_an_answer_is_passed_on(upstream, backend, form, sent):
    upstream.stream(chunk("{}"), chunk(reason="stop"))
    await collect(backend.generate(Generation((Message("user", "hi"),), json=form), ticket()))
    assert json.loads(upstream.asked[-1][3])["response_format"] == sent


async def test_closing_the_answer_stops_the_upstream(upstream, backend):
    gate = asyncio.Event()
    upstream.stream(chunk("x"), done=False)
    upstream.answers[-1][2].append(gate.wait)
    pieces = backend.generate(ASKED, ticket())
    assert (await anext(pieces)).text == "x"
    await pieces.aclose()
    assert backend.load_now().running == 0
    gate.set()
    async with asyncio.timeout(10):
        while not upstream.left_early:
            await asyncio.sleep(0)


async def test_a_server_that_does_not_stream_is_read_too(upstream, backend):
    choice = {"message": {"content": "whole"}, "finish_reason": "stop"}
    upstream.say({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
    pieces = await collect(backend.generate(ASKED, ticket()))
    assert [piece.text for piece in pieces] == ["whole", ""]


async def test_an_error_in_the_middle_is_the_upstreams_failure(upstream, backend):
    upstream.stream(chunk("x"), {"error": {"message": "out of memory"}})
    with pytest.raises(UpstreamFailed, match="out of memory"):
        await collect(backend.generate(ASKED, ticket()))


async def test_an_answer_that_breaks_off_is_the_upstreams_failure(upstream, backend):
    upstream.stream(chunk("x"), done=False)
    with pytest.raises(UpstreamFailed, match="broke off"):
        await collect(backend.generate(ASKED, ticket()))


async def test_noise_is_the_upstreams_failure(upstream, backend):
    upstream.say(b"data: {nonsense\n\n", content_type="text/event-stream")
    with pytest.raises(UpstreamFailed, match="no JSON"):
        await collect(backend.generate(ASKED, ticket()))


async def test_busy_is_tried_again_and_wrong_is_not(upstream, backend, pauses):
    upstream.say({"error": {"message": "slow down"}}, status=429, retry_after="1")
    upstream.stream(chunk("x"), chunk(reason="stop"))
    assert await collect(backend.generate(ASKED, ticket()))
    assert pauses == [1.0]
    upstream.say({"error": {"message": "context too long", "param": "messages"}}, status=400)
    with pytest.raises(InvalidRequest, match="context too long") as refused:
        await collect(backend.generate(ASKED, ticket()))
    assert refused.value.param == "messages"


async def test_a_missing_key_and_a_refused_one_are_told_at_start(upstream, url, pauses):
    with pytest.raises(LoadFailed, match="set the environment variable KEY"):
        await OpenAIBackend("here", options(url), environment={}).start()
    upstream.say({"error": {"message": "bad key"}}, status=401)
    refused = OpenAIBackend("here", options(url), environment={"KEY": "x"})
    with pytest.raises(LoadFailed, match=r"refuses the key \(401\): bad key"):
        await refused.start()


@given(st.lists(st.binary(min_size=1).filter(lambda b: not set(b) & set(b"\r\n"))), st.data())
def test_events_are_the_same_however_the_bytes_are_cut(datas, data):
    end = data.draw(st.sampled_from([b"\n", b"\r\n"]))
    stream = b"".join(b": ping" + end + b"data: " + each + end + end for each in datas)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    events = EventLines()
    read = []
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        read += events.push(stream[start:stop])
    assert [*read, *events.flush()] == datas
