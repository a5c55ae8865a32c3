"""One run in a worker thread. No Qt, no napari: the GUI polls, the job never calls it."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_ood.errors import OodError
from napari_ood.models.precision import AUTO
from napari_ood.viewer.aside import Aside
from napari_ood.viewer.looking import open_scored
from napari_ood.viewer.maps import Maps

if TYPE_CHECKING:
    from napari_ood.inference import Progress, Run
    from napari_ood.models import Bundle
    from napari_ood.slides import Slide

Box = tuple[int, int, int, int]
"""y, x, h, w in level-0 pixels."""

log = logging.getLogger(__name__)

SCORE_EVERY_S = 0.5
"""Seconds in which tiles gather to be scored together: a few dozen cost half as much as singly."""


@dataclass(frozen=True)
class Request:
    """Everything a run needs; the one place that maps the dock to ``run_slide``.

    ``region`` is None for the whole slide; the rest is as ``run_slide`` has it.
    """

    slide: Slide
    bundle: Bundle
    out: Path
    region: Box | None = None
    device: str = "auto"
    precision: str = AUTO
    features: str | None = None


class Job:
    """A run in a thread; its attributes are polled from the GUI.

    Attributes
    ----------
    progress : the latest report of the engine, or None
    maps : filled while the run goes on; None until the first tiles are stored
    run : what the engine returned; None while it works and after an error
    error : one line for the user when the run has failed
    view : level-0 box that the user looks at; the engine does those tiles first
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.progress: Progress | None = None
        self.maps: Maps | None = None
        self.run: Run | None = None
        self.error: str | None = None
        self.view: Box | None = None
        self._cancel = threading.Event()
        # Not a daemon: torch or zarr killed half-way through a call takes the interpreter along.
        self._thread = threading.Thread(target=self._work, name="napari-ood run", daemon=False)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def cancel(self) -> None:
        """Ask the run to stop; it does so within one batch and keeps what it has stored."""
        self._cancel.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the thread has ended; whether it has."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        """Whether the thread is still working."""
        return self._thread.is_alive()

    @property
    def cancelled(self) -> bool:
        """Whether the run was asked to stop."""
        # At exit the interpreter waits for this thread, so the end of the main thread counts too.
        return self._cancel.is_set() or not threading.main_thread().is_alive()

    def _work(self) -> None:
        try:
            self._run_slide()
        except OodError as error:
            self.error = str(error)
        except Exception as error:
            if not threading.main_thread().is_alive():
                return  # the interpreter is ending and zarr with it; what is stored stays stored
            log.exception("run failed")
            self.error = f"The run failed: {type(error).__name__}: {error}"

    def _run_slide(self) -> None:
        from napari_ood.inference import run_slide  # loads torch when called, in this thread

        request = self.request
        # Scores take their time, the first ones most of all; the network goes on meanwhile.
        with Aside(self._on_progress, "napari-ood scores", SCORE_EVERY_S) as listener:
            run = run_slide(
                request.slide,
                request.bundle,
                request.out,
                region=request.region,
                device=request.device,
                on_progress=listener,
                cancel=lambda: self.cancelled,
                view=lambda: self.view,
                precision=request.precision,
                features=request.features,
            )
        # From the store once more: a resumed run that had nothing left to do reports no tiles.
        self._fill_from_store()
        if self.maps is not None:
            self.maps.stored = open_scored(self.maps)
        self.run = run

    def _on_progress(self, news: list[Progress]) -> None:
        if self.maps is None:
            self._fill_from_store()
        elif not self.cancelled:  # or what is stored is shown at once, at the end
            arrays = zip(*((p.index, p.logits, p.features) for p in news), strict=True)
            self.maps.put(*map(np.concatenate, arrays))
        self.progress = news[-1]

    def _fill_from_store(self) -> None:
        from napari_ood.inference import open_run

        run = open_run(self.request.out)
        if self.maps is None:
            maps = Maps.of_run(run, self.request.bundle)
            self.maps = maps
        else:
            self.maps.fill_from(run)
