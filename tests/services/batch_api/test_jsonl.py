from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.batch_api.jsonl import (
    Answered,
    LineChecker,
    Problem,
    parse,
    result,
    split,
    unanswered,
)
from tests.services.batch_api.conftest import URL

GOOD = {"custom_id": "a", "method": "POST", "url": URL, "body": {"x": 1}}


def checked(*rows: object) -> list[tuple[str, str | None] | None]:
    checker = LineChecker(URL)
    found: list[Problem | None] = [
        checker.check(row if isinstance(row, bytes) else json.dumps(row).encode(), number)
        for number, row in enumerate(rows, 1)
    ]
    return [problem and (problem.code, problem.param) for problem in found]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (GOOD, None),
        (b"{", ("invalid_json_line", None)),
        ([1], ("invalid_json_line", None)),
        ({**GOOD, "method": "GET"}, ("invalid_method", "method")),
        ({**GOOD, "method": None}, ("invalid_type", "method")),
        ({**GOOD, "custom_id": "a" * 513}, ("invalid_custom_id", "custom_id")),
        ({**GOOD, "url": 7}, ("invalid_type", "url")),
        ({**GOOD, "url": "/v1/embeddings"}, ("invalid_url", "url")),
        ({**GOOD, "custom_id": ""}, ("invalid_custom_id", "custom_id")),
        ({**GOOD, "custom_id": 7}, ("invalid_type", "custom_id")),
        ({**GOOD, "body": "x"}, ("invalid_type", "body")),
        ({"custom_id": "a"}, ("missing_required_parameter", "method")),
    ],
)
def test_each_line_is_checked(row: object, problem: tuple[str, str | None] | None) -> None:
    assert checked(row) == [problem]


def test_a_custom_id_may_be_used_once() -> None:
    assert checked(GOOD, {**GOOD, "custom_id": "b"}, GOOD) == [
        None,
        None,
        ("duplicate_custom_id", "custom_id"),
    ]


@given(st.lists(st.binary(max_size=9).map(lambda b: b.replace(b"\n", b"").replace(b"\r", b""))),
       st.integers(1, 7), st.sampled_from([b"\n", b"\r\n"]))  # fmt: skip
def test_lines_don_t_depend_on_how_the_file_is_cut(
    lines: list[bytes], size: int, end: bytes
) -> None:
    text = end.join(lines)
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    expected = lines[:]
    if expected and not expected[-1]:
        expected.pop()
    assert list(split(pieces)) == expected


def test_a_result_line_has_openai_s_shape_and_an_id_that_never_changes() -> None:
    line = json.loads(result("batch_1", 3, "a", Answered(200, "req-1", {"y": 1})))
    assert line["response"] == {"status_code": 200, "request_id": "req-1", "body": {"y": 1}}
    assert line["error"] is None
    late = json.loads(unanswered("batch_1", 3, "a", "batch_expired", "too late"))
    assert late["id"] == line["id"] != json.loads(unanswered("batch_1", 4, "a", "", ""))["id"]
    assert late["response"] is None


def test_a_checked_line_is_read_back() -> None:
    assert parse(json.dumps(GOOD).encode()) == ("a", {"x": 1})
