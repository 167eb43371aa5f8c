"""One image model, loaded in a thread while the rest of the process starts.

The engine and the task are the gateway's own: ``runners.engines.onnx.session`` and
``runners.tasks.image``. Only the order differs: the session opens, without the interpreter's lock,
while this thread imports Pillow and decodes the first picture.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from runners.active import ActiveEngine
    from runners.engines.onnx.session import OnnxRunner
    from runners.tasks.image import ImageTask
    from services.coldstart.phases import Phases
    from turnout.types import Tensors


class Classifier:
    """Classifies images; safe from any thread.

    Args:
        name: the model's name.
        folder: its files.
        threads: of one run.
        phases: records the end of each part.

    Attributes:
        active: the running engine; None until the session is open.
        graph_saved: whether it runs the graph that was saved on this machine.
    """

    def __init__(self, name: str, folder: Path, threads: int, phases: Phases) -> None:
        self.name = name
        self.active: ActiveEngine | None = None
        self.graph_saved = False
        self._folder = folder
        self._threads = threads
        self._phases = phases
        self._runner: OnnxRunner | None = None
        self._task: ImageTask | None = None
        self._failed: Exception | None = None
        self._running = threading.Lock()
        self._opening = threading.Thread(target=self._open, name="open-session", daemon=True)

    def start(self) -> None:
        """Import the packages and begin to open the session; return before it is open."""
        import numpy  # noqa: F401  (once, here: two importing threads would only wait)

        self._phases.over("import_numpy")
        import onnxruntime  # noqa: F401

        self._phases.over("import_onnxruntime")
        self._opening.start()
        from runners.tasks.image import ImageTask

        self._task = ImageTask.load(self._folder)
        self._phases.over("import_task")

    def classify(self, tensors: Tensors) -> Tensors:
        """Return the public outputs for public inputs; wait for the session.

        Raises:
            InvalidRequest: a row is not a picture.
            RunnerError: the model could not be loaded, or the run failed.
        """
        if self._task is None:
            raise RuntimeError("call start first")
        prepared = self._task.prepare(tensors)
        self._phases.over("decode")
        self.wait()
        if self._runner is None:
            raise RuntimeError("the session is closed")
        with self._running:
            outputs = self._runner.run(prepared)
        self._phases.over("run")
        return self._finished(self._task, outputs, len(tensors["image"]))

    def _finished(self, task: ImageTask, outputs: Tensors, rows: int) -> Tensors:
        from runners.tasks.outputs import OutputMismatch, check_rows
        from turnout.errors import RunFailed

        try:
            answer = task.finish(outputs)
            check_rows(answer, rows)
        except OutputMismatch as error:
            raise RunFailed(self.name, str(error)) from error
        return answer

    def wait(self) -> None:
        """Wait until the session is open.

        Raises:
            LoadFailed: it could not be opened.
        """
        self._opening.join()
        if self._failed is not None:
            raise self._failed

    def save_graph(self) -> None:
        """Save the model's graph as optimised for this machine, for the next start.

        Raises:
            LoadFailed: the model cannot be optimised.
            OSError: the folder cannot be written.
        """
        from runners.engines.onnx.graph_cache import graph_folder
        from runners.engines.onnx.optimized_graph import save_graph
        from runners.engines.onnx.session import FILE

        save_graph(self.name, self._folder / FILE, graph_folder(self.name))

    @property
    def ready(self) -> bool:
        """Return whether the session is open."""
        return self.active is not None

    def _open(self) -> None:
        from runners.engines.onnx.graph_cache import graph_folder, saved_graph
        from runners.engines.onnx.session import FILE, OnnxRunner
        from turnout.errors import TurnoutError

        model = self._folder / FILE
        saved = saved_graph(model, graph_folder(self.name))
        choices = [(saved, True), (model, False)] if saved else [(model, False)]
        for path, optimised in choices:
            runner = OnnxRunner(self.name, path, threads=self._threads, optimised=optimised)
            try:
                active = runner.load()
            except TurnoutError as error:  # a damaged saved graph costs only time
                self._failed = error
                continue
            self._runner, self.active, self._failed = runner, active, None
            self.graph_saved = optimised
            self._phases.over("session")
            return
