"""The registry of passes by name; a pass is imported only when it is used."""

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
"""The chains tried for a task when the catalog names no passes."""


def load_pass(name: str) -> Pass:
    """Import a pass and return its description.

    Raises:
        ConfigError: no pass has this name, or a package that it needs is not installed.
    """
    if name not in PASSES:
        raise ConfigError(f"no pass is named {name!r}; the passes are {', '.join(PASSES)}")
    try:
        return import_module(PASSES[name]).PASS
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"pass {name!r} needs {error.name}, which is not installed; "
            "install the build requirements: pip install 'turnout[build]'"
        ) from error


def complete_options(name: str, options: Options) -> Options:
    """Return a pass's options, completed by its defaults.

    Raises:
        ConfigError: the pass has no such option, or the value has another type.
    """
    defaults = load_pass(name).options
    for key, value in options.items():
        if key not in defaults:
            listed = ", ".join(defaults) or "none"
            raise ConfigError(f"pass {name!r} has no option {key!r}; it has: {listed}")
        default = defaults[key]
        if default is not None and not isinstance(value, _kinds(default)):
            raise ConfigError(f"pass {name!r}: {key} must be like {default!r}, not {value!r}")
    return {**defaults, **options}


def _kinds(default: object) -> tuple[type, ...]:
    if isinstance(default, bool):
        return (bool,)
    if isinstance(default, float):
        return (int, float)
    return (type(default),)
