"""The bodies and queries of files and batches: what they take, and which field a refusal names."""

from __future__ import annotations

import pytest

from services.batch_api.schema import BatchBody, BatchQuery, FileQuery
from services.http.messages import HttpRequest
from turnout.errors import InvalidRequest

GOOD = {"endpoint": "/v1/embeddings", "input_file_id": "file-1", "completion_window": "24h"}


def listed(query: bytes) -> HttpRequest:
    return HttpRequest("GET", "/v1/files", {}, b"", query)


def test_a_batch_has_its_windows_in_seconds_and_unknown_keys_are_ignored() -> None:
    expiry = {"anchor": "created_at", "seconds": 7200}
    body = BatchBody.read({**GOOD, "output_expires_after": expiry, "user": "me"})
    assert (body.window_s, body.output_expires_s, body.metadata) == (86400.0, 7200.0, None)
    assert BatchBody.read({**GOOD, "completion_window": "90m"}).window_s == 5400.0


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"endpoint": None}, "endpoint"),
        ({"endpoint": ""}, "endpoint"),
        ({"input_file_id": 3}, "input_file_id"),
        ({"completion_window": "0h"}, "completion_window"),
        ({"completion_window": "24h\n"}, "completion_window"),
        ({"completion_window": 24}, "completion_window"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {"a" * 65: "x"}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"output_expires_after": 3600}, "output_expires_after"),
        ({"output_expires_after": {"anchor": "now", "seconds": 3600}}, "output_expires_after"),
    ],
)
def test_a_batch_that_cannot_be_is_refused_with_the_field(
    change: dict[str, object], param: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        BatchBody.read(GOOD | change)
    assert refused.value.param == param


@pytest.mark.parametrize("key", GOOD)
def test_a_batch_needs_each_of_these(key: str) -> None:
    with pytest.raises(InvalidRequest, match=f"{key} is missing"):
        BatchBody.read({name: value for name, value in GOOD.items() if name != key})


def test_a_list_is_asked_for_by_its_query() -> None:
    query = FileQuery.of(listed(b"after=file-1&limit=3&limit=4&order=asc&purpose=batch&more=1"))
    assert (query.after, query.limit, query.order, query.purpose) == ("file-1", 3, "asc", "batch")
    query = FileQuery.of(listed(b""))
    assert (query.after, query.limit, query.order, query.purpose) == (None, 10_000, "desc", None)
    assert BatchQuery.of(listed(b"limit=")).limit == 20


@pytest.mark.parametrize("text", ["0", "101", "x", "-1", "1.5"])
def test_a_limit_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="limit must be") as refused:
        BatchQuery.of(listed(f"limit={text}".encode()))
    assert refused.value.param == "limit"


def test_an_order_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="order must be 'desc' or 'asc'") as refused:
        FileQuery.of(listed(b"order=up"))
    assert refused.value.param == "order"
