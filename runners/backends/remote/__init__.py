"""Backends of models on other servers; importing them imports aiohttp."""

from runners.backends.remote.open_inference import OpenInferenceBackend
from runners.backends.remote.openai import OpenAIBackend

__all__ = ["OpenAIBackend", "OpenInferenceBackend"]
