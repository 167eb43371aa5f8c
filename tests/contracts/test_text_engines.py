"""What every text engine keeps, whichever it is."""

import itertools
import json
import re

import pytest

from runners.engines import make
from runners.generation.kv_cache_rows import LEFT_TO_READ
from turnout.catalog import Model
from turnout.errors import InvalidRequest, LoadFailed, RunFailed
from turnout.types import Generation, JsonFormat, Message

ARTIFACT = {"tag": "tiny", "recipe": "tiny"}
FOLDERS = {"deepspeed": "llama_folder", "onnx-genai": "genai_folder"}
REAL = list(FOLDERS)
PROMPTS = ["hello there", "é中 😀", "x" * 200, "why?", "a"]


def saying(text, **more):
    return Generation((Message("user", text),), **{"max_tokens": 12, **more})


def runner_of(engine, folder, *, max_sequences=3, context_tokens=300, **options):
    runner = {"engine": engine, "max_sequences": max_sequences, **options}
    if engine != "fake":
        runner["threads"] = 1
    artifact = None if engine == "fake" else ARTIFACT
    entry = {"task": "chat", "runner": runner, "artifact": artifact}
    return make("tiny", Model.model_validate({**entry, "context_tokens": context_tokens}), folder)


@pytest.fixture(scope="module", params=[*REAL, "fake"])
def runner(request):
    engine = request.param
    folder = request.getfixturevalue(FOLDERS[engine]) if engine in FOLDERS else None
    runner = runner_of(engine, folder)
    runner.load()
    yield runner
    runner.close()


@pytest.fixture(autouse=True)
def empty(request):
    """Leave a shared runner without sequences."""
    yield
    if "runner" in request.fixturenames:
        shared = request.getfixturevalue("runner")
        for number in range(500):
            shared.remove(number)


def write(runner, *generations):
    """The pieces of each, all running together."""
    numbers = [runner.add(each) for each in generations]
    pieces = {number: [] for number in numbers}
    while not all(each and each[-1].finish_reason for each in pieces.values()):
        for step in runner.step():
            pieces[step.sequence].append(step.piece)
    return [pieces[number] for number in numbers]


def tokens(pieces):
    return [token for piece in pieces for token in piece.token_ids]


def text(pieces):
    return "".join(piece.text for piece in pieces)


def test_an_answer_ends_with_its_reason_and_its_usage(runner):
    (pieces,) = write(runner, saying("hello there"))
    assert [piece.finish_reason for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    last = pieces[-1]
    assert last.finish_reason in {"stop", "length"}
    assert last.completion_tokens == len(tokens(pieces)) <= 12
    assert last.prompt_tokens >= len("hello there")


def test_one_token_is_enough(runner):
    (pieces,) = write(runner, saying("hello there", max_tokens=1))
    assert len(pieces) == 1
    assert pieces[0].finish_reason == "length"
    assert len(pieces[0].token_ids) == 1


def test_answers_do_not_depend_on_who_writes_beside_them(runner):
    alone = [tokens(write(runner, saying(prompt))[0]) for prompt in PROMPTS]
    together = []
    for start in (0, 2):
        together += write(runner, *(saying(prompt) for prompt in PROMPTS[start : start + 3]))
    assert [tokens(pieces) for pieces in together] == [*alone[:3], *alone[2:5]]


def test_sequences_join_and_leave_between_steps(runner):
    alone = {prompt: tokens(write(runner, saying(prompt))[0]) for prompt in PROMPTS}
    numbers, pieces, waiting = {}, {}, list(PROMPTS)
    for turn in range(300):
        if waiting and len(numbers) < 3 and turn % 2 == 0:
            prompt = waiting.pop(0)
            number = runner.add(saying(prompt))
            numbers[number], pieces[prompt] = prompt, []
        for step in runner.step():
            prompt = numbers[step.sequence]
            pieces[prompt].append(step.piece)
            if step.piece.finish_reason:
                del numbers[step.sequence]
    assert {prompt: tokens(each) for prompt, each in pieces.items()} == alone


def test_removing_a_sequence_frees_its_slot_and_leaves_the_others_alone(runner):
    alone = tokens(write(runner, saying("hello there"))[0])
    numbers = [runner.add(saying(prompt)) for prompt in ("why?", "hello there", "x" * 200)]
    with pytest.raises(RunFailed, match="slots are taken"):
        runner.add(saying("one more"))
    written = []
    for turn in range(40):
        if turn == 3:
            runner.remove(numbers[0])
        if turn == 5:
            runner.remove(numbers[2])
            runner.remove(numbers[2])
        steps = runner.step()
        written += [step.piece for step in steps if step.sequence == numbers[1]]
    assert tokens(written) == alone


def test_a_long_prompt_is_read_in_parts_between_the_others_tokens(runner):
    running = runner.add(saying("y" * 60, max_tokens=60))
    while not runner.step():
        pass
    runner.add(saying("x" * 250, max_tokens=1))
    written = [any(step.sequence == running for step in runner.step()) for _ in range(8)]
    assert all(a or b for a, b in itertools.pairwise(written))


def test_greedy_answers_repeat_and_seeds_repeat_sampling(runner):
    for more in ({}, {"temperature": 1.5, "top_p": 0.95, "seed": 11}):
        first, second = (write(runner, saying("hello there", **more))[0] for _ in range(2))
        assert tokens(first) == tokens(second)


def test_logprobs_come_with_each_token_when_asked_for(runner):
    (pieces,) = write(runner, saying("hello there", logprobs=True))
    assert all(len(piece.logprobs) == len(piece.token_ids) for piece in pieces)
    chances = [chance for piece in pieces for chance in piece.logprobs]
    assert all(chance.logprob <= 0 for chance in chances)
    written = b"".join(chance.token for chance in chances)
    known = re.sub(rb"<\[\d+\]>", b"", written)  # the tiny models have tokens without text
    assert known.decode(errors="replace") == text(pieces)
    (plain,) = write(runner, saying("hello there"))
    assert not any(piece.logprobs for piece in plain)


def test_the_likeliest_tokens_are_listed_beside_the_chosen_one(runner):
    (pieces,) = write(runner, saying("hello there", logprobs=True, top_logprobs=3))
    for chance in (chance for piece in pieces for chance in piece.logprobs):
        listed = [one.logprob for one in chance.top]
        assert listed == sorted(listed, reverse=True)
        assert len(listed) == 3
        assert chance.top[0].token == chance.token  # greedy


SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["cat", "dog"]}, "lives": {"type": "integer"}},
    "required": ["kind", "lives"],
    "additionalProperties": False,
}
AS_JSON = JsonFormat(json.dumps(SCHEMA))


@pytest.mark.parametrize("more", [{}, {"temperature": 1.0, "seed": 5}])
def test_an_answer_can_be_held_to_a_schema_beside_free_ones(runner, more):
    alone = tokens(write(runner, saying("hello there"))[0])
    held, free = write(
        runner,
        saying("why?", json=AS_JSON, max_tokens=200, **more),
        saying("hello there"),
    )
    assert tokens(free) == alone
    if held[-1].finish_reason == "stop":
        found = json.loads(text(held))
        assert set(found) == {"kind", "lives"}
        assert found["kind"] in {"cat", "dog"}
        assert isinstance(found["lives"], int)
    else:  # a model without sense may write digits for ever
        assert re.match(r'\{\s*"kind"\s*:\s*"(cat|dog)"', text(held))


def test_any_object_will_do_without_a_schema(runner):
    (pieces,) = write(runner, saying("why?", json=JsonFormat(), max_tokens=40))
    assert text(pieces).startswith("{")


def test_a_prompt_that_begins_like_another_is_not_read_again(runner):
    plain = saying("q" * 80 + "1")
    (first,) = write(runner, plain)
    again, other = write(runner, plain, saying("q" * 80 + "2"))
    assert tokens(again) == tokens(first)
    assert again[-1].cached_tokens == again[-1].prompt_tokens - LEFT_TO_READ
    assert 80 <= other[-1].cached_tokens < other[-1].prompt_tokens


def test_a_conversation_goes_on_where_it_ended(runner):
    say, hear = Message("user", "w" * 60), Message("assistant", "v" * 30)
    ask = Generation((say,), max_tokens=4)
    more = Generation((say, hear, Message("user", "u")), max_tokens=12)
    (fresh,) = write(runner, more)
    write(runner, ask, saying("x" * 50, max_tokens=40), saying("y" * 50, max_tokens=9))
    (went_on,) = write(runner, more)
    assert tokens(went_on) == tokens(fresh)
    assert went_on[-1].cached_tokens >= 60


@pytest.mark.parametrize("more", [{}, {"temperature": 0.7, "seed": 4}, {"json": AS_JSON}])
def test_guessing_ahead_changes_no_answer(runner, request, more):
    """Twice the same text, so that the second time may be guessed from the first."""
    asked = saying("one two three. one two three. one", max_tokens=40, **more)
    (plain,) = write(runner, asked)
    engine = request.node.callspec.params["runner"]
    folder = request.getfixturevalue(FOLDERS[engine]) if engine in FOLDERS else None
    options = {} if engine == "fake" else {"draft_tokens": 4}
    guessing = runner_of(engine, folder, **options)
    guessing.load()
    (guessed,) = write(guessing, asked)
    guessing.close()
    assert tokens(guessed) == tokens(plain)
    assert text(guessed) == text(plain)


def test_a_stop_string_ends_the_answer_before_it(runner):
    whole = text(write(runner, saying("hello there"))[0])
    stop = whole[3:5]
    (pieces,) = write(runner, saying("hello there", stop=(stop,)))
    assert pieces[-1].finish_reason == "stop"
    assert text(pieces) == whole[: whole.index(stop)]


def test_the_context_bounds_the_answer(runner):
    (pieces,) = write(runner, saying("z" * 270, max_tokens=500))
    last = pieces[-1]
    assert last.finish_reason in {"stop", "length"}
    assert last.prompt_tokens + last.completion_tokens <= 300


@pytest.mark.parametrize(
    ("generation", "says"),
    [
        (saying("x" * 400), r"the prompt takes 4\d\d tokens and the model's context is 300"),
        (Generation(()), "messages is empty"),
        (saying("a", max_tokens=0), "max_tokens must be at least 1"),
        (saying("a", temperature=-1.0), "temperature must be 0 or more"),
        (saying("a", temperature=float("nan")), "temperature must be 0 or more"),
        (saying("a", top_p=0.0), "top_p must be over 0"),
        (saying("a", stop=("",)), "stop string is empty"),
        (saying("a", seed=-1), "seed must be 0 or more"),
        (saying("a", logprobs=True, top_logprobs=21), "top_logprobs must be 0 to 20"),
        (
            saying("a", json=JsonFormat('{"properties": {"b": {"type": "objekt"}}}')),
            r"json_schema\.schema\.properties\.b: Invalid type: objekt",
        ),
    ],
)
def test_what_cannot_be_written_is_refused_before_it_takes_a_slot(runner, generation, says):
    with pytest.raises(InvalidRequest, match=says):
        runner.add(generation)
    assert not runner.step()


def test_nothing_runs_before_load():
    with pytest.raises(RunFailed, match="not loaded"):
        runner_of("fake", None).add(saying("a"))


@pytest.mark.parametrize("engine", REAL)
def test_a_missing_file_is_named(engine, tmp_path):
    with pytest.raises(LoadFailed, match=r"config\.json is missing; build the model again"):
        runner_of(engine, tmp_path).load()


@pytest.mark.parametrize("engine", REAL)
def test_damaged_files_are_named(engine, request, tmp_path):
    for file in request.getfixturevalue(FOLDERS[engine]).iterdir():
        if file.is_file():
            broken = file.suffix in {".safetensors", ".onnx"}
            (tmp_path / file.name).write_bytes(b"\x80no" if broken else file.read_bytes())
    with pytest.raises(LoadFailed, match=f"cannot load {tmp_path}"):
        runner_of(engine, tmp_path).load()


def test_greedy_answers_are_those_of_transformers_generate(llama_folder, genai_folder):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(llama_folder)
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    reference = []
    for prompt in PROMPTS[:3]:
        chat = [{"role": "user", "content": prompt}]
        given = tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            ids = model.generate(**given, max_new_tokens=12, do_sample=False)[0]
        written = ids[given["input_ids"].shape[1] :].tolist()
        reference.append(written[: written.index(256)] if 256 in written else written)
    for engine, folder in (("deepspeed", llama_folder), ("onnx-genai", genai_folder)):
        runner = runner_of(engine, folder)
        runner.load()
        assert [tokens(each) for each in write(runner, *map(saying, PROMPTS[:3]))] == reference
        runner.close()


@pytest.mark.slow
def test_two_tensor_parallel_ranks_write_the_same_and_end_with_the_runner(llama_folder):
    written = []
    for ranks in (1, 2):
        runner = runner_of("deepspeed", llama_folder, tensor_parallel=ranks)
        active = runner.load()
        written.append([tokens(each) for each in write(runner, *map(saying, PROMPTS[:3]))])
        runner.close()
        with pytest.raises(RunFailed, match="not loaded"):
            runner.add(saying("a"))
    assert written[0] == written[1]
    assert active.provider == "cpu x 2"


@pytest.mark.slow
def test_weights_kept_apart_from_the_device_write_the_same_answers(llama_folder):
    written = []
    for options in ({}, {"offload": "cpu"}):
        runner = runner_of("deepspeed", llama_folder, **options)
        active = runner.load()
        written.append([tokens(each) for each in write(runner, *map(saying, PROMPTS[:3]))])
        runner.close()
    assert written[0] == written[1]
    assert active.provider == "cpu"


@pytest.mark.slow
def test_a_rank_that_cannot_load_says_why(llama_folder, tmp_path):
    for file in llama_folder.iterdir():
        broken = file.suffix == ".safetensors"
        (tmp_path / file.name).write_bytes(b"no" if broken else file.read_bytes())
    with pytest.raises(LoadFailed, match=r"in a separate process: .*cannot load"):
        runner_of("deepspeed", tmp_path, tensor_parallel=2).load()
