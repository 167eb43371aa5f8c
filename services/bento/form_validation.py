"""What BentoML's own endpoints say of a form they cannot read: 400 with field and way out, not 500.

BentoML takes any field it does not know as text, and fetches the text of a file field as a URL;
both fail inside it as an internal error. So a form is looked at before BentoML reads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from _bentoml_sdk import IODescriptor, Service
    from starlette.requests import Request

_FORM = "multipart/form-data"


def check_forms(service: Service[Any]) -> None:
    """Let every API of a service look at forms first."""
    for method in service.apis.values():
        _watch(method.input_spec, method.name)


def _watch(spec: type[IODescriptor], api: str) -> None:
    read = spec.from_http_request

    async def from_http_request(request: Request, serde: Any) -> IODescriptor:
        if request.headers.get("content-type", "").partition(";")[0].strip() == _FORM:
            await _check(spec, api, request)
        return await read(request, serde)

    spec.from_http_request = staticmethod(from_http_request)  # type: ignore[method-assign]


async def _check(spec: type[IODescriptor], api: str, request: Request) -> None:
    """Refuse a form with a field that the API does not take.

    Raises:
        ValidationError: names the field, and what there is instead; BentoML answers 400.
    """
    from starlette.exceptions import HTTPException
    from starlette.formparsers import MultiPartException

    try:
        form = await request.form()
    except (HTTPException, MultiPartException, KeyError, UnicodeDecodeError) as error:
        why = getattr(error, "detail", None) or getattr(error, "message", None) or str(error)
        _refuse(api, "body", f"is no readable {_FORM}: {why}")
    files = spec.multipart_fields
    for name, value in form.multi_items():
        is_text = isinstance(value, str)
        if name not in spec.model_fields:
            known = ", ".join(f"{f} (file)" if f in files else f for f in spec.model_fields)
            _refuse(api, name, f"is no field of {api}; there are {known}")
        if name in files and is_text:
            _refuse(api, name, f"must be a file: with curl, -F {name}=@FILE")
        if name not in files and not is_text:
            _refuse(api, name, f"must be text, not a file: with curl, -F {name}=VALUE")


def _refuse(api: str, field: str, what: str) -> NoReturn:
    from pydantic_core import PydanticCustomError, ValidationError

    problem = PydanticCustomError("form_invalid", "{field} {what}", {"field": field, "what": what})
    raise ValidationError.from_exception_data(
        api, [{"type": problem, "loc": (field,), "input": None}]
    )
