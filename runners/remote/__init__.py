"""Backends that speak to models elsewhere; aiohttp is imported when they start."""

from runners.remote.open_inference import OpenInferenceBackend
from runners.remote.openai import OpenAIBackend

__all__ = ["OpenAIBackend", "OpenInferenceBackend"]
