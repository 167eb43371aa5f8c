"""TensorRT's options and cache keys are pure; building an engine needs a GPU."""

import numpy as np
import pytest

from runners.engines.onnx.session import unavailable
from runners.engines.shape_check import DeclaredInput
from runners.engines.tensorrt import TENSORRT, TensorRTRunner, cache_key, provider_options
from tests.contracts import tiny_models
from turnout.catalog.engines import TensorRT

IMAGE = DeclaredInput("image", "float32", (None, 3, 224, 224))


def options(**given):
    return TensorRT(engine="tensorrt", **given)


def test_the_profile_covers_the_declared_rows(tmp_path):
    given = options(min_rows=2, opt_rows=16, max_rows=32)
    mask = DeclaredInput("mask", "int64", (None,))
    chosen = provider_options(given, [IMAGE, mask], tmp_path)
    assert chosen["trt_profile_min_shapes"] == "image:2x3x224x224,mask:2"
    assert chosen["trt_profile_opt_shapes"] == "image:16x3x224x224,mask:16"
    assert chosen["trt_profile_max_shapes"] == "image:32x3x224x224,mask:32"


def test_a_fixed_batch_stays_fixed(tmp_path):
    chosen = provider_options(options(), [DeclaredInput("x", "float32", (4, 8))], tmp_path)
    assert chosen["trt_profile_max_shapes"] == "x:4x8"


def test_further_free_axes_leave_the_profile_to_onnxruntime(tmp_path):
    words = DeclaredInput("ids", "int64", (None, None))
    assert not any("profile" in key for key in provider_options(options(), [words], tmp_path))


@pytest.mark.parametrize(
    ("precision", "fp16", "int8"),
    [("fp32", False, False), ("fp16", True, False), ("int8", False, True)],
)
def test_precision_sets_its_flag_only(precision, fp16, int8, tmp_path):
    chosen = provider_options(options(precision=precision), [IMAGE], tmp_path)
    assert (chosen["trt_fp16_enable"], chosen["trt_int8_enable"]) == (fp16, int8)


def test_engines_and_timings_are_kept(tmp_path):
    chosen = provider_options(options(workspace_mib=2, device=1), [IMAGE], tmp_path)
    assert chosen["trt_engine_cache_enable"]
    assert chosen["trt_engine_cache_path"] == str(tmp_path)
    assert chosen["trt_timing_cache_enable"]
    assert chosen["trt_timing_cache_path"] == str(tmp_path)
    assert chosen["trt_max_workspace_size"] == 2 * 1024**2
    assert chosen["device_id"] == 1


def test_another_model_device_driver_or_version_has_another_engine():
    parts = ("hash", "H200", "570.1", "1.32")
    keys = {cache_key(*parts)}
    for index in range(4):
        keys.add(cache_key(*(f"{part}!" if i == index else part for i, part in enumerate(parts))))
    assert len(keys) == 5


@pytest.mark.gpu
def test_an_engine_is_built_once_and_agrees_with_the_cpu(tmp_path):
    reason = unavailable(TENSORRT)
    if reason is not None:
        pytest.skip(reason)
    tiny_models.write_onnx(tmp_path)
    tensors = {"x": np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)}
    given = options(strict=True, precision="fp32")
    loads = []
    for _ in range(2):
        runner = TensorRTRunner("m", tmp_path / "model.onnx", given, cache=tmp_path / "cache")
        active = runner.load()
        assert active.provider == "TensorrtExecutionProvider"
        loads.append(runner.run(tensors))
        runner.close()
    assert list((tmp_path / "cache").rglob("*.engine"))
    weights = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert np.allclose(loads[0]["y"], tensors["x"] @ weights + 1, atol=1e-3)
    assert np.allclose(loads[0]["y"], loads[1]["y"], atol=1e-6)
