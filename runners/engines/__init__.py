"""The inference engines, implementations of ``runners.protocol``."""

from runners.engines.registry import ENGINES, make

__all__ = ["ENGINES", "make"]
