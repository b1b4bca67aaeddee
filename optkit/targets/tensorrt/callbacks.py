"""TensorRT's callbacks: its log and the progress of a build. Imported only where the library is installed."""

from __future__ import annotations

from typing import Any

from optkit.progress import Progress
from optkit.targets.tensorrt import bindings

_library: Any = bindings.library()


class Log(_library.ILogger):  # type: ignore[misc]
    """Keeps errors, and the last message that begins with ``Layers:``, which a build's detailed log ends with."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []
        self.layers = ""

    def log(self, severity: Any, message: str) -> None:
        if severity in (_library.ILogger.Severity.ERROR, _library.ILogger.Severity.INTERNAL_ERROR):
            self.errors.append(" ".join(message.split()))
        elif message.startswith("Layers:"):
            self.layers = message


class Monitor(_library.IProgressMonitor):  # type: ignore[misc]
    """Hands a build's phases on. A Ctrl-C during a build cancels it, and is raised when the library has returned:
    an exception may not travel through its C++ code.
    """

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress
        self.stopped: BaseException | None = None

    def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
        self._tell(phase, 0)

    def step_complete(self, phase: str, step: int) -> bool:
        self._tell(phase, step + 1)
        return self.stopped is None

    def phase_finish(self, phase: str) -> None:
        """Nothing is to be told: the next phase tells itself."""

    def _tell(self, phase: str, done: int) -> None:
        try:
            # Without a total: steps of a phase take so differently long that no time left follows from them.
            self._progress(f"building · {phase[:1].lower()}{phase[1:]}", done, None)
        except BaseException as error:  # noqa: BLE001  raised again behind the build
            self.stopped = error
