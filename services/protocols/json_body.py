"""Request bodies as pydantic models; errors name the field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from turnout.errors import InvalidRequest
from turnout.problem import problem_text


class JsonBody(BaseModel):
    """A request body without unknown keys, whose values are not converted."""

    # A model is built when it is first used: building them all would delay the gateway's start.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    @classmethod
    def read(
        cls, values: Mapping[str, Any], *, within: str = "", besides: Iterable[str] = ()
    ) -> Self:
        """Check the keys and values of a body.

        Args:
            values: the body; not changed.
            within: the field of the request that holds the body, where it is not the whole.
            besides: keys that another model reads.

        Raises:
            InvalidRequest: a field is wrong; the message names it and the problem.
        """
        ignored = frozenset(besides)
        try:
            return cls.model_validate({k: v for k, v in values.items() if k not in ignored})
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
        path = [each for each in (within, *map(str, problem["loc"])) if each]
        if problem["type"] == "extra_forbidden":
            keys = ", ".join(sorted({*cls.model_fields, *ignored})) or "none"
            message = f"unknown key {'.'.join(path)}; there are {keys}"
        else:
            message = f"{'.'.join(path)} {problem_text(problem)}"
        raise InvalidRequest(message, param=path[0])
