"""The inference engines, one file each, behind ``runners.protocol``."""

from runners.engines.registry import ENGINES, make

__all__ = ["ENGINES", "make"]
