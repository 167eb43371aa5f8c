"""What every tensor engine keeps, whichever it is."""

import tracemalloc

import numpy as np
import pytest

from runners.engines import make
from runners.engines.fake import make as make_fake
from turnout.catalog import Model
from turnout.errors import LoadFailed, RunFailed

REAL = ["onnx", "torch", "tensorrt"]
ARTIFACT = {"tag": "tiny", "recipe": "tiny"}


def runner_of(engine, folder, **options):
    artifact = None if engine == "fake" else ARTIFACT
    runner = {"engine": engine, **options}
    model = Model.model_validate({"task": "tabular", "runner": runner, "artifact": artifact})
    return make("tiny", model, folder)


def folder_of(engine, request):
    fixtures = {"onnx": "onnx_folder", "tensorrt": "onnx_folder", "torch": "torch_folder"}
    return request.getfixturevalue(fixtures[engine]) if engine in fixtures else None


@pytest.fixture(params=[*REAL, "fake"])
def runner(request):
    runner = runner_of(request.param, folder_of(request.param, request))
    yield runner
    runner.close()


@pytest.fixture(params=REAL)
def real(request):
    runner = runner_of(request.param, folder_of(request.param, request))
    runner.load()
    yield runner
    runner.close()


def rows(count):
    return np.random.default_rng(count).normal(size=(count, 3)).astype(np.float32)


def test_load_says_what_runs(runner):
    active = runner.load()
    assert active.engine in {*REAL, "fake"}
    assert active.provider
    assert active.load_s >= 0
    assert (active.reason is None) == (active.provider == active.requested)


def test_rows_come_back_as_rows_and_do_not_mix(runner):
    runner.load()
    batch = rows(5)
    together = runner.run({"x": batch})
    alone = [runner.run({"x": batch[row : row + 1]}) for row in range(5)]
    for name, output in together.items():
        assert isinstance(output, np.ndarray)
        assert len(output) == 5
        each = np.concatenate([answer[name] for answer in alone])
        assert np.allclose(output, each, atol=1e-5)


def test_the_same_input_gives_the_same_output(runner):
    runner.load()
    first, second = runner.run({"x": rows(3)}), runner.run({"x": rows(3)})
    assert first.keys() == second.keys()
    assert all((first[name] == second[name]).all() for name in first)


def test_nothing_runs_before_load_or_after_close(runner):
    with pytest.raises(RunFailed, match="not loaded"):
        runner.run({"x": rows(1)})
    runner.load()
    runner.close()
    runner.close()
    with pytest.raises(RunFailed, match="not loaded"):
        runner.run({"x": rows(1)})


def test_a_missing_input_is_refused(runner):
    runner.load()
    with pytest.raises(RunFailed, match=r"missing|no tensor"):
        runner.run({})


def test_read_only_and_unaligned_inputs_run(runner):
    runner.load()
    raw = b"\0" + rows(2).tobytes()
    read = np.frombuffer(raw, np.float32, offset=1).reshape(2, 3)
    answer = runner.run({"x": np.require(read, requirements="A")})
    assert len(next(iter(answer.values()))) == 2


def test_the_numbers_are_right(real):
    answer = real.run({"x": np.array([[1, 2, 3], [0, 0, 0]], np.float32)})
    assert answer["y"].tolist() == [[17, 23], [1, 1]]
    assert answer["total"].tolist() == [40, 2]


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"z": rows(1)}, "input 'x' is missing.*there is no input 'z'"),
        ({"x": rows(1), "z": rows(1)}, "there is no input 'z' .the model takes 'x'"),
        ({"x": rows(1).astype(np.float64)}, "input 'x' is float64, the model takes float32"),
        ({"x": np.ones((1, 4), np.float32)}, r"shape \[1, 4\], the model takes \[any, 3\]"),
        ({"x": np.ones(3, np.float32)}, r"shape \[3\], the model takes \[any, 3\]"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_in_words(real, tensors, says):
    with pytest.raises(RunFailed, match=says):
        real.run(tensors)
    assert len(real.run({"x": rows(2)})["total"]) == 2  # and it still runs


@pytest.mark.parametrize("engine", REAL)
def test_a_missing_file_is_named(engine, tmp_path):
    with pytest.raises(LoadFailed, match=r"model\.(onnx|pt2) is missing; build the model again"):
        runner_of(engine, tmp_path).load()


@pytest.mark.parametrize("engine", REAL)
def test_a_damaged_file_is_named(engine, tmp_path):
    for name in ("model.onnx", "model.pt2"):
        (tmp_path / name).write_bytes(b"\x80\x04not a model")
    with pytest.raises(LoadFailed, match=r"cannot load .*model\.(onnx|pt2)"):
        runner_of(engine, tmp_path).load()


@pytest.mark.parametrize(
    ("engine", "options"),
    [("onnx", {"provider": "cuda"}), ("torch", {"device": "cuda"}), ("tensorrt", {})],
)
def test_a_provider_that_is_not_there_falls_back_with_its_reason_or_refuses(
    engine, options, request
):
    folder = folder_of(engine, request)
    active = runner_of(engine, folder, **options).load()
    if active.provider == active.requested:
        pytest.skip("this machine has the provider")
    assert active.reason
    with pytest.raises(LoadFailed, match="strict forbids a fallback"):
        runner_of(engine, folder, strict=True, **options).load()


def test_the_fake_fails_when_told_to():
    with pytest.raises(LoadFailed, match="fail: load"):
        runner_of("fake", None, fail="load").load()
    runner = runner_of("fake", None, fail="run")
    runner.load()
    with pytest.raises(RunFailed, match="fail: run"):
        runner.run({"x": rows(1)})


def test_an_engine_without_files_or_that_runs_elsewhere_is_refused():
    with pytest.raises(LoadFailed, match="was given no folder"):
        runner_of("onnx", None)
    remote = {"engine": "open-inference", "url": "http://localhost:1", "model": "m"}
    model = {"task": "tabular", "runner": remote, "placement": "remote"}
    with pytest.raises(LoadFailed, match="does not run here"):
        make("r", Model.model_validate(model), None)


def fake(sleep=lambda s: None, **options):
    model = {"task": "tabular", "runner": {"engine": "fake", **options}}
    runner = make_fake("f", Model.model_validate(model), sleep=sleep)
    runner.load()
    return runner


def test_the_fake_becomes_slow_sick_or_may_hang_after_runs_that_go_well():
    slept = []
    slow = fake(slept.append, fail="slow", latency_ms=5, after_runs=1)
    sick = fake(fail="nan", after_runs=1)
    answers = []
    for _ in range(2):
        slow.run({"x": rows(1)})
        answers.append(np.isfinite(sick.run({"x": rows(1)})["probability"]).all())
    assert slept == [0.005, 0.05]
    assert answers == [True, False]
    assert fake(fail="hang").may_block
    assert not sick.may_block


def test_what_the_fake_leaks_is_gone_once_it_is_closed():
    leaky = fake(fail="leak", leak_bytes=1024**2)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(4):
        leaky.run({"x": rows(1)})
    kept = tracemalloc.get_traced_memory()[0] - before
    leaky.close()
    left = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert kept > 4 * 1024**2
    assert left < 1024**2
