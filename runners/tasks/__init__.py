"""What surrounds the engine at serving time: reading inputs, batching them, naming outputs."""

from runners.tasks.task import TensorTask, load_task

__all__ = ["TensorTask", "load_task"]
