"""The registry of engines and the catalog's options of engines name the same."""

from __future__ import annotations

from typing import get_args

import pytest

from runners.engines import ENGINES, make
from turnout.catalog import Model
from turnout.catalog.engines import RemoteEngine, Runner
from turnout.errors import LoadFailed


def test_every_engine_that_runs_here_has_options_in_the_catalog() -> None:
    union = get_args(Runner)[0]
    local = [options for options in get_args(union) if not issubclass(options, RemoteEngine)]
    names = {get_args(options.model_fields["engine"].annotation)[0] for options in local}
    assert set(ENGINES) == names


def test_an_engine_that_needs_files_is_refused_without_them() -> None:
    model = Model.model_validate(
        {"task": "tabular", "runner": {"engine": "fake"}, "placement": "inline"}
    )
    assert make("toy", model, None).load().engine == "fake"
    onnx = model.model_copy(update={"runner": _onnx()})
    with pytest.raises(LoadFailed, match="given no folder"):
        make("toy", onnx, None)


def _onnx() -> object:
    artifact = {"tag": "toy", "recipe": "fraud"}
    entry = {"task": "tabular", "runner": {"engine": "onnx"}, "artifact": artifact}
    return Model.model_validate(entry).runner
