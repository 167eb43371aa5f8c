"""DeepSpeed's ways that want a GPU, as far as they can be told without one."""

import json

import numpy as np
import pytest

from runners.engines import make
from runners.engines.deepspeed.fastgen import (
    FastGenDecoder,
    check_config,
    engine_limits,
    with_dtype,
)
from runners.engines.deepspeed.kernel_inject import InjectedDecoder, check_heads
from runners.engines.deepspeed.zero_offload import zero_config
from runners.generation.slot_runner import SlotRunner
from tests.contracts import tiny_models
from tests.runners.generation.toy import ACTIVE, Letters, ToyDecoder, logits_after, saying, write
from turnout.catalog import Model
from turnout.catalog.engines import DeepSpeed
from turnout.errors import LoadFailed, RunFailed

PROMPTS = ["hello there", "what is it", "abc abc abc abc", "so", "once upon a time"]
CPU_CONFIG = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4}


def options(**given):
    return DeepSpeed.model_validate({"engine": "deepspeed", **given})


class Ragged:
    """FastGen's ``put`` and ``flush`` over a model that is known by heart."""

    def __init__(self):
        self.said = {}
        self.most = 0

    def put(self, batch_uids, batch_tokens):
        import torch

        for uid, tokens in zip(batch_uids, batch_tokens, strict=True):
            self.said.setdefault(uid, []).extend(tokens.tolist())
        self.most = max(self.most, len(self.said))
        return torch.from_numpy(np.stack([logits_after(self.said[uid]) for uid in batch_uids]))

    def flush(self, uid):
        del self.said[uid]


def expected(prompts, **more):
    runner = SlotRunner("toy", 3, ToyDecoder)
    runner.load()
    return [write(runner, saying(prompt, **more))[0][0] for prompt in prompts]


def test_fastgen_answers_join_leave_and_change_places_without_a_copy():
    engine = Ragged()
    runner = SlotRunner(
        "fast", 3, lambda slots: FastGenDecoder(engine, Letters(), slots, 200, ACTIVE), 8
    )
    runner.load()
    lengths = [3, 12, 7, 2, 9]
    numbers, written, waiting = {}, {}, list(range(len(PROMPTS)))
    while waiting or numbers:
        if waiting and len(numbers) < 3:
            which = waiting.pop(0)
            numbers[runner.add(saying(PROMPTS[which], max_tokens=lengths[which]))] = which
        for step in runner.step():
            written.setdefault(numbers[step.sequence], []).extend(step.piece.token_ids)
            if step.piece.finish_reason:
                del numbers[step.sequence]
    alone = expected(PROMPTS)
    assert written == {which: alone[which][: lengths[which]] for which in range(len(PROMPTS))}
    assert engine.most <= 4
    runner.close()
    assert not engine.said


def test_fastgen_gets_a_cache_block_for_every_position_and_takes_these_limits():
    pytest.importorskip("deepspeed")
    from deepspeed.inference.v2.config_v2 import RaggedInferenceEngineConfig

    asked = options(
        fastgen=True, device="cuda", dtype="bfloat16", max_sequences=8, tensor_parallel=2
    )
    config = RaggedInferenceEngineConfig(**engine_limits(asked, 9, 1000, 128))
    assert config.tensor_parallel.tp_size == 2
    assert config.state_manager.memory_config.size * 128 >= 9 * 1000
    assert config.state_manager.max_ragged_batch_size == 128
    assert config.state_manager.max_tracked_sequences == 9


def test_fastgen_reads_the_same_files_with_another_dtype(tmp_path):
    folder, place = tmp_path / "model", tmp_path / "linked"
    folder.mkdir()
    place.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text("{}")
    with_dtype(folder, place, {**CPU_CONFIG, "dtype": "float32"}, "bfloat16")
    assert (place / "model.safetensors").read_bytes() == b"weights"
    assert json.loads((place / "config.json").read_text())["dtype"] == "bfloat16"
    assert (folder / "config.json").read_text() == "{}"


def test_fastgen_refuses_a_head_it_cannot_read(tmp_path):
    check_config("m", tmp_path, CPU_CONFIG)
    check_config("m", tmp_path, {"model_type": "qwen2", "tie_word_embeddings": True})
    with pytest.raises(LoadFailed, match=r"tie_word_embeddings.*remove fastgen: true"):
        check_config("m", tmp_path, {**CPU_CONFIG, "tie_word_embeddings": True})


class Remembering:
    """A module that keeps the one sequence it reads, as DeepSpeed's fused layers do."""

    def __init__(self):
        self.said = []

    def __call__(self, input_ids, position_ids, use_cache):
        import torch

        assert not use_cache
        ids = input_ids[0].tolist()
        if len(ids) > 1:
            self.said = []
        assert position_ids[0].tolist() == [len(self.said) + i for i in range(len(ids))]
        rows = []
        for token in ids:
            self.said.append(token)
            rows.append(logits_after(self.said))
        self.logits = torch.from_numpy(np.stack(rows)[None])
        return self


def test_fused_layers_write_one_answer_after_another():
    pytest.importorskip("torch")
    decoder = InjectedDecoder("fused", Remembering(), Letters(), 200, ACTIVE, "cpu")
    runner = SlotRunner("fused", 1, lambda slots: decoder, 200)
    runner.load()
    assert [write(runner, saying(prompt))[0][0] for prompt in PROMPTS] == expected(PROMPTS)
    with pytest.raises(RunFailed, match="whole prompt"):
        decoder.prefill(0, [1, 2], 5)


def test_fused_layers_are_refused_where_key_value_heads_are_shared(tmp_path):
    from types import SimpleNamespace

    check_heads("m", tmp_path, SimpleNamespace(num_attention_heads=4))
    with pytest.raises(LoadFailed, match="9 attention heads over 3 key-value heads"):
        check_heads("m", tmp_path, SimpleNamespace(num_attention_heads=9, num_key_value_heads=3))


@pytest.mark.parametrize(
    ("offload", "param"),
    [
        ("cpu", {"device": "cpu", "pin_memory": True}),
        ("nvme:/disk", {"device": "nvme", "pin_memory": True, "nvme_path": "/disk"}),
    ],
)
def test_offloading_is_a_configuration_deepspeed_takes(offload, param):
    pytest.importorskip("deepspeed")
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    config = zero_config(offload, "cuda", "bfloat16")
    assert config["zero_optimization"] == {"stage": 3, "offload_param": param}
    assert config["bf16"]["enabled"]
    assert not config["fp16"]["enabled"]
    read = DeepSpeedZeroConfig(**config["zero_optimization"])
    assert read.offload_param.device == param["device"]


@pytest.mark.parametrize(
    "way",
    [
        pytest.param({"fastgen": True, "dtype": "bfloat16"}, marks=pytest.mark.slow),
        {"kernel_inject": True, "max_sequences": 1},
    ],
)
def test_what_needs_a_gpu_says_so_where_there_is_none(way, tmp_path):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is one here")
    tiny_models.write_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**CPU_CONFIG, "eos_token_id": 256}))
    entry = {
        "task": "chat",
        "runner": {"engine": "deepspeed", "device": "cuda", **way},
        "artifact": {"tag": "tiny", "recipe": "tiny"},
    }
    key = next(iter(way))
    with pytest.raises(LoadFailed, match=f"{key} runs on an NVIDIA GPU only.*remove {key}: true"):
        make("tiny", Model.model_validate(entry), tmp_path).load()
