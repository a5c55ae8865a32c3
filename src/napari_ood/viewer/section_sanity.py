"""Is the saliency map to be trusted? Random weights, and deleting what it points at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QProgressBar, QPushButton, QWidget

from napari_ood.explain.sanity import Trust
from napari_ood.passport import Light
from napari_ood.viewer.curves_plot import DELETION, INSERTION, PROBABILITY, CurvesPlot
from napari_ood.viewer.picture import Picture, lay_over
from napari_ood.viewer.saliency_layer import limits_of, ramp_of
from napari_ood.viewer.section_passport import LightIcon
from napari_ood.viewer.widgets import Section, sentence, text_label

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_ood.explain.sanity import Curves
    from napari_ood.viewer.inspector_state import Inspected, Randomised, Tested

PERCENT = 100
LIGHTS = {
    Trust.YES: Light.GREEN,
    Trust.LITTLE: Light.YELLOW,
    Trust.NO: Light.RED,
    Trust.UNKNOWN: Light.GREY,
}
HIGH = 99.0
"""Percentile of the random map that its colours end at."""


class SanitySection(Section):
    """Two buttons and what came of them.

    Signals
    -------
    randomise_asked(), curves_asked(), cancel_asked()
    """

    randomise_asked = Signal()
    curves_asked = Signal()
    cancel_asked = Signal()

    def __init__(self) -> None:
        super().__init__("Is this map to be trusted?")
        self.randomise = QPushButton("Randomise weights")
        self.randomise.setToolTip("Does the map depend on what the model has learnt at all?")
        self.curves = QPushButton("Delete / insert")
        self.curves.setToolTip("Does the target change when the pixels it points at are blurred?")
        self.cancel = QPushButton("Cancel")
        self.bar, self.message = QProgressBar(), text_label()
        self.maps = QWidget()
        self.pictures = (Picture(), Picture())
        self.correlation, self.verdict = Belief(), Belief()
        self.plot, self.areas = CurvesPlot(), text_label(muted=True)
        self.randomise.clicked.connect(self.randomise_asked)
        self.curves.clicked.connect(self.curves_asked)
        self.cancel.clicked.connect(self.cancel_asked)
        self._lay_out()

    def _lay_out(self) -> None:
        buttons = QHBoxLayout()
        buttons.setSpacing(4)
        buttons.addWidget(self.randomise, 1)
        buttons.addWidget(self.curves, 1)
        self.body.addLayout(buttons)
        grid = QGridLayout(self.maps)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(8)
        for column, (title, picture) in enumerate(
            zip(("this model", "random weights, own scale"), self.pictures, strict=True)
        ):
            grid.addWidget(text_label(title), 0, column)
            grid.addWidget(picture, 1, column)
            grid.setColumnStretch(column, 1)
        for widget in (
            self.bar, self.cancel, self.message, self.maps, self.correlation, self.plot,
            self.verdict, self.areas,
        ):  # fmt: skip
            self.body.addWidget(widget)

    def show_state(self, state: Inspected) -> None:
        """Show what was found about the map at hand."""
        ready = state.shown is not None and not state.checking
        self.randomise.setEnabled(ready)
        self.curves.setEnabled(ready)
        self.bar.setVisible(state.checking)
        self.cancel.setVisible(state.checking)
        self.bar.setRange(0, 0 if state.check_share is None else PERCENT)
        self.bar.setValue(round(PERCENT * (state.check_share or 0.0)))
        self.message.setText(sentence(state.check_problem))
        self.message.setVisible(bool(state.check_problem))
        found = state.randomised
        self.maps.setVisible(found is not None)
        self.correlation.setVisible(found is not None)
        if found is not None:
            tile = state.look.pixels.value if state.look is not None else None
            self._show_randomised(found, tile)
        for widget in (self.plot, self.verdict, self.areas):
            widget.setVisible(state.tested is not None)
        if state.tested is not None:
            self._show_curves(state.tested)

    def _show_randomised(self, found: Randomised, tile: NDArray[np.uint8] | None) -> None:
        signed = found.shown.saliency.signed
        table, limits = ramp_of(signed).table(), limits_of(found.shown)
        own = own_limits(found.randomised, signed)
        for picture, values, ends in zip(
            self.pictures, (found.original, found.randomised), (limits, own), strict=True
        ):
            pixels = None if tile is None else lay_over(tile, values, table, ends)
            picture.show_pixels(pixels, "no pixels")
        self.correlation.show_belief(found.trust, found.words)

    def _show_curves(self, tested: Tested) -> None:
        curves = tested.curves
        self.plot.show_curves(
            curves.fractions, curves.deletion, curves.insertion, tested.what, curves.unit
        )
        self.verdict.show_belief(curves.trust, curves.words)
        self.areas.setText(areas_in_words(curves))


class Belief(QWidget):
    """What a test says of the map: a light, and a sentence."""

    def __init__(self) -> None:
        super().__init__()
        self.icon, self.label = LightIcon(), text_label()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(self.icon, 0, Qt.AlignmentFlag.AlignTop)
        row.addWidget(self.label, 1)

    def show_belief(self, trust: Trust, words: str) -> None:
        """Show it."""
        self.icon.show_light(LIGHTS[trust])
        self.label.setText(words)


def areas_in_words(curves: Curves) -> str:
    """Which curve is which, and their areas."""
    percent = curves.unit == PROBABILITY

    def area(value: float) -> str:
        return f"{100 * value:.0f} %" if percent else f"{value:.3g}"

    return (
        f'<span style="color:{DELETION}">■</span> Deletion (pixels are blurred): '
        f"{area(curves.deletion_auc)} on average, low is good. "
        f'<span style="color:{INSERTION}">■</span> Insertion (a blurred tile gets them back): '
        f"{area(curves.insertion_auc)}, high is good."
    )


def own_limits(values: NDArray[np.float32], signed: bool) -> tuple[float, float]:
    """Ends of a scale for the map of random weights, whose numbers have no size to speak of."""
    limit = float(np.nanpercentile(np.abs(values), HIGH)) or 1.0
    return (-limit if signed else 0.0), limit
