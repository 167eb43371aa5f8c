"""A log filter that drops callers' errors.

BentoML logs every request that one of its own endpoints refuses as an error, with a traceback. A
caller's error is answered and counted; in the log an operator would take it for a fault here.
"""

from __future__ import annotations

import logging

from bentoml.exceptions import BentoMLException

_LOGGER = "bentoml._internal.server.http_app"


class CallerErrorFilter(logging.Filter):
    """Passes only records of faults of this server."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is of a fault of this server."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, BentoMLException):
            return error.error_code.value >= 500 and not getattr(error, "is_answered", False)
        # pydantic's, of a wrong form or body; compared by name, as pydantic need not be imported.
        return type(error).__name__ != "ValidationError"


def drop_caller_errors() -> None:
    """Install the filter; a second call changes nothing."""
    logger = logging.getLogger(_LOGGER)
    if not any(isinstance(each, CallerErrorFilter) for each in logger.filters):
        logger.addFilter(CallerErrorFilter())
