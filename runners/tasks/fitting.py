"""Whether a loaded model fits its task, found out by one run before it may serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnout.errors import LoadFailed, RunFailed

if TYPE_CHECKING:
    from runners.protocol import TensorRunner
    from runners.tasks.task import TensorTask


def check_fit(name: str, runner: TensorRunner, task: TensorTask) -> None:
    """Run one example row; the run also warms the engine up.

    Args:
        name: the model's name, for errors.
        runner: loaded; closed again when it does not fit.
        task: what surrounds it.

    Raises:
        LoadFailed: the model takes other inputs, gives other outputs, or cannot run.
    """
    example = task.example(1)
    if example is None:
        return
    try:
        task.finish(runner.run(example))
    except RunFailed as error:
        why = error.problem
    except KeyError as error:
        why = f"it has no output named {error}"
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        why = f"its outputs cannot be read: {type(error).__name__}: {error}"
    else:
        return
    runner.close()
    raise LoadFailed(
        name,
        f"the model's file does not fit {type(task).__name__}: {why}; export it again with the "
        "inputs and outputs of its task, or name another file in the catalog",
    )
