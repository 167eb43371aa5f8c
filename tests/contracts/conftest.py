"""Every engine that runs here, over a tiny model of its own."""

import os
import subprocess
import sys

import pytest

from tests.contracts import tiny_models


@pytest.fixture(scope="session")
def onnx_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    tiny_models.write_onnx(folder)
    return folder


@pytest.fixture(scope="session")
def torch_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("torch")
    tiny_models.write_torch(folder)
    return folder


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    tiny_models.write_llama(folder)
    return folder


@pytest.fixture(scope="session")
def genai_folder(llama_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("genai")
    builder = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
    where = ["-m", str(llama_folder), "-o", str(folder), "-c", str(folder / "cache")]
    subprocess.run(
        [*builder, *where, "-p", "fp32", "-e", "cpu"],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        check=True,
        capture_output=True,
    )
    return folder
