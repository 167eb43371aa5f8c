"""The small classifier of the optimising tests, and a cache of the test's own."""

from tests.runners.optimize.conftest import cache, classifier

__all__ = ["cache", "classifier"]
