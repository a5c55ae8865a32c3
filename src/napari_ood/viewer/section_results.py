"""The dock's section about the results: which overlay, its legend, the tile under the cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSlider
from superqt.utils import signals_blocked

from napari_ood.scores.names import score_and_formula
from napari_ood.viewer import colors
from napari_ood.viewer.maps import KINDS, Maps, Overlay, Readout
from napari_ood.viewer.widgets import ClassLegend, ColorBar, Section, Segmented, text_label

if TYPE_CHECKING:
    from napari_ood.viewer.state import State

CHOICES = (
    (Overlay.OOD, "OOD"),
    (Overlay.UNCERTAINTY, "Uncertainty"),
    (Overlay.PREDICTION, "Class"),
    (Overlay.COMBINED, "Both"),
    (None, "None"),
)
KIND_CHOICES = (
    (Overlay.OOD, "Any"),
    (Overlay.APPEARANCE, "Appearance"),
    (Overlay.TISSUE, "Tissue"),
)
FOREIGN = (Overlay.OOD, *KINDS)
WORDS = {
    **dict.fromkeys(FOREIGN, ("familiar", "foreign")),
    Overlay.UNCERTAINTY: ("sure", "unsure"),
}
RAMPS = {**dict.fromkeys(FOREIGN, colors.OOD), Overlay.UNCERTAINTY: colors.UNCERTAINTY}
QUESTIONS = {
    Overlay.OOD: "Is this foreign to the model? Compared with the {noun}s it was trained on.",
    Overlay.APPEARANCE: "Is the stain, scanner, focus or scale foreign? Rescanning may mend it.",
    Overlay.TISSUE: "Is the tissue itself foreign, whatever its colour? A pathologist should look.",
    Overlay.UNCERTAINTY: "Will the model be wrong? How little its answer is settled.",
    Overlay.PREDICTION: "What does the model say? The most probable class of each {noun}.",
    Overlay.COMBINED: "Class and uncertainty at once: hue is the class, pale is unsure.",
    None: "The slide alone.",
}
MARK = "Mark: threshold, {words}."
POINT = "Point at a tile to read its values."
HOW = "Computed {how}."
OPACITY_STEPS = 100
IMAGE_ALONE = "The image alone. What the model says of it as a whole stands below."


class ResultsSection(Section):
    """Shows the maps of the chosen slide; tells by signals what the user asks for."""

    overlay_chosen = Signal(object)  # Overlay or None
    opacity_chosen = Signal(float)

    def __init__(self) -> None:
        super().__init__("Result")
        self.overlay: Segmented[Overlay] = Segmented(CHOICES)
        self.overlay.chosen.connect(self.overlay_chosen)
        self.kind: Segmented[Overlay] = Segmented(KIND_CHOICES)
        self.kind.chosen.connect(self.overlay_chosen)
        self.opacity = QSlider(Qt.Orientation.Horizontal)
        self.opacity.setRange(0, OPACITY_STEPS)
        self.opacity.valueChanged.connect(lambda v: self.opacity_chosen.emit(v / OPACITY_STEPS))
        self.question = text_label(muted=True)
        self.missing = text_label(muted=True)
        self.bar = ColorBar()
        self.mark = text_label(MARK)
        self.legend = ClassLegend()
        self.readout = text_label(POINT)
        self.how = text_label(muted=True)
        # Room for all its lines from the start: a dock that jumps under the cursor is no help.
        self.readout.setMinimumHeight(6 * self.readout.fontMetrics().height())
        self.readout.setAlignment(Qt.AlignmentFlag.AlignTop)
        row = QHBoxLayout()
        row.addWidget(QLabel("Opacity"))
        row.addWidget(self.opacity, 1)
        self.body.addWidget(self.overlay)
        self.body.addWidget(self.kind)
        self.body.addWidget(self.question)
        self.body.addWidget(self.missing)
        self.body.addWidget(self.bar)
        self.body.addWidget(self.mark)
        self.body.addWidget(self.legend)
        self.body.addLayout(row)
        self.body.addWidget(self.readout)
        self.body.addWidget(self.how)

    def show_state(self, new: State, old: State | None) -> None:
        """Redraw what differs."""
        maps = new.maps
        self.setVisible(maps is not None)
        if maps is None:
            return
        if old is not None and old.maps is None:
            old = None  # hidden until now, so nothing of it was drawn
        if old is None or new.differs(old, "results", "slide", "overlay", "scales"):
            self._show_overlay(maps, new.overlay)
            self._show_bar(new)
            self.how.setText(HOW.format(how=maps.how))
        if old is None or new.differs(old, "results", "slide", "overlay", "scales", "thresholds"):
            self._show_mark(new)
        if old is None or new.differs(old, "results", "slide", "progress", "phase", "scales"):
            self._show_classes(maps)
        if old is None or new.differs(old, "opacities", "overlay"):
            self._show_opacity(new)
        changed = ("readout", "overlay", "results", "slide", "progress", "phase", "scales")
        if old is None or new.differs(old, *changed):
            self._show_readout(maps, new.readout, new.overlay)

    def _show_overlay(self, maps: Maps, overlay: Overlay | None) -> None:
        foreign = overlay in FOREIGN
        self.overlay.set_value(Overlay.OOD if foreign else overlay)
        if foreign:
            self.kind.set_value(overlay)
        self.kind.setVisible(foreign and any(kind in maps.overlays for kind in KINDS))
        for buttons, choices in ((self.overlay, CHOICES), (self.kind, KIND_CHOICES)):
            for choice, _ in choices:
                if choice is not None:
                    buttons.button(choice).setEnabled(choice in maps.overlays)
        self.missing.setText(maps.no_ood)
        self.missing.setVisible(bool(maps.no_ood))
        alone = maps.whole_image and overlay is None
        self.question.setText(IMAGE_ALONE if alone else QUESTIONS[overlay].format(noun=noun(maps)))
        classes = (Overlay.PREDICTION, Overlay.COMBINED)
        self.legend.setVisible(maps.whole_image or overlay in classes)

    def _show_bar(self, state: State) -> None:
        """The colour bar of the visible overlay."""
        overlay = state.overlay
        scale = state.scales.get(overlay) if overlay in RAMPS else None
        self.bar.setVisible(scale is not None)
        if scale is not None and overlay is not None:
            self.bar.set_scale(RAMPS[overlay].table(), scale.low, scale.high, WORDS[overlay])
            assert state.maps is not None
            self.bar.setToolTip(f"Score: {score_and_formula(scale.score, state.maps.card)}")

    def _show_mark(self, state: State) -> None:
        """The mark on the bar: the threshold, wherever the user moves it."""
        overlay = state.overlay
        scored = overlay in RAMPS and overlay in state.scales
        threshold = state.thresholds.get(overlay) if scored and overlay is not None else None
        self.mark.setVisible(threshold is not None)
        self.bar.set_threshold(None if threshold is None else threshold.value)
        if threshold is not None:
            self.mark.setText(MARK.format(words=threshold.words()))

    def _show_classes(self, maps: Maps) -> None:
        if maps.image_probabilities is not None:
            p = maps.image_probabilities.tolist()
            self.legend.show_probabilities(maps.classes, maps.colors, p)
        elif not maps.whole_image:
            self.legend.show_counts(maps.classes, maps.colors, maps.counts().tolist())

    def _show_opacity(self, state: State) -> None:
        self.opacity.setEnabled(state.overlay is not None)
        if state.overlay is not None:
            with signals_blocked(self.opacity):
                self.opacity.setValue(round(state.opacities[state.overlay] * OPACITY_STEPS))

    def _show_readout(self, maps: Maps, readout: Readout | None, overlay: Overlay | None) -> None:
        if maps.whole_image:  # there is one thing to read, wherever the cursor is
            readout = maps.readout(0, 0)
            text = image_text(maps, readout) if readout else ""
        else:
            text = readout_text(readout) if readout else POINT
        self.readout.setText(text)
        self.bar.set_value(readout.value(overlay) if readout and overlay else None)


def readout_text(readout: Readout, kind: str = "tile") -> str:
    """A tile's values in words; ``kind``: what it is compared with."""
    unsure = _than("less sure", readout.uncertainty_share, kind)
    lines = [
        f"{readout.label} {100 * readout.probability:.0f} %",
        f"Uncertainty {readout.uncertainty:.3g}{unsure}",
    ]
    if readout.ood is not None:
        lines.append(f"OOD {readout.ood:.3g}{_than('more foreign', readout.ood_share, kind)}")
    if readout.kinds:
        kinds = " and ".join(kind.value for kind in readout.foreign) or "neither"
        values = ", ".join(f"{kind.value} {value:.3g}" for kind, value in readout.kinds.items())
        lines.append(f"Foreign: {kinds} ({values})")
    return "\n".join(lines)


def image_text(maps: Maps, readout: Readout) -> str:
    """A whole image's values in words, and which part of the image that is."""
    y, x, h, w = maps.grid.region
    text = readout_text(readout, noun(maps))
    if (h, w) == maps.grid.shape:
        return text
    return f"Part of {w:,.0f} × {h:,.0f} px at {x:,.0f}, {y:,.0f}:\n{text}"


def noun(maps: Maps) -> str:
    """What the bundle judges, in words."""
    return "image" if maps.whole_image else "tile"


def _than(word: str, share: float | None, kind: str) -> str:
    if share is None:
        return ""
    return f": {word} than {100 * share:.4g} % of in-distribution {kind}s"
