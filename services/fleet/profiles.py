"""Profiles of each model's speed on this host, kept between starts.

One small JSON file below the cache folder (``$TURNOUT_CACHE``, else ``~/.cache/turnout``), read
once when a fleet starts. ``turnout models profile`` measures and writes it; while serving, an
entry that no longer fits what is observed is written anew (``services/fleet/profile_drift.py``). An
entry counts only for the same host, driver, versions, artefact and runner options.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from filelock import FileLock

from routing.latency import ModelLatency
from runners.engines import host
from services.artifacts.store import resolve
from turnout.cache_folder import cache_folder
from turnout.catalog import Model
from turnout.errors import ArtifactInvalid

_FILE = "profiles.json"
_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "onnx": ("onnxruntime",),
    "tensorrt": ("onnxruntime", "tensorrt"),
    "torch": ("torch",),
    "onnx-genai": ("onnxruntime", "onnxruntime-genai"),
    "deepspeed": ("torch", "transformers", "deepspeed"),
}
"""Distributions whose version decides an engine's speed; engines that run elsewhere have none."""


Describe: TypeAlias = "Callable[[tuple[str, ...]], Mapping[str, str | int]]"


@dataclass(frozen=True, slots=True)
class Profile:
    """The line that a latency model begins with.

    Attributes:
        key: of host, versions, artefact and runner.
        base_ms, per_unit_ms, per_token_ms: see ``turnout.catalog.Profile``.
        source: ``measured`` by the command, or ``served``.
        when: date.
        curve: the measured points, for a person to read; empty when served.
    """

    key: str
    base_ms: float
    per_unit_ms: float
    per_token_ms: float
    source: str
    when: str
    curve: Mapping[str, Any] = field(default_factory=dict)

    def latency(self) -> ModelLatency:
        """Return a fresh latency model that begins with this profile."""
        return ModelLatency(self.base_ms / 1e3, self.per_unit_ms / 1e3, self.per_token_ms / 1e3)


class Profiles:
    """The profiles of this host's models.

    Args:
        path: the file.
        profiles: its content, by model.
    """

    def __init__(self, path: Path, profiles: Mapping[str, Profile]) -> None:
        self._path = path
        self._profiles = dict(profiles)
        self._hosts: dict[tuple[str, ...], Mapping[str, str | int]] = {}

    @classmethod
    def read(cls, path: Path | None = None) -> Profiles:
        """Read the file; one that is missing or damaged holds nothing."""
        path = path or default_path()
        return cls(path, _read(path))

    def of(self, name: str, model: Model) -> Profile | None:
        """Return the profile of a model; None when there is none for its present key."""
        profile = self._profiles.get(name)
        is_valid = profile is not None and profile.key == key_of(model, self._host)
        return profile if is_valid else None

    def prior(self, name: str, model: Model) -> ModelLatency | None:
        """Return a model's initial latency model; None leaves it to the catalog's estimate."""
        profile = self.of(name, model)
        return None if profile is None else profile.latency()

    def keep(self, name: str, profile: Profile) -> None:
        """Write one profile; other processes may write theirs beside it.

        Raises:
            OSError: the file cannot be written.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._path.with_suffix(".lock")):
            profiles = _read(self._path) | {name: profile}
            temporary = self._path.with_name(f".{self._path.name}-{os.getpid()}")
            temporary.write_text(json.dumps({k: asdict(v) for k, v in profiles.items()}, indent=1))
            temporary.replace(self._path)
        self._profiles[name] = profile

    def _host(self, packages: tuple[str, ...]) -> Mapping[str, str | int]:
        """Return the description of this host, cached per engine: versions are read from disk."""
        if packages not in self._hosts:
            self._hosts[packages] = host.described(packages)
        return self._hosts[packages]


def default_path() -> Path:
    """Return the path of ``profiles.json`` below the cache folder."""
    return cache_folder() / _FILE


def key_of(model: Model, describe: Describe = host.described) -> str | None:
    """Return a hash of all that a model's profile depends on; None where it has no files here."""
    packages = _PACKAGES.get(model.runner.engine)
    if packages is None or model.artifact is None:
        return None
    try:
        version = resolve(model.artifact).name
    except ArtifactInvalid:
        return None
    facts = [describe(packages), version, model.runner.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def new_profile(
    model: Model,
    base_ms: float,
    per_unit_ms: float,
    per_token_ms: float,
    source: str,
    curve: Mapping[str, Any] | None = None,
) -> Profile | None:
    """Return a profile with today's date; None for a model that can have none."""
    key = key_of(model)
    if key is None:
        return None
    today = datetime.now(UTC).date().isoformat()
    return Profile(key, base_ms, per_unit_ms, per_token_ms, source, today, curve or {})


def _read(path: Path) -> dict[str, Profile]:
    try:
        entries = json.loads(path.read_text("utf-8"))
        return {name: Profile(**entry) for name, entry in entries.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
