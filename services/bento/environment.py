"""How a catalog's model is named where BentoML runs it."""

from __future__ import annotations


def service_name(model: str) -> str:
    """The BentoML service of a model: ``turnout-`` and its name, with dashes for dots.

    A version is spelled out, as BentoML takes no ``@`` in a name.
    """
    return "turnout-" + model.replace("@", "-version-").replace(".", "-")
