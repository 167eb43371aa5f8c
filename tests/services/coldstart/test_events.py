"""Lambda's events in their documented shapes, over a classifier in this process."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from runners.open_inference import decode_response, encode_request
from services.coldstart.classifier import Classifier
from services.coldstart.events import answer_event
from services.coldstart.phases import Phases
from tests.cold_model import NAME, picture, write_model
from turnout.errors import InvalidRequest

PATH = f"/v2/models/{NAME}/infer"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Classifier:
    folder = write_model(tmp_path_factory.mktemp("model"))
    classifier = Classifier(NAME, folder, 1, Phases(0.0))
    classifier.start()
    return classifier


def body(colour: str) -> str:
    data = [base64.b64encode(picture(colour)).decode()]
    image = {"name": "image", "shape": [1], "datatype": "BYTES", "data": data}
    return json.dumps({"inputs": [image | {"parameters": {"content_type": "base64"}}]})


def version_2(path: str = PATH, stage: str = "$default", **more: object) -> dict[str, object]:
    context = {"stage": stage, "http": {"method": "POST", "path": path}}
    return {"version": "2.0", "rawPath": path, "requestContext": context} | more


def test_a_direct_invocation(classifier):
    event = {"image": base64.b64encode(picture("red")).decode()}
    assert answer_event(event, classifier)["class_name"] == "red"


@pytest.mark.parametrize("image", ["%%%", 7, base64.b64encode(b"text").decode()])
def test_a_direct_invocation_without_a_picture(classifier, image):
    with pytest.raises(InvalidRequest):
        answer_event({"image": image}, classifier)


@pytest.mark.parametrize(
    "event",
    [
        version_2(body=body("lime")),
        version_2(f"/prod{PATH}", "prod", body=body("lime"), headers={"X": "y"}),
        version_2(body=base64.b64encode(body("lime").encode()).decode(), isBase64Encoded=True),
        {"httpMethod": "POST", "path": PATH, "headers": None, "body": body("lime"),
         "requestContext": {"stage": "prod"}},
    ],
    ids=["function url", "http api with a stage", "base64 body", "rest api"],
)  # fmt: skip
def test_http_events(classifier, event):
    reply = answer_event(event, classifier)
    assert reply["statusCode"] == 200, reply
    assert reply["isBase64Encoded"] is False
    names = json.loads(reply["body"])["outputs"][1]["data"]
    assert names == ["green"]


def test_raw_tensors_come_back_as_base64(classifier):
    headers, raw = encode_request({"image": np.array([picture("blue")], dtype=object)})
    event = version_2(headers=headers, body=base64.b64encode(raw).decode(), isBase64Encoded=True)
    reply = answer_event(event, classifier)
    assert reply["isBase64Encoded"] is True
    length = int(reply["headers"]["inference-header-content-length"])
    answer = decode_response(base64.b64decode(reply["body"]), length)
    assert answer.tensors["class_id"].tolist() == [2]


def test_errors_over_http_are_replies(classifier):
    assert answer_event(version_2(body="{"), classifier)["statusCode"] == 400
    assert answer_event(version_2("/v2/models/x/infer"), classifier)["statusCode"] == 404
    reply = answer_event(version_2(body="!", isBase64Encoded=True), classifier)
    assert reply["statusCode"] == 400
    assert "base64" in json.loads(reply["body"])["error"]


def test_an_unknown_event_says_what_is_taken(classifier):
    with pytest.raises(InvalidRequest, match="Records"):
        answer_event({"Records": []}, classifier)
