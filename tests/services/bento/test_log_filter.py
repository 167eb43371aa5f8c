"""What BentoML logs of requests that its endpoints refuse: only this server's own faults."""

from __future__ import annotations

import logging

import pytest
from bentoml._internal.server.http_app import log_exception
from bentoml.exceptions import BentoMLException, InvalidArgument
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request

from services.bento.api_handlers import _Failed
from services.bento.log_filter import drop_caller_errors
from turnout.errors import InvalidRequest, QueueFull


def not_a_number() -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(int).validate_python("many")
    return caught.value


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (InvalidArgument("no such field"), False),
        (_Failed(InvalidRequest("features must be numbers")), False),
        (_Failed(QueueFull("ranker", 8, 1.0)), False),
        (not_a_number(), False),
        (BentoMLException("broken"), True),
        (RuntimeError("broken"), True),
    ],
)
def test_only_faults_of_this_server_are_logged_as_errors(
    error: Exception, logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    drop_caller_errors()
    drop_caller_errors()
    asked = Request({"type": "http", "method": "POST", "path": "/score", "headers": [],
                     "query_string": b"", "server": ("x", 1)})  # fmt: skip
    with caplog.at_level(logging.ERROR):
        try:
            raise error
        except Exception:  # noqa: BLE001 - as BentoML does
            log_exception(asked)
    assert bool(caplog.records) is logged
