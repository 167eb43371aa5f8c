"""Build the TensorRT engine of this device ahead of the first start. Needs an NVIDIA GPU.

The file stays as it is; the engine and its timings go to the runner's cache, whose key is made of
the model's hash, the device, its driver and the versions, so the serving process finds them.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runners.engines.tensorrt import TensorRTRunner
from runners.optimize.optimization import Options, Pass, PassContext
from turnout.catalog.engines import TensorRT
from turnout.errors import ArtifactInvalid, LoadFailed

OPTIONS: Options = {"precision": "fp16"}


def run(source: Path, out: Path, setting: PassContext) -> Mapping[str, Any]:
    """Load the model once under TensorRT, which builds and keeps the engine."""
    shutil.copyfile(source, out)
    runner_options = setting.runner if setting.runner.get("engine") == "tensorrt" else {}
    options = {"engine": "tensorrt", **setting.options, **runner_options, "strict": True}
    runner = TensorRTRunner("tensorrt pass", out, TensorRT.model_validate(options))
    setting.report("building the TensorRT engine (minutes)")
    try:
        active = runner.load()
    except LoadFailed as error:
        raise ArtifactInvalid(
            f"pass 'tensorrt': {error.problem}. Run it on the GPU machine that will serve, or "
            "leave the pass out"
        ) from error
    finally:
        runner.close()
    return {"build_s": round(active.load_s, 1), "precision": options["precision"]}


PASS = Pass(run, "build and keep this GPU's TensorRT engine", OPTIONS, host=True)
