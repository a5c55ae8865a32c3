"""The dock *OOD*: slide, bundle, run, result. A view of the session, nothing more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error
from qtpy.QtCore import QTimer
from qtpy.QtGui import QShowEvent

from napari_ood.errors import OodError
from napari_ood.viewer.canvas_legend import show_legend
from napari_ood.viewer.scroll_dock import ScrollDock
from napari_ood.viewer.section_bundle import BundleSection
from napari_ood.viewer.section_results import ResultsSection
from napari_ood.viewer.section_run import RunSection
from napari_ood.viewer.section_slide import SlideSection
from napari_ood.viewer.state import State
from napari_ood.viewer.ticker import Ticker

if TYPE_CHECKING:
    from napari import Viewer

PLUGIN = "napari-ood"
SAMPLE = "synthetic-he"
"""Name of the sample slide and of the bundle that was trained for it."""

HEARING_INTERVAL_MS = 100
"""Between two looks whether it is known what the device can compute."""


class OodDock(ScrollDock):
    """Slide, bundle, run and result of one viewer.

    It holds no state: closing and opening it again shows the same, also during a run.

    Parameters
    ----------
    napari_viewer : Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self.slide, self.bundle = SlideSection(), BundleSection()
        self.run, self.results = RunSection(), ResultsSection()
        self._sections = (self.slide, self.bundle, self.run, self.results)
        for section in self._sections:
            self.column.addWidget(section)
        self.column.addStretch(1)
        self._hearing = QTimer(self)
        self._hearing.setInterval(HEARING_INTERVAL_MS)
        self._hearing.timeout.connect(self._hear)
        self._connect_sections()
        self.follow()

    def _connect_sections(self) -> None:
        session = self.bridge.session
        self.slide.open_requested.connect(self._open)
        self.slide.sample_requested.connect(self._open_sample)
        self.slide.chosen.connect(session.choose_slide)
        self.slide.mpp_entered.connect(session.set_mpp)
        self.slide.associated_requested.connect(self.bridge.show_associated)
        self.slide.located.connect(self.bridge.locate)
        self.bundle.chosen.connect(session.choose_bundle)
        self.run.scope_chosen.connect(session.set_scope)
        self.run.device_chosen.connect(self._choose_device)
        self.run.how.precision_chosen.connect(session.set_precision)
        self.run.how.features_chosen.connect(session.set_features)
        self.run.how.opened.connect(self._look_for_bf16)
        self.run.folder_chosen.connect(session.set_folder)
        self.run.run_requested.connect(self._run)
        self.run.cancel_requested.connect(session.cancel)
        self.results.overlay_chosen.connect(session.set_overlay)
        self.results.opacity_chosen.connect(session.set_opacity)

    # ---------------------------------------------------------------- what the user asks for

    def _run(self) -> None:
        if self.bridge.run():
            Ticker(self.bridge, self)

    def _choose_device(self, device: str) -> None:
        self.bridge.session.set_device(device)
        self._hearing.start()

    def _look_for_bf16(self) -> None:
        self.bridge.session.ask_bf16()
        self._hearing.start()

    def _hear(self) -> None:
        if self._bridge is None or not self._bridge.session.hear_bf16():
            self._hearing.stop()

    def _open(self, path: Path) -> None:
        if self.bridge.viewer is not None:
            self.bridge.viewer.open(path, plugin=PLUGIN)

    def _open_sample(self) -> None:
        viewer, session = self.bridge.viewer, self.bridge.session
        if viewer is None:
            return
        try:
            added = viewer.open_sample(PLUGIN, SAMPLE)
        except OodError as error:
            show_error(str(error))
            return
        viewer.layers.selection.active = added[0]
        if session.state.bundle is None:
            session.choose_bundle(SAMPLE)

    # ---------------------------------------------------------------- view of the state

    def show_state(self, new: State, old: State | None) -> None:
        """Redraw what differs between two snapshots; everything when ``old`` is None."""
        for section in self._sections:
            section.show_state(new, old)
        if old is not None and new.maps is not None and old.maps is None:
            # Laid out first: a section that was hidden until now has no place to scroll to.
            QTimer.singleShot(0, self._scroll_to_results)

    def _scroll_to_results(self) -> None:
        self.scroll_area.ensureWidgetVisible(self.results)

    # ---------------------------------------------------------------- window

    def showEvent(self, event: QShowEvent | None) -> None:
        """Put the legend on the canvas: only now the window is known."""
        super().showEvent(event)
        show_legend(self.bridge, self)
