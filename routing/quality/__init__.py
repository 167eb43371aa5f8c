"""Predicted quality of each model's answer: serving side, numpy only."""

from routing.quality.artifact import DEFAULT_ROUTER, load_router, save_router
from routing.quality.explain import Contribution, Explanation, explain
from routing.quality.learned import LearnedQuality
from routing.quality.prior import ModelPrior, QualityModel

__all__ = [
    "DEFAULT_ROUTER",
    "Contribution",
    "Explanation",
    "LearnedQuality",
    "ModelPrior",
    "QualityModel",
    "explain",
    "load_router",
    "save_router",
]
