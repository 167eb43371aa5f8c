"""Whether a loaded model fits its task, found out by two runs before it may serve."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from runners.tasks.outputs import OutputMismatch, check_rows
from turnout.errors import LoadFailed, RunFailed

if TYPE_CHECKING:
    from runners.protocol import TensorRunner
    from runners.tasks.task import TensorTask

_SEVERAL = 2


def check_fit(name: str, runner: TensorRunner, task: TensorTask) -> None:
    """Run one example row, then several; the first run also warms the engine up.

    Args:
        name: the model's name, for errors.
        runner: loaded; closed again when it does not fit.
        task: what surrounds it.

    Raises:
        LoadFailed: the model takes other inputs, gives other outputs, or cannot run.
    """
    one, several = task.example(1), task.example(_SEVERAL)
    if one is None or several is None:
        return
    try:
        check_rows(task.finish(runner.run(one)), 1)
        with suppress(RunFailed):  # a graph of one row a run is served one row at a time
            check_rows(task.finish(runner.run(several)), _SEVERAL)
    except RunFailed as error:
        why = error.problem
    except OutputMismatch as error:
        why = str(error)
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
