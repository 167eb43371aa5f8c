"""Check that a loaded model fits its task by two runs, before it may serve."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from runners.tasks.outputs import OutputMismatch, check_rows
from turnout.errors import LoadFailed, RunFailed

if TYPE_CHECKING:
    from runners.protocol import TensorRunner
    from runners.tasks.task import TensorTask

_SEVERAL = 2


def check_fit(name: str, runner: TensorRunner, task: TensorTask, max_rows: int) -> None:
    """Run one example row, then several; the first run also warms the engine up.

    Args:
        name: the model's name, for errors.
        runner: a loaded one; it is closed when the model does not fit.
        task: the task of the catalog entry.
        max_rows: the most rows of one run; a model of one row a run is not tried with more.

    Raises:
        LoadFailed: the model takes other inputs, gives other outputs, or cannot run.
    """
    example, several = task.example(1), task.example(_SEVERAL)
    if example is None or several is None:
        return
    try:
        check_rows(task.finish(runner.run(example)), 1)
        if max_rows >= _SEVERAL:
            with suppress(RunFailed):  # a graph of one row per run is served one row at a time
                check_rows(task.finish(runner.run(several)), _SEVERAL)
    except RunFailed as error:
        why = error.problem
    except OutputMismatch as error:
        why = str(error)
    except KeyError as error:
        why = f"it has no output named {error}"
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        why = f"its outputs cannot be read: {type(error).__name__}: {error}"
    except BaseException:
        runner.close()
        raise
    else:
        return
    runner.close()
    raise LoadFailed(
        name,
        f"the model's file does not fit {type(task).__name__}: {why}; export it again with the "
        "inputs and outputs of its task, or name another file in the catalog",
    )
