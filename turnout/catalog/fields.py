"""Types of the catalog's values: strict models, names, sizes, windows and shares."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB|KB|MB|GB|TB)?\s*$")
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12} | {
    f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGT", start=1)
}
_WINDOW = re.compile(r"^((?:[01]\d|2[0-3]):[0-5]\d)-((?:[01]\d|2[0-3]):[0-5]\d)$")
NAME_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$"


def parse_size(value: object) -> object:
    """Read ``2GiB`` as bytes. Numbers and anything unreadable pass on to pydantic."""
    if not isinstance(value, str):
        return value
    match = _SIZE.match(value)
    if match is None:
        raise ValueError("give a size such as 512MiB or 2GiB")
    return int(float(match.group(1)) * _UNITS[match.group(2) or "B"])


def _check_name(value: str) -> str:
    if not re.match(NAME_PATTERN, value):
        raise ValueError("use lower-case letters, digits, '.', '_' and '-', at most 63 characters")
    return value


def _check_model_name(value: str) -> str:
    return value if "@" in value and _check_name(value.partition("@")[0]) else _check_name(value)


def _check_window(value: str) -> str:
    match = _WINDOW.match(value)
    if match is None or match.group(1) == match.group(2):
        raise ValueError("give a window of the day in UTC such as 07:55-10:00")
    return value


Name = Annotated[str, AfterValidator(_check_name)]
ModelName = Annotated[str, AfterValidator(_check_model_name)]
Bytes = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]
Window = Annotated[str, AfterValidator(_check_window)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Device = Annotated[str, Field(pattern=r"^(cpu|cuda:\d+)$")]


class Strict(BaseModel):
    """Refuses unknown keys; immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
