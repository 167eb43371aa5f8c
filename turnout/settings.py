"""Settings of a process, read once from the environment: paths and switches, no models.

TURNOUT_CATALOG        the catalog file             (catalog/default.yaml)
TURNOUT_ROUTER         folder of a trained router   (the one that ships)
TURNOUT_SHADOW_ROUTER  folder of a router that decides beside it, never served   (none)
TURNOUT_CANARY_ROUTER  folder of a router that serves a share of requests   (none)
TURNOUT_CANARY_SHARE   that share, from 0 to 1   (0.05)
TURNOUT_FEATURE_ROUTERS  routers of routes of rows or pictures: ROUTE=FOLDER,ROUTE=FOLDER   (none)
TURNOUT_DECISION_LOG   file for decisions, one JSON line each   (none)
TURNOUT_LOG_PROMPTS    1 writes chat prompts to the decision log   (0: no input is ever logged)
TURNOUT_LOG_FEATURES   1 writes single rows, and pictures' headers as numbers, to that log   (0)
TURNOUT_ACCESS_LOG     file for one line a request, - for standard output   (none)
TURNOUT_DATABASE_URL   where batches and their files are   (SQLite at var/turnout.db)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from turnout.errors import ConfigError

# Read by hand: a dozen variables do not warrant a settings library as one more dependency that
# every process imports at its start.
PROJECT = Path(__file__).resolve().parents[1]
DEFAULT_DATABASE_URL = f"sqlite:///{PROJECT / 'var' / 'turnout.db'}"


@dataclass(frozen=True, slots=True)
class Settings:
    """Paths and switches of this process.

    Attributes:
        catalog: the catalog file.
        router: folder of the trained router; None is the one that ships.
        shadow_router: folder of a router that decides beside it, without serving.
        canary_router: folder of a router that serves a share of requests.
        canary_share: that share, from 0 to 1.
        feature_routers: folders of routers for routes of rows or pictures, by the route's name.
        decision_log: where decisions are appended; None keeps them in memory only.
        log_prompts: whether chat prompts are logged with their decisions.
        log_features: whether a request of one row is logged with its decision: the row, or the
            features of a picture's header.
        access_log: file that receives one line a request; ``-`` is standard output.
        database_url: the bulk path's database, ``sqlite:///FILE`` or ``postgresql://...``.
    """

    catalog: Path
    router: Path | None = None
    shadow_router: Path | None = None
    canary_router: Path | None = None
    canary_share: float = 0.05
    feature_routers: Mapping[str, Path] = field(default_factory=dict[str, Path])
    decision_log: Path | None = None
    log_prompts: bool = False
    log_features: bool = False
    access_log: str | None = None
    database_url: str = DEFAULT_DATABASE_URL


def from_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from environment variables; an empty variable counts as absent."""
    env = os.environ if environment is None else environment
    return Settings(
        catalog=_path(env, "TURNOUT_CATALOG") or PROJECT / "catalog" / "default.yaml",
        router=_path(env, "TURNOUT_ROUTER"),
        shadow_router=_path(env, "TURNOUT_SHADOW_ROUTER"),
        canary_router=_path(env, "TURNOUT_CANARY_ROUTER"),
        canary_share=_share(env, "TURNOUT_CANARY_SHARE", 0.05),
        feature_routers=_folders(env, "TURNOUT_FEATURE_ROUTERS"),
        decision_log=_path(env, "TURNOUT_DECISION_LOG"),
        log_prompts=_switch(env, "TURNOUT_LOG_PROMPTS"),
        log_features=_switch(env, "TURNOUT_LOG_FEATURES"),
        access_log=env.get("TURNOUT_ACCESS_LOG") or None,
        database_url=env.get("TURNOUT_DATABASE_URL") or DEFAULT_DATABASE_URL,
    )


def _path(env: Mapping[str, str], name: str) -> Path | None:
    value = env.get(name)
    return Path(value) if value else None


def _folders(env: Mapping[str, str], name: str) -> dict[str, Path]:
    """Read folders by name: ``fraud=var/fraud,image=var/image``.

    Raises:
        ConfigError: the variable has another form.
    """
    folders: dict[str, Path] = {}
    for item in filter(None, (env.get(name) or "").split(",")):
        key, equals, folder = (part.strip() for part in item.partition("="))
        if not (key and equals and folder):
            raise ConfigError(f"{name}: {item!r} is not ROUTE=FOLDER; list ROUTE=FOLDER,...")
        folders[key] = Path(folder)
    return folders


def _share(env: Mapping[str, str], name: str, default: float) -> float:
    """Read a number from 0 to 1.

    Raises:
        ConfigError: the variable is no such number.
    """
    value = env.get(name)
    try:
        share = float(value) if value else default
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise ConfigError(f"{name} must be a number from 0 to 1, got {value!r}")
    return share


def _switch(env: Mapping[str, str], name: str) -> bool:
    """Return whether a variable is 1; other values than 0 and 1 are refused, lest a typo leak data.

    Raises:
        ConfigError: the variable is neither 0, 1 nor empty.
    """
    value = env.get(name) or "0"
    if value not in ("0", "1"):
        raise ConfigError(f"{name} must be 0 or 1, got {value!r}")
    return value == "1"
