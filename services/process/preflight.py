"""The catalog of ``bentoml serve``; what cannot be served ends it before any worker starts.

Otherwise the supervisor would start workers again and again, each ending with a traceback.
"""

from __future__ import annotations

import sys

from services.process.startup import starts_workers
from turnout.catalog import Catalog, load
from turnout.errors import TurnoutError
from turnout.settings import Settings, from_environment


def catalog_to_serve(*, decides: bool = True) -> Catalog:
    """The catalog of this environment.

    Args:
        decides: whether the service chooses between models, and so reads routers.

    Raises:
        TurnoutError: it cannot be read; in ``bentoml serve`` itself, SystemExit after the reasons.
    """
    try:
        settings = from_environment()
        catalog = load(settings.catalog)
        if decides and starts_workers():
            check_routers(catalog, settings)
        return catalog
    except TurnoutError as error:
        if not starts_workers():
            raise
        print(f"turnout: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(2) from None


def check_routers(catalog: Catalog, settings: Settings) -> None:
    """Read the routers without which a gateway of these settings does not start.

    Raises:
        ConfigError: a router is for a route that cannot have one.
        ArtifactInvalid: a router cannot be read.
    """
    # Imported here: every start of ``bentoml serve`` would wait for numpy and the routers' readers.
    if settings.router is not None:
        from routing.quality import load_router
        from services.routers.prompt_routers import asks_router

        if asks_router(catalog):
            load_router(settings.router)
    if settings.feature_routers:
        from services.routers.tensor_routers import TensorRouters

        TensorRouters(catalog, settings.feature_routers)
