"""Describe this machine, for keys of what is measured or built for one host only."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def processor() -> tuple[str, str]:
    """Return the processor's name and features, as the kernel lists them; else its architecture."""
    fields: dict[str, str] = {}
    try:
        with _CPUINFO.open(encoding="ascii", errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                fields.setdefault(key.strip(), value.strip())
                if "model name" in fields and ("flags" in fields or "Features" in fields):
                    break
    except OSError:
        pass
    features = fields.get("flags") or fields.get("Features") or platform.machine()
    return fields.get("model name") or platform.processor() or platform.machine(), features


def versions(packages: Iterable[str]) -> Mapping[str, str]:
    """Return the installed version of each distribution."""
    return {package: _version(package) for package in packages}


def described(packages: Iterable[str] = ("onnxruntime", "numpy")) -> Mapping[str, str | int]:
    """Describe this machine, for reports and keys."""
    name, features = processor()
    return {
        "cpu": name,
        "cpu_features": hashlib.sha256(features.encode()).hexdigest()[:12],
        "vnni": "yes" if "vnni" in features else "no",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **versions(packages),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
