"""The part of the dock *OOD cohort* that says whether slides drift. Knows Qt and no session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QVBoxLayout, QWidget
from superqt.utils import signals_blocked

from napari_ood.viewer.drift_plot import DriftPlot
from napari_ood.viewer.histogram import INK
from napari_ood.viewer.widgets import text_label

if TYPE_CHECKING:
    from napari_ood.board import Drift, Measure, SlideRow, Track

TITLES = {"ood": "OOD share", "appearance": "Appearance share", "tissue": "Tissue share"}
KEY = (
    f'<span style="color:{INK}">▬</span> moving average, its limits&nbsp;&nbsp; '
    '<span style="color:#8a8d93">▬</span> median'
)
TIP = (
    "A dot is a slide. The line is a moving average over slides (EWMA), the band what it may be\n"
    "if slides stay like the first ones of this scanner. When it leaves the band, slides have\n"
    "become different for more than one slide: stain, lamp, protocol, scanner.\n"
    "Grey: rolling median of 7 slides. Dotted: 5 %, to be expected.\n"
    "Square-root scale. Click chooses a slide, double-click opens it."
)


class DriftSection(QWidget):
    """Words, a choice of scanner and share, and the chart.

    Signals
    -------
    chosen(place), opened(place) : a slide's dot was clicked, or double-clicked
    """

    chosen = Signal(int)
    opened = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._drifts: Mapping[Measure, Drift] = {}
        self._rows: Sequence[SlideRow] = ()
        self.words, self.key = text_label(), text_label(KEY)
        self.measure, self.scanner = QComboBox(), QComboBox()
        for box in (self.measure, self.scanner):
            box.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
            box.setMinimumContentsLength(10)
            box.activated.connect(self._show)
        self.plot = DriftPlot()
        self.plot.setToolTip(TIP)
        self.key.setToolTip(TIP)
        self.plot.chosen.connect(self.chosen)
        self.plot.opened.connect(self.opened)
        choice = QHBoxLayout()
        choice.addWidget(self.measure, 1)
        choice.addWidget(self.scanner, 2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(5)
        layout.addWidget(self.words)
        layout.addLayout(choice)
        layout.addWidget(self.plot, 1)
        layout.addWidget(self.key)

    def show_drifts(self, drifts: Mapping[Measure, Drift], rows: Sequence[SlideRow]) -> None:
        """Show other drifts; nothing happens where they are the same."""
        if drifts is self._drifts or (not drifts and not self._drifts):
            return
        self._drifts, self._rows = drifts, rows
        with signals_blocked(self.measure):
            self.measure.clear()
            for measure in drifts:
                self.measure.addItem(TITLES[measure], measure)
        self.measure.setVisible(len(drifts) > 1)
        drift = self._drift
        with signals_blocked(self.scanner):
            self.scanner.clear()
            tracks = drift.tracks if drift is not None else ()
            # Those that drift first: they are what one has to know of.
            for track in sorted(tracks, key=lambda track: not track.drifting):
                self.scanner.addItem(f"{track.scanner} ({len(track.rows):,})", track.scanner)
        self.scanner.setVisible(self.scanner.count() > 1)
        self._show()

    def set_current(self, place: int) -> None:
        """Mark a slide, on the chart of its scanner."""
        track = self._track
        if track is not None and place not in track.rows:
            scanner = next((t.scanner for t in self._tracks if place in t.rows), None)
            if scanner is not None:
                self.scanner.setCurrentIndex(self.scanner.findData(scanner))
                self._show()
        self.plot.set_current(place)

    @property
    def _drift(self) -> Drift | None:
        return self._drifts.get(self.measure.currentData())

    @property
    def _tracks(self) -> Sequence[Track]:
        return self._drift.tracks if self._drift is not None else ()

    @property
    def _track(self) -> Track | None:
        name = self.scanner.currentData()
        return next((track for track in self._tracks if track.scanner == name), None)

    def _show(self, *_: object) -> None:
        drift, track = self._drift, self._track
        self.words.setText(drift.words if drift is not None else "")
        self.plot.set_track(track, self._rows)
        self.plot.setVisible(track is not None)
        self.key.setVisible(track is not None and not track.note)
