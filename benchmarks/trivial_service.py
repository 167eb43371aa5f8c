"""The least that ``bentoml serve`` can serve: what ``benchmarks.gateway_start`` compares with."""

import bentoml


@bentoml.service(workers=1)
class Trivial:
    """Gives back what it was given."""

    @bentoml.api
    def echo(self, text: str) -> str:
        """The same text."""
        return text
