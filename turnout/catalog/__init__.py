"""The catalog: one YAML file that lists latency classes, models and routes."""

from turnout.catalog.reading import json_schema, load
from turnout.catalog.schema import (
    Artifact,
    Batching,
    Cascade,
    Catalog,
    Cost,
    LatencyClass,
    Model,
    Profile,
    Quality,
    Route,
)

__all__ = [
    "Artifact",
    "Batching",
    "Cascade",
    "Catalog",
    "Cost",
    "LatencyClass",
    "Model",
    "Profile",
    "Quality",
    "Route",
    "json_schema",
    "load",
]
