"""Forms are checked before BentoML reads them, so that a wrong one is answered with 400, not 500.

BentoML takes any field it does not know as text, and fetches the text of a file field as a URL;
both fail inside it as an internal error. The refusal names the field and the remedy.
"""

from __future__ import annotations

from typing import Any, NoReturn

from _bentoml_sdk import IODescriptor, Service
from pydantic_core import PydanticCustomError, ValidationError
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request

_FORM = "multipart/form-data"


def check_forms(service: Service[Any]) -> None:
    """Have every API of a service check its forms before it reads them."""
    for method in service.apis.values():
        _check_first(method.input_spec, method.name)


def _check_first(spec: type[IODescriptor], api: str) -> None:
    read = spec.from_http_request

    async def from_http_request(request: Request, serde: Any) -> IODescriptor:
        if request.headers.get("content-type", "").partition(";")[0].strip() == _FORM:
            await _check(spec, api, request)
        return await read(request, serde)

    spec.from_http_request = staticmethod(from_http_request)  # type: ignore[method-assign]


async def _check(spec: type[IODescriptor], api: str, request: Request) -> None:
    """Refuse a form with a field that the API does not take.

    Raises:
        ValidationError: names the field, and the known ones; BentoML answers 400.
    """
    try:
        form = await request.form()
    except (HTTPException, MultiPartException, KeyError, UnicodeDecodeError) as error:
        reason = getattr(error, "detail", None) or getattr(error, "message", None) or str(error)
        _refuse(api, "body", f"is no readable {_FORM}: {reason}")
    files = spec.multipart_fields
    for name, value in form.multi_items():
        is_text = isinstance(value, str)
        if name not in spec.model_fields:
            fields = ", ".join(f"{f} (file)" if f in files else f for f in spec.model_fields)
            _refuse(api, name, f"is no field of {api}; there are {fields}")
        if name in files and is_text:
            _refuse(api, name, f"must be a file: with curl, -F {name}=@FILE")
        if name not in files and not is_text:
            _refuse(api, name, f"must be text, not a file: with curl, -F {name}=VALUE")


def _refuse(api: str, field: str, problem: str) -> NoReturn:
    kind = PydanticCustomError("form_invalid", "{field} {what}", {"field": field, "what": problem})
    raise ValidationError.from_exception_data(api, [{"type": kind, "loc": (field,), "input": None}])
