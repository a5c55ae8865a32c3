"""The head of the inspector: what the model says of the chosen tile, and whether to trust it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_ood.passport import Light
from napari_ood.scores.names import score_and_formula
from napari_ood.viewer.layers import TITLES
from napari_ood.viewer.maps import SCORED, Overlay
from napari_ood.viewer.picture import Picture
from napari_ood.viewer.section_passport import LightIcon
from napari_ood.viewer.widgets import capitalised, text_label

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_ood.viewer.inspector_state import Inspected
    from napari_ood.viewer.maps import Maps, Readout

PICTURE_PX = 104
HUGE = 1e6
"""Scores from here on are written with a power of ten."""
DISSENT = "dissent"
"""The score of how many heads would have said another class."""
NO_RUN = (
    "Why does the model say so, and why is a tile foreign? Open a run, or run a bundle on a slide "
    "in the dock OOD, then click a tile."
)
NO_TILE_CHOSEN = "Click a tile on the slide. Arrow keys then go to its neighbours."
CLICK_THE_IMAGE = "Click the image, which the bundle judges as a whole."


@dataclass(frozen=True)
class Verdict:
    """Whether to trust the model on a tile, as a light with words."""

    light: Light
    words: str


def verdict_on(readout: Readout, limits: Mapping[Overlay, float]) -> Verdict:
    """Whether to trust the model on a tile, by the thresholds that hold."""
    known = {
        overlay: value > limits[overlay]
        for overlay in SCORED
        if overlay in limits and (value := readout.value(overlay)) is not None
        if not math.isnan(value)
    }
    foreign = [o for o in (Overlay.APPEARANCE, Overlay.TISSUE) if known.get(o)]
    if known.get(Overlay.OOD) or foreign:
        kinds = " and ".join(o.value for o in foreign)
        which = f" ({kinds})" if kinds else ""
        return Verdict(Light.RED, f"Do not trust it: foreign to the model{which}.")
    if known.get(Overlay.UNCERTAINTY):
        also = "" if Overlay.OOD in known else " Whether it is foreign is not known."
        return Verdict(Light.YELLOW, f"Take care: the model is unsure here.{also}")
    if Overlay.OOD in known:
        sure = ", and it is sure" if Overlay.UNCERTAINTY in known else ""
        return Verdict(Light.GREEN, f"Like what the model knows{sure}.")
    reason = "no threshold says so" if readout.ood is not None else "this run has no OOD score"
    return Verdict(Light.GREY, f"Whether it is foreign is not known: {reason}.")


class TileSection(QWidget):
    """Picture, prediction, scores with thresholds, verdict; ways to choose a tile.

    Signals
    -------
    most_foreign_asked(), box_asked(), flight_asked()
    """

    most_foreign_asked = Signal()
    box_asked = Signal()
    flight_asked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.picture = Picture(PICTURE_PX)
        self.light, self.verdict = LightIcon(), text_label(bold=True)
        self.prediction, self.cause, self.place = text_label(), text_label(), text_label(muted=True)
        self.note = text_label()
        self.most_foreign = QPushButton("Most foreign")
        self.most_foreign.setToolTip("Choose the tile with the highest OOD score and go there")
        self.fly = QPushButton("Go there")
        self.fly.setToolTip("Move the camera to the chosen tile")
        self.box = QPushButton("Drawn box")
        self.box.setToolTip(
            "Choose the tiles in the rectangle that is drawn in a Shapes layer: saliency then\n"
            "covers all of them (at most 64, or 4 with a slow method)"
        )
        self.most_foreign.clicked.connect(self.most_foreign_asked)
        self.fly.clicked.connect(self.flight_asked)
        self.box.clicked.connect(self.box_asked)
        self._rows = QGridLayout()
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.setHorizontalSpacing(8)
        self._rows.setVerticalSpacing(0)
        self._rows.setColumnStretch(0, 1)
        self._labels: list[QLabel] = []
        self._lay_out()

    def _lay_out(self) -> None:
        says = QVBoxLayout()
        says.setSpacing(4)
        says.addWidget(self.prediction)
        says.addWidget(self.cause)
        says.addWidget(self.place)
        says.addStretch(1)
        top = QHBoxLayout()
        top.setSpacing(10)
        top.addWidget(self.picture, 0, Qt.AlignmentFlag.AlignTop)
        top.addLayout(says, 1)
        trust = QHBoxLayout()
        trust.setSpacing(8)
        trust.addWidget(self.light, 0, Qt.AlignmentFlag.AlignTop)
        trust.addWidget(self.verdict, 1)
        buttons = QHBoxLayout()
        buttons.setSpacing(4)
        for button in (self.most_foreign, self.box, self.fly):
            buttons.addWidget(button)
        buttons.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        layout.addLayout(trust)
        layout.addLayout(top)
        layout.addLayout(self._rows)
        layout.addWidget(self.note)
        layout.addLayout(buttons)

    def show_tile(
        self, state: Inspected, readout: Readout | None, limits: Mapping[Overlay, float]
    ) -> None:
        """Show the chosen tile; ``limits`` are the thresholds that hold now."""
        maps = state.maps
        chosen = maps is not None and state.cell is not None and readout is not None
        for widget in (
            self.picture, self.light, self.verdict, self.prediction, self.cause, self.place,
        ):  # fmt: skip
            widget.setVisible(chosen)
        # An image that is judged as a whole is one tile: there is nothing to look for in it.
        whole = maps is not None and maps.whole_image
        self.fly.setVisible(chosen and not whole)
        self.box.setVisible(maps is not None and not whole)
        self.most_foreign.setVisible(maps is not None and not (whole and chosen))
        self.most_foreign.setText("Look at the image" if whole else "Most foreign")
        self._show_rows(maps, readout if chosen else None, limits)
        self.note.setText(self._note(state))
        self.note.setVisible(bool(self.note.text()))
        if maps is None or readout is None or state.cell is None:
            return
        verdict = verdict_on(readout, limits)
        self.light.show_light(verdict.light)
        self.verdict.setText(verdict.words)
        color = maps.colors[int(maps.prediction[state.cell]) - 1]
        self.prediction.setText(
            f'<span style="color:{color}">■</span> <b>{readout.label}</b> '
            f"{100 * readout.probability:.0f} %"
        )
        self.place.setText(_place(state))
        cause = state.look.cause.value if state.look is not None else None
        named = cause is not None and verdict.light is Light.RED
        self.cause.setText(f"Probable cause: {cause.name}" if cause is not None and named else "")
        self.cause.setVisible(bool(self.cause.text()))
        pixels = state.look.pixels if state.look is not None else None
        word = "reading…" if pixels is None or not pixels.words else "no pixels"
        self.picture.show_pixels(pixels.value if pixels is not None else None, word)
        self.picture.setToolTip(pixels.words if pixels is not None else "")

    def _note(self, state: Inspected) -> str:
        if state.maps is None:
            return NO_RUN
        if state.note:
            return state.note
        if state.cell is None:
            return CLICK_THE_IMAGE if state.maps.whole_image else NO_TILE_CHOSEN
        look = state.look
        return look.pixels.words if look is not None else ""

    def _show_rows(
        self, maps: Maps | None, readout: Readout | None, limits: Mapping[Overlay, float]
    ) -> None:
        while self._labels:
            label = self._labels.pop()
            self._rows.removeWidget(label)
            label.hide()
            label.deleteLater()
        if maps is None or readout is None:
            return
        shown = [o for o in reversed(SCORED) if o in maps.scales]
        for row, overlay in enumerate(shown):
            value = readout.value(overlay)
            if value is None:
                continue
            score = maps.scales[overlay].score
            tip = capitalised(score_and_formula(score, maps.card))
            for column, text in enumerate(
                (name_of(overlay, score), *row_in_words(value, limits.get(overlay)))
            ):
                label = QLabel(text)
                label.setToolTip(tip)
                if column:
                    label.setAlignment(Qt.AlignmentFlag.AlignRight)
                self._rows.addWidget(label, row, column)
                self._labels.append(label)


def name_of(overlay: Overlay, score: str) -> str:
    """What an overlay's value is called."""
    if score == DISSENT:
        return "Dissenting heads"
    name = TITLES[overlay].removeprefix("OOD: ").capitalize()
    return "OOD" if overlay is Overlay.OOD else name


def row_in_words(value: float, limit: float | None) -> tuple[str, str]:
    """A value, and how it lies to its threshold."""
    if math.isnan(value):
        return "not a number", ""
    if limit is None:
        return f"<b>{value:.3g}</b>", ""
    # Both with the threshold's decimals, so that they compare at a glance.
    decimals = max(0, 2 - math.floor(math.log10(abs(limit)))) if limit else 2
    shown = f"{value:.{decimals}f}" if abs(value) < HUGE else f"{value:.3g}"
    return f"<b>{shown}</b>", f"{'▲ above' if value > limit else '▽ below'} {limit:.{decimals}f}"


def _place(state: Inspected) -> str:
    maps, cell = state.maps, state.cell
    assert maps is not None and cell is not None
    if maps.whole_image:
        return "The image as a whole is one tile"
    others = len(state.cells) - 1
    more = f", first of {others + 1} tiles" if others else ""
    return f"Row {cell[0]}, column {cell[1]}{more}"
