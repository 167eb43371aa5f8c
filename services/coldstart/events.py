"""Answer AWS Lambda events: direct invocations, API Gateway, function URLs, load balancers.

Source: AWS's pages on the payload formats 1.0 and 2.0 of Lambda proxy integrations.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from services.coldstart.endpoints import Endpoints, Reply, error_reply, first_row
from turnout.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.coldstart.classifier import Classifier


def answer_event(event: Mapping[str, Any], classifier: Classifier) -> dict[str, Any]:
    """Return the answer to one event.

    Args:
        event: ``{"image": "<base64>"}`` from a direct invocation, or an HTTP request as API
            Gateway and function URLs pass it on.
        classifier: a started one.

    Returns:
        the class of the picture, or the HTTP response in Lambda's form.

    Raises:
        InvalidRequest: a direct invocation that holds no readable picture.
        RunnerError: the model failed a direct invocation. Over HTTP errors are replies.
    """
    if "image" in event:
        return first_row(classifier, _decoded(event["image"], "image"))
    try:
        method, path = _route(event)
        reply = Endpoints(classifier).answer(method, path, _headers(event), _body(event))
    except InvalidRequest as error:
        if "requestContext" not in event:
            raise
        reply = error_reply(error)
    return _proxied(reply)


def _route(event: Mapping[str, Any]) -> tuple[str, str]:
    """Return the method and the path, without the stage that format 2.0 puts before it."""
    context = event.get("requestContext") or {}
    if "http" in context:
        stage = context.get("stage", "$default")
        path = event.get("rawPath", "/")
        return context["http"]["method"], path.removeprefix(f"/{stage}")
    if "httpMethod" in event:
        return event["httpMethod"], event.get("path", "/")
    raise InvalidRequest(
        'this function takes {"image": "<base64>"} or an HTTP event of API Gateway, a function '
        f"URL or a load balancer; got the keys {', '.join(sorted(event)) or 'none'}"
    )


def _headers(event: Mapping[str, Any]) -> dict[str, str]:
    return {name.lower(): value for name, value in (event.get("headers") or {}).items()}


def _body(event: Mapping[str, Any]) -> bytes:
    body = event.get("body") or ""
    return _decoded(body, "body") if event.get("isBase64Encoded") else body.encode()


def _decoded(text: object, name: str) -> bytes:
    if not isinstance(text, str):
        raise InvalidRequest(f"{name} must be base64 text", param=name)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"{name} is not valid base64: {error}", param=name) from error


def _proxied(reply: Reply) -> dict[str, Any]:
    """Return a reply in Lambda's form; raw tensors are base64, which Lambda's caller decodes."""
    binary = reply.headers.get("content-type") == "application/octet-stream"
    body = base64.b64encode(reply.body) if binary else reply.body
    return {
        "statusCode": reply.status,
        "headers": reply.headers,
        "body": body.decode(),
        "isBase64Encoded": binary,
    }
