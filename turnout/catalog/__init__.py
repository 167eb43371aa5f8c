"""The catalog: one YAML file that lists latency classes, models and routes."""

from turnout.catalog.artifact import Artifact, Calibration, File, Gate, Optimize
from turnout.catalog.catalog import Catalog, realiased
from turnout.catalog.pipeline import Parameter, Pipeline, Stage
from turnout.catalog.reading import json_schema, load
from turnout.catalog.route import Cascade, Explore, Route
from turnout.catalog.schema import Batching, Cost, LatencyClass, Model, Profile, Quality
from turnout.catalog.versions import Canary, Rollback, Versioned, model_name, split, trained_name

__all__ = [
    "Artifact",
    "Batching",
    "Calibration",
    "Canary",
    "Cascade",
    "Catalog",
    "Cost",
    "Explore",
    "File",
    "Gate",
    "LatencyClass",
    "Model",
    "Optimize",
    "Parameter",
    "Pipeline",
    "Profile",
    "Quality",
    "Rollback",
    "Route",
    "Stage",
    "Versioned",
    "json_schema",
    "load",
    "model_name",
    "realiased",
    "split",
    "trained_name",
]
