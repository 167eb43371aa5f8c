"""The BentoML APIs as their clients discover them: names, parameters, defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.bento import apis
from turnout.types import SIGNATURES, Task

ROUTING = {"model": "auto", "latency_class": None, "deadline_ms": None}
KINDS = {"image": list[Path], "text": list[str], "user": list[int], "item": list[int]}
NAMES = {
    Task.IMAGE: "classify",
    Task.TABULAR: "score",
    Task.EMBED: "embed",
    Task.CLASSIFY_TEXT: "classify_text",
    Task.RANK: "rank",
    Task.RECOMMEND: "recommend",
    Task.RETRIEVE: "retrieve",
    Task.LOOKUP: "lookup",
}


@pytest.mark.parametrize("task", NAMES)
def test_an_api_of_tensors_takes_the_tasks_input_and_how_to_route_it(task: Task) -> None:
    api: Any = getattr(apis.API_OF[task], NAMES[task])
    fields = api.input_spec.model_fields
    (spec,) = SIGNATURES[task].inputs
    assert list(fields) == [spec.name, *ROUTING]
    assert fields[spec.name].is_required()
    assert {name: fields[name].default for name in ROUTING} == ROUTING
    assert (api.route, api.ctx_param, api.is_stream) == (f"/{NAMES[task]}", "ctx", False)
    assert api.doc
    kind = KINDS.get(spec.name, np.ndarray)
    assert str(fields[spec.name].annotation).lower().find(kind.__name__.lower()) >= 0


def test_every_task_has_an_api() -> None:
    assert set(apis.API_OF) == set(Task)
