"""The inference engines, one file each, behind ``runners.protocol``."""

from runners.engines.roster import ENGINES, make

__all__ = ["ENGINES", "make"]
