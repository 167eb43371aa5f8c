from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.catalog.reading import parse
from turnout.catalog.shares import share_of_worker
from turnout.errors import CatalogInvalid

CATALOG = """version: 1
gateway: {{workers: {workers}, memory_budget: {budget}B}}
classes: {{bulk: {{deadline_ms: 1000, priority: 1}}}}
models:
  here:
    task: embed
    runner: {{engine: fake}}
    batching: {{max_queue: {queue}}}
  apart: {{task: embed, placement: process, runner: {{engine: fake}}, batching: {{max_queue: 5}}}}
routes: {{embed: {{task: embed, candidates: [here, apart], latency_class: bulk}}}}
"""


@given(st.integers(1, 64), st.integers(64, 10**6), st.integers(0, 2**40))
def test_the_workers_together_take_no_more_than_the_catalog_says(
    workers: int, queue: int, budget: int
) -> None:
    catalog = parse(CATALOG.format(workers=workers, queue=queue, budget=budget), "test")
    share = share_of_worker(catalog)
    each = share.models["here"].batching.max_queue
    assert queue - workers < each * workers <= queue
    memory = share.gateway.memory_budget
    assert memory is not None
    assert memory * workers <= budget
    assert share.models["apart"] == catalog.models["apart"]


def test_a_queue_that_cannot_be_divided_is_refused_with_its_line() -> None:
    text = CATALOG.format(workers=4, queue=3, budget=0)
    with pytest.raises(CatalogInvalid, match=r"test:8: models\.here\.batching\.max_queue: 3 .* 4"):
        parse(text, "test")
