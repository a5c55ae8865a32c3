"""How the next run is computed and what it keeps: a session's commands. No Qt, no napari."""

from __future__ import annotations

from napari_ood.viewer.how import bf16_problem
from napari_ood.viewer.latest import Latest
from napari_ood.viewer.session_looks import SessionLooks


class SessionHow(SessionLooks):
    """The commands that choose device, precision and stored features."""

    def __init__(self) -> None:
        super().__init__()
        self._bf16: Latest[str] | None = None

    def _plan(self) -> None:
        """Say where the next run would be written."""
        raise NotImplementedError

    def set_device(self, device: str) -> None:
        """Choose the device: ``auto``, ``cpu``, ``cuda`` or ``mps``."""
        if device == self.state.device:
            return
        self._update(device=device, no_bf16="")
        if self._bf16 is not None:
            self.ask_bf16()

    def set_precision(self, precision: str) -> None:
        """Choose ``auto``, ``fp32`` or ``bf16``; ``auto`` goes on with a run in its own."""
        self._update(precision=precision)
        self._plan()

    def set_features(self, features: str | None) -> None:
        """Choose how features are stored: ``float32``, ``float16``, ``none``.

        None: as the run has them that goes on, else ``float32``.
        """
        self._update(features=features)
        self._plan()

    def ask_bf16(self) -> None:
        """Find out in a thread, which loads torch, whether the chosen device has bf16."""
        device = self.state.device
        if self._bf16 is None:
            self._bf16 = Latest()
        self._bf16.ask(lambda task: bf16_problem(device))

    def hear_bf16(self) -> bool:
        """Take over what was found out; whether more is to come. For the GUI, to poll."""
        if self._bf16 is None:
            return False
        task = self._bf16.take()
        if task is not None and task.result is not None:
            self._update(no_bf16=task.result)
        return self._bf16.working
