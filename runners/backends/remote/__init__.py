"""Backends that speak to models elsewhere; aiohttp is imported when they start."""

from runners.backends.remote.open_inference import OpenInferenceBackend
from runners.backends.remote.openai import OpenAIBackend

__all__ = ["OpenAIBackend", "OpenInferenceBackend"]
