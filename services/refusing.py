"""What cannot be served ends ``bentoml serve`` with one line, before any worker starts.

Its supervisor would start workers again and again, each ending with a traceback.
"""

from __future__ import annotations

import sys

from services.start_order import starts_workers
from turnout.catalog import Catalog, load
from turnout.errors import TurnoutError
from turnout.settings import Settings, from_environment
from turnout.types import Task


def what_to_serve(*, decides: bool = True) -> Catalog:
    """The catalog of this environment.

    Args:
        decides: whether what serves it chooses between models, and so reads a router.

    Raises:
        TurnoutError: it cannot be read; in ``bentoml serve`` itself, SystemExit after the reason.
    """
    try:
        settings = from_environment()
        catalog = load(settings.catalog)
        if decides and starts_workers():
            check_router(catalog, settings)
        return catalog
    except TurnoutError as error:
        if not starts_workers():
            raise
        print(f"turnout: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None


def check_router(catalog: Catalog, settings: Settings) -> None:
    """Read the router that the settings name, if a route of the catalog will ask it.

    Raises:
        ArtifactInvalid: it cannot be read.
    """
    if settings.router is not None and asks_router(catalog):
        from routing.quality import load_router

        load_router(settings.router)


def asks_router(catalog: Catalog) -> bool:
    """Whether a chat route has models to choose from."""
    routes = catalog.routes.values()
    return any(route.task is Task.CHAT and len(route.candidates) > 1 for route in routes)
