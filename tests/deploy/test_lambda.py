"""The Lambda handler under awslambdaric and an emulator of the Runtime API."""

from __future__ import annotations

import base64

import pytest

from benchmarks.lambda_emulator import invoke
from tests.cold_model import NAME, picture, write_model

pytest.importorskip("awslambdaric", reason="AWS publishes it for Linux only")


def test_events_are_answered_by_one_runtime(tmp_path):
    folder = write_model(tmp_path / "model")
    events = [
        {"image": base64.b64encode(picture("red")).decode()},
        {"image": "no base64"},
        {"httpMethod": "GET", "path": "/v2/health/ready", "requestContext": {}},
        {"image": base64.b64encode(picture("blue", "PNG")).decode()},
    ]
    environment = {"TURNOUT_MODEL": NAME, "TURNOUT_ARTIFACT": str(folder)}
    _, (red, wrong, ready, blue) = invoke(events, **environment, TURNOUT_CACHE=str(tmp_path))
    assert (red.failed, red.body["class_name"]) == (False, "red")
    assert (wrong.failed, wrong.body["errorType"]) == (True, "InvalidRequest")
    assert (ready.failed, ready.body["statusCode"]) == (False, 200)
    assert blue.body["class_name"] == "blue"


def test_a_function_that_cannot_start_says_why(tmp_path):
    _, (answer,) = invoke([{"image": ""}], TURNOUT_ARTIFACT=str(tmp_path))
    assert answer.failed
    assert answer.body["errorType"] == "ArtifactInvalid"
    assert "model.onnx" in answer.body["errorMessage"]
