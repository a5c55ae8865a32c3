"""An export of the shown run, in a thread. No Qt, no napari: docks come and go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from psygnal import Signal

from napari_ood.errors import ExportCancelled
from napari_ood.export import FORMATS, export_run
from napari_ood.naming import run_name
from napari_ood.viewer.state import Phase
from napari_ood.viewer.task import Task

if TYPE_CHECKING:
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.export import ExportProgress
    from napari_ood.scores.thresholds import Threshold
    from napari_ood.slides import Slide
    from napari_ood.viewer.bridge import Bridge
    from napari_ood.viewer.session import Session
    from napari_ood.viewer.state import State

TITLES = {
    "geojson": "GeoJSON for QuPath",
    "csv": "CSV table",
    "parquet": "Parquet table",
    "ome-zarr": "OME-Zarr maps",
    "ome-tiff": "OME-TIFF maps",
    "report": "Report (HTML and PDF)",
}
HINTS = {
    "geojson": "Regions, prediction and verdicts as annotations, in pixels of the slide.",
    "csv": "One row per tile: place, class, probabilities, every score, flags. For Excel and R.",
    "parquet": "The same table, small and fast. For pandas, polars and Arrow.",
    "ome-zarr": "The maps as one image with the slide's scale. For napari, ngff tools.",
    "ome-tiff": "The same as a pyramid in one file. For QuPath, Fiji and napari.",
    "report": "One page to read and print: pictures, thresholds, passport, verdicts.",
}
FIRST = frozenset({"geojson", "csv", "report"})
"""What is ticked at first: what most people want, and small."""
NEEDS = {"parquet": ("pyarrow", "needs pyarrow: pip install pyarrow")}


@dataclass(frozen=True)
class Order:
    """One snapshot: what is to be written where, how far it is, what was written."""

    formats: frozenset[str] = FIRST
    folder: Path | None = None
    busy: bool = False
    progress: ExportProgress | None = None
    cancelling: bool = False
    written: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    error: str = ""


class Exporting:
    """State and commands of the dock *OOD export*; lives as long as its viewer.

    Signals
    -------
    changed(new, old) : after every change of ``order``
    """

    changed = Signal(object, object)

    def __init__(self) -> None:
        self.order = Order()
        self._task: Task[tuple[Path, ...]] | None = None
        self._progress: ExportProgress | None = None
        self._notes: list[str] = []

    def _update(self, **changes: Any) -> None:
        old, self.order = self.order, replace(self.order, **changes)
        if self.order != old:
            self.changed.emit(self.order, old)

    def set_format(self, name: str, wanted: bool) -> None:
        """Write a format or not."""
        change = frozenset({name})
        formats = self.order.formats | change if wanted else self.order.formats - change
        self._update(formats=formats)

    def set_folder(self, folder: Path | None) -> None:
        """Where to write; None for beside the run."""
        self._update(folder=folder)

    def start(self, session: Session) -> None:
        """Write what is ticked of the shown run."""
        state = session.state
        scored = session.scored(state.maps)
        if self.order.busy or scored is None:
            return
        if state.temperature is not None:
            scored = scored.with_temperature(state.temperature)
        formats = [name for name in FORMATS if name in self.order.formats and not missing(name)]
        out = self.order.folder or default_out(scored.run.path)
        thresholds = thresholds_of(state)
        self._progress, self._notes = None, []
        self._update(busy=True, cancelling=False, progress=None, written=(), notes=(), error="")
        self._task = Task(
            lambda task: self._export(task, scored, out, formats, thresholds, state.slide)
        )

    def _export(
        self,
        task: Task[tuple[Path, ...]],
        scored: ScoredRun,
        out: Path,
        formats: list[str],
        thresholds: Mapping[str, Threshold] | None,
        slide: Slide | None,
    ) -> tuple[Path, ...]:
        def listen(progress: ExportProgress) -> None:
            self._progress = progress

        try:
            return export_run(
                scored,
                out,
                formats,
                thresholds,
                slide=slide,
                on_progress=listen,
                cancel=lambda: task.cancelled,
                on_note=self._notes.append,
            )
        except ExportCancelled:
            self._notes.append(
                "Cancelled. Files that were finished are kept, none is half-written."
            )
            return ()

    def cancel(self) -> None:
        """Stop between two pieces of work."""
        if self._task is not None:
            self._task.cancel()
            self._update(cancelling=True)

    def poll(self) -> bool:
        """Take over what the thread has done; whether it is still working."""
        task = self._task
        if task is None:
            return False
        alive = task.alive  # before what it has left, or the last of it may be missed
        self._update(progress=self._progress)
        if not alive:
            self._task = None
            self._update(
                busy=False,
                cancelling=False,
                written=task.result or (),
                notes=tuple(self._notes),
                error=task.error or "",
            )
        return alive

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the thread has ended; whether it has. For scripts and tests."""
        return self._task is None or self._task.wait(timeout)

    def end(self, *_: object) -> None:
        """Stop and wait, telling no one: for when the window is gone."""
        if self._task is not None:
            self._task.cancel()
            self._task.wait()


def missing(name: str) -> str:
    """What a format needs and is not installed, in words; empty when all is there."""
    module, words = NEEDS.get(name, ("", ""))
    return words if module and find_spec(module) is None else ""


def default_out(run: Path) -> Path:
    """Folder ``<slide>.export`` beside the run."""
    return run.with_name(f"{run_name(run)}.export")


def thresholds_of(state: State) -> dict[str, Threshold] | None:
    """Thresholds of the dock by role; None (the defaults) where it has none."""
    return {overlay.value: t for overlay, t in state.thresholds.items()} or None


def why_not(session: Session, order: Order) -> str:
    """Why nothing can be exported now; empty when it can."""
    state = session.state
    if state.maps is None:
        return "There is no result yet. Run a bundle on the slide, or open a stored run."
    if state.phase is not Phase.IDLE:
        return "A run is going on. Export when it has ended, or cancel it first."
    if session.scored(state.maps) is None:
        return "The run behind this result is not stored any more: run it again."
    if not order.formats:
        return "Tick what is to be written."
    return ""


_EXPORTS: WeakKeyDictionary[Bridge, Exporting] = WeakKeyDictionary()


def exporting_of(bridge: Bridge) -> Exporting:
    """The export of a viewer, made on first use; it lives as long as the viewer."""
    return _EXPORTS.setdefault(bridge, Exporting())
