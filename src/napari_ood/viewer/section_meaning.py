"""What the threshold of the shown score means, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QHBoxLayout
from superqt.utils import signals_blocked

from napari_ood.scores.thresholds import DEFAULT_KEEP, Meaning, Threshold
from napari_ood.viewer.risk_plot import RiskPlot
from napari_ood.viewer.widgets import ClassLegend, Section, text_label

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_ood.analysis import HeldOut
    from napari_ood.analysis.summary import Summary
    from napari_ood.viewer.figure import Figure
    from napari_ood.viewer.scales import Scale


@dataclass(frozen=True)
class Choice:
    """A meaning in the list: its words, and what is asked for first (a share, or None)."""

    meaning: Meaning
    title: str
    start: float | None


CHOICES = (
    Choice(Meaning.KEEP, "Keep in-distribution", DEFAULT_KEEP),
    Choice(Meaning.RISK, "Errors among kept", 0.05),
    Choice(Meaning.COVERAGE, "Keep of this slide", 0.9),
    Choice(Meaning.VALUE, "Plain value", None),
)
SPIN_BOX_PX = 118
"""Room for ``100.0 %`` between the two buttons that napari's theme gives a spin box."""
NO_CURVE = "No curve of errors: the bundle has no labelled held-out tiles at hand."


class MeaningSection(Section):
    """Chooses the meaning of a threshold; shows the risk-coverage curve and the classes.

    Signals
    -------
    asked(meaning, parameter) : a share for all but ``Meaning.VALUE``, there the value
    """

    asked = Signal(object, float)

    def __init__(self) -> None:
        super().__init__("Meaning")
        self.combo = QComboBox()
        self.combo.addItems([choice.title for choice in CHOICES])
        self.combo.activated.connect(self._on_meaning)
        self.share = spin_box(0.0, 100.0, 1, " %")
        self.value = spin_box(-1e9, 1e9, 4, "")
        self.share.valueChanged.connect(lambda v: self.asked.emit(self.meaning, v / 100))
        self.value.valueChanged.connect(lambda v: self.asked.emit(Meaning.VALUE, v))
        self._at: float | None = None
        self.problem = text_label()
        self.equals = text_label()
        self.plot = RiskPlot()
        self.no_curve = text_label(NO_CURVE, muted=True)
        self.classes_title = text_label("Deferred per predicted class")
        self.classes = ClassLegend()
        row = QHBoxLayout()
        row.addWidget(self.combo, 1)
        row.addWidget(self.share)
        row.addWidget(self.value)
        self.body.addLayout(row)
        for widget in (self.problem, self.equals, self.plot, self.no_curve):
            self.body.addWidget(widget)
        self.body.addWidget(self.classes_title)
        self.body.addWidget(self.classes)
        self.problem.hide()

    @property
    def meaning(self) -> Meaning:
        """The meaning that the list shows."""
        return CHOICES[self.combo.currentIndex()].meaning

    def _on_meaning(self, row: int) -> None:
        start = CHOICES[row].start
        self._show_fields()
        if start is None:
            # The field rounds: only the exact value leaves all tiles where they are.
            self.asked.emit(Meaning.VALUE, self.value.value() if self._at is None else self._at)
        else:
            with signals_blocked(self.share):
                self.share.setValue(100 * start)
            self.asked.emit(self.meaning, start)

    def _show_fields(self) -> None:
        plain = self.meaning is Meaning.VALUE
        self.share.setVisible(not plain)
        self.value.setVisible(plain)

    def show_threshold(self, title: str, scale: Scale, threshold: Threshold | None) -> None:
        """Show what the threshold means; a problem that was told is over."""
        self.heading.setText(f"Meaning of the threshold: {title}")
        self.problem.hide()
        self._at = None if threshold is None else threshold.value
        with signals_blocked(self.combo), signals_blocked(self.share), signals_blocked(self.value):
            meaning = threshold.meaning if threshold is not None else Meaning.VALUE
            self.combo.setCurrentIndex([c.meaning for c in CHOICES].index(meaning))
            self.value.setSingleStep((scale.high - scale.low) / 100)
            if threshold is not None:
                self.value.setValue(threshold.value)
                if threshold.parameter is not None:
                    self.share.setValue(100 * threshold.parameter)
        self._show_fields()

    def show_problem(self, text: str) -> None:
        """Say why what was asked for cannot be; the threshold stays where it was."""
        self.problem.setText(f"{text[:1].upper()}{text[1:]}.")
        self.problem.show()

    def show_curve(self, figure: Figure | None) -> None:
        """Show the risk-coverage curve."""
        curve = figure.curve if figure is not None else None
        self.plot.setVisible(curve is not None)
        self.no_curve.setVisible(figure is not None and curve is None)
        self.plot.set_curve(curve)

    def show_effect(
        self,
        threshold: Threshold | None,
        summary: Summary | None,
        held_out: HeldOut | None,
        colors: Sequence[str],
    ) -> None:
        """Show what the threshold does to slide and held-out tiles."""
        point = None
        if held_out is not None and held_out.risk is not None:
            point = (held_out.coverage, held_out.risk)
        target = None
        if threshold is not None and threshold.meaning is Meaning.RISK:
            target = threshold.parameter
        self.plot.set_point(point, target)
        self.equals.setText(effect_text(summary, held_out))
        self.equals.setVisible(bool(self.equals.text()))
        self.classes.setVisible(summary is not None and summary.n_tiles > 0)
        self.classes_title.setVisible(self.classes.isVisibleTo(self))
        if summary is not None:
            texts = [_of_class(c.n_flagged, c.n_tiles) for c in summary.per_class]
            self.classes.show_texts([c.label for c in summary.per_class], colors, texts)


def effect_text(summary: Summary | None, held_out: HeldOut | None) -> str:
    """What a threshold keeps, of the slide and of held-out tiles, and the errors that remain."""
    parts = []
    if summary is not None and summary.n_tiles:
        parts.append(f"Keeps {100 * summary.coverage:.4g} % of this slide")
        if summary.n_unscored:
            parts.append(f"{summary.n_unscored:,} tiles have no score")
    if held_out is not None:
        parts.append(f"{100 * held_out.coverage:.4g} % of in-distribution held-out tiles")
        if held_out.risk is not None:
            parts.append(f"{100 * held_out.risk:.3g} % of those kept are wrong")
    return "; ".join(parts) + "." if parts else ""


def _of_class(n_flagged: int, n_tiles: int) -> str:
    share = f" · {100 * n_flagged / n_tiles:.0f} %" if n_tiles else ""
    return f"{n_flagged:,} of {n_tiles:,}{share}"


def spin_box(low: float, high: float, decimals: int, suffix: str) -> QDoubleSpinBox:
    """A field for a number that tells what was entered, not what is being typed."""
    box = QDoubleSpinBox()
    box.setRange(low, high)
    box.setDecimals(decimals)
    box.setSuffix(suffix)
    box.setMinimumWidth(SPIN_BOX_PX)
    box.setKeyboardTracking(False)
    return box
