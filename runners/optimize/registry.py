"""Every pass by name, imported only when it is used. The dictionary is the only registration."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from runners.optimize.optimization import Options, Pass
from turnout.errors import ConfigError

PASSES: Mapping[str, str] = {
    "graph": "runners.optimize.passes.graph",
    "int8": "runners.optimize.passes.int8",
    "int8-mixed": "runners.optimize.passes.int8_mixed",
    "int8-dynamic": "runners.optimize.passes.int8_dynamic",
    "fp16": "runners.optimize.passes.fp16",
    "tensorrt": "runners.optimize.passes.tensorrt",
}

CHAINS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "image": (("graph",), ("graph", "int8"), ("graph", "int8-mixed")),
    "embed": (("graph",), ("graph", "int8-dynamic")),
    "tabular": (("graph",),),
}
"""What is tried for a task when the catalog names no passes."""


def load_pass(name: str) -> Pass:
    """Import a pass.

    Raises:
        ConfigError: there is none of this name, or what it needs is not installed.
    """
    if name not in PASSES:
        raise ConfigError(f"no pass is named {name!r}; there are {', '.join(PASSES)}")
    try:
        return import_module(PASSES[name]).PASS
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"pass {name!r} needs {error.name}, which is not installed; "
            "install the build requirements: pip install 'turnout[build]'"
        ) from error


def completed(name: str, options: Options) -> Options:
    """A pass's options with its defaults for those not given.

    Raises:
        ConfigError: it has no such option, or the value is of another kind.
    """
    known = load_pass(name).options
    for key, value in options.items():
        if key not in known:
            listed = ", ".join(known) or "none"
            raise ConfigError(f"pass {name!r} has no option {key!r}; it has: {listed}")
        default = known[key]
        if default is not None and not isinstance(value, _kinds(default)):
            raise ConfigError(f"pass {name!r}: {key} must be like {default!r}, not {value!r}")
    return {**known, **options}


def _kinds(default: object) -> tuple[type, ...]:
    if isinstance(default, bool):
        return (bool,)
    if isinstance(default, float):
        return (int, float)
    return (type(default),)
