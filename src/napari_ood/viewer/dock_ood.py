"""The dock *OOD*: slide, bundle, run, result. A view of the session, nothing more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QFrame, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from napari_ood.errors import OodError
from napari_ood.viewer.bridge import Bridge, bridge_of
from napari_ood.viewer.canvas_legend import show_legend
from napari_ood.viewer.link import Link
from napari_ood.viewer.section_bundle import BundleSection
from napari_ood.viewer.section_results import ResultsSection
from napari_ood.viewer.section_run import RunSection
from napari_ood.viewer.section_slide import SlideSection
from napari_ood.viewer.state import State
from napari_ood.viewer.ticker import Ticker

if TYPE_CHECKING:
    from napari import Viewer

WIDTH_PX = 330
PLUGIN = "napari-ood"
SAMPLE = "synthetic-he"
"""Name of the sample slide and of the bundle that was trained for it."""


class OodDock(QWidget):
    """Slide, bundle, run and result of one viewer.

    It holds no state: closing and opening it again shows the same, also during a run.

    Parameters
    ----------
    napari_viewer : Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._bridge: Bridge | None = bridge_of(napari_viewer)
        self.slide, self.bundle = SlideSection(), BundleSection()
        self.run, self.results = RunSection(), ResultsSection()
        self._sections = (self.slide, self.bundle, self.run, self.results)
        self._lay_out()
        self._connect_sections()
        self._link = Link(self)

    def _lay_out(self) -> None:
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(8, 4, 8, 8)
        column.setSpacing(14)
        for section in self._sections:
            column.addWidget(section)
        column.addStretch(1)
        scroll = QScrollArea()
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(content)
        self._scroll = scroll
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(scroll)
        self.setMinimumWidth(WIDTH_PX)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)

    @property
    def bridge(self) -> Bridge:
        """The bridge to the viewer; RuntimeError once the dock has been closed."""
        if self._bridge is None:
            raise RuntimeError("this dock was closed; open it again from the Plugins menu")
        return self._bridge

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
        self.run.device_chosen.connect(session.set_device)
        self.run.folder_chosen.connect(session.set_folder)
        self.run.run_requested.connect(self._run)
        self.run.cancel_requested.connect(session.cancel)
        self.results.overlay_chosen.connect(session.set_overlay)
        self.results.opacity_chosen.connect(session.set_opacity)

    # ---------------------------------------------------------------- what the user asks for

    def _run(self) -> None:
        if self.bridge.run():
            Ticker(self.bridge, self)

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
        self._scroll.ensureWidgetVisible(self.results)

    # ---------------------------------------------------------------- window

    def showEvent(self, event: QShowEvent | None) -> None:
        """Put the legend on the canvas: only now the window is known."""
        super().showEvent(event)
        show_legend(self.bridge, self)

    def event(self, event: QEvent | None) -> bool:
        """Unbind when napari takes the widget out of its dock: no close event ever comes."""
        if event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.teardown()
        return bool(super().event(event))

    def teardown(self) -> None:
        """Stop following the session; the run goes on. May be called more than once."""
        if self._bridge is not None:
            self._link.cut()
            self._bridge = None
            self.deleteLater()  # nobody else owns a widget without a parent
