"""Keeps what callers did wrong out of the log of errors.

BentoML logs every request that one of its own endpoints refuses as an error, with a traceback. What
a caller did wrong is answered to the caller and counted; an operator would look for a fault here.
"""

from __future__ import annotations

import logging

from bentoml.exceptions import BentoMLException

_LOGGER = "bentoml._internal.server.http_app"


class CallersFaults(logging.Filter):
    """Lets through only what this server did wrong."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record says anything of this server."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, BentoMLException):
            return error.error_code.value >= 500 and not getattr(error, "known", False)
        # pydantic's, of a form or body that does not fit; by name, since it need not be imported.
        return type(error).__name__ != "ValidationError"


def keep_out() -> None:
    """Begin to."""
    logger = logging.getLogger(_LOGGER)
    if not any(isinstance(known, CallersFaults) for known in logger.filters):
        logger.addFilter(CallersFaults())
