"""A trivial BentoML service, the reference of ``benchmarks.gateway_start``."""

import bentoml


@bentoml.service(workers=1)
class Trivial:
    """A service that returns its input."""

    @bentoml.api
    def echo(self, text: str) -> str:
        """Return the same text."""
        return text
