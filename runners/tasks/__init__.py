"""Tasks: read the inputs of requests, batch them, and name a model's outputs."""

from runners.tasks.task import TensorTask, load_task

__all__ = ["TensorTask", "load_task"]
