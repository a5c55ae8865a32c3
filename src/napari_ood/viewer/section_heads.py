"""What each head says of the chosen tile, as small multiples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QFont, QHelpEvent, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QCheckBox, QSizePolicy, QToolTip, QVBoxLayout, QWidget
from superqt.utils import signals_blocked

from napari_ood.viewer.widgets import ClassLegend, sentence, text_label

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_ood.explain.heads import HeadsAtTile
    from napari_ood.viewer.inspector_state import Answer

BARS_PX = 56
GAP_PX = 6
MOST_COLUMNS = 6
DISSENT = "≠"
MEAN = "mean"
FAINT_ALPHA = 40


class HeadBars(QWidget):
    """One little bar chart per head, in the classes' colours; the mean comes first.

    A head that would have said another class has a frame and a sign.
    """

    def __init__(self) -> None:
        super().__init__()
        self._heads: HeadsAtTile | None = None
        self._classes: tuple[str, ...] = ()
        self._colors: tuple[str, ...] = ()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_heads(self, heads: HeadsAtTile, classes: Sequence[str], colors: Sequence[str]) -> None:
        """Show the heads of one tile."""
        self._heads, self._classes, self._colors = heads, tuple(classes), tuple(colors)
        self.setAccessibleName(heads_in_words(heads, classes))
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        """As many rows of charts as it takes."""
        rows = math.ceil(self._n_charts / MOST_COLUMNS)
        return QSize(200, max(1, rows) * (self._row_height + GAP_PX))

    minimumSizeHint = sizeHint

    @property
    def _n_charts(self) -> int:
        return 1 + (self._heads.n_heads if self._heads is not None else 0)

    @property
    def _row_height(self) -> int:
        return BARS_PX + self.fontMetrics().height() + 2

    def _chart(self, i: int) -> QRectF:
        columns = min(MOST_COLUMNS, self._n_charts)
        width = (self.width() - GAP_PX * (columns - 1)) / columns
        row, column = divmod(i, columns)
        return QRectF(column * (width + GAP_PX), row * (self._row_height + GAP_PX), width, BARS_PX)

    def event(self, event: QEvent | None) -> bool:
        """Name the probabilities of the head under the cursor."""
        if isinstance(event, QHelpEvent) and self._heads is not None:
            for i in range(self._n_charts):
                if self._chart(i).contains(event.pos().toPointF()):
                    QToolTip.showText(event.globalPos(), self._words_of(i), self)
                    return True
        return bool(super().event(event))

    def _words_of(self, i: int) -> str:
        assert self._heads is not None
        p = self._heads.mean if i == 0 else self._heads.probabilities[i - 1]
        lines = [f"{100 * p[c]:.0f} % {self._classes[c]}" for c in p.argsort()[::-1][:8]]
        return "\n".join([f"Head {i}" if i else "Mean of all heads", *lines])

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw all charts."""
        if self._heads is None:
            return
        painter = QPainter(self)
        dissenters = set(self._heads.dissenters)
        self._draw_chart(painter, self._chart(0), self._heads.mean, MEAN, True, False)
        for m, p in enumerate(self._heads.probabilities):
            dissents = m in dissenters
            label = f"{m + 1} {DISSENT}" if dissents else f"{m + 1}"
            self._draw_chart(painter, self._chart(m + 1), p, label, False, dissents)
        painter.end()

    def _draw_chart(
        self,
        painter: QPainter,
        box: QRectF,
        p: NDArray[np.float32],
        label: str,
        bold: bool,
        mark: bool,
    ) -> None:
        ink = self.palette().windowText().color()
        faint = QColor(ink)
        faint.setAlpha(FAINT_ALPHA)
        painter.fillRect(box, faint)
        width = box.width() / len(p)
        for c, value in enumerate(p):
            height = box.height() * min(max(float(value), 0.0), 1.0)
            inset = min(1.0, width / 8)
            bar = QRectF(
                box.left() + c * width + inset, box.bottom() - height, width - 2 * inset, height
            )
            painter.fillRect(bar, QColor(self._colors[c]))
        painter.setPen(QPen(ink, 2 if mark else 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        if mark:
            painter.drawRect(box.adjusted(1, 1, -1, -1))
        font = QFont(self.font())
        font.setBold(bold or mark)
        painter.setFont(font)
        line = QRectF(box.left(), box.bottom() + 2, box.width(), self.fontMetrics().height())
        painter.drawText(line, Qt.AlignmentFlag.AlignCenter, label)


class HeadsSection(QWidget):
    """Small multiples, what they come to, and a layer of how many heads dissent.

    Signals
    -------
    layer_asked(on) : whether dissenting heads shall be seen on the slide
    """

    layer_asked = Signal(bool)

    def __init__(self) -> None:
        super().__init__()
        self.bars, self.words, self.message = HeadBars(), text_label(), text_label()
        self.legend = ClassLegend()
        self.numbers = text_label()
        self.numbers.setToolTip(
            "Entropy of the mean: how unsure all heads are together. Mutual information: the part\n"
            "of it that is disagreement between heads; the rest each of them has by itself."
        )
        self.layer = QCheckBox("Dissenting heads on the slide")
        self.layer.setToolTip(
            "Let the overlay Uncertainty show how many heads would have said another class"
        )
        self.layer.toggled.connect(self.layer_asked)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        for widget in (
            self.message, self.words, self.bars, self.legend, self.numbers, self.layer,
        ):  # fmt: skip
            layout.addWidget(widget)

    def show_heads(
        self, answer: Answer[HeadsAtTile], classes: Sequence[str], colors: Sequence[str]
    ) -> None:
        """Show the answer for one tile, or why there is none."""
        heads = answer.value
        self.message.setText(sentence(answer.words))
        self.message.setVisible(bool(answer.words))
        for widget in (self.bars, self.words, self.legend, self.numbers):
            widget.setVisible(heads is not None)
        if heads is None:
            return
        self.bars.show_heads(heads, classes, colors)
        self.words.setText(heads_in_words(heads, classes))
        self.legend.show_probabilities(classes, colors, heads.mean.tolist())
        self.numbers.setText(
            f"Entropy {heads.entropy:.2f} of at most {math.log(len(classes)):.2f} nats, "
            f"{_shared(heads)}; mutual information {heads.mutual_information:.3f} nats"
        )

    def show_layer(self, on: bool, possible: bool) -> None:
        """Say whether dissenting heads are on the slide, and whether they can be."""
        with signals_blocked(self.layer):
            self.layer.setChecked(on)
        self.layer.setVisible(possible)


def _shared(heads: HeadsAtTile) -> str:
    if heads.entropy <= 0:
        return "none of it disagreement"
    return f"{100 * heads.mutual_information / heads.entropy:.0f} % of it disagreement"


def heads_in_words(heads: HeadsAtTile, classes: Sequence[str]) -> str:
    """Which heads dissent, and what they say instead."""
    m = heads.n_heads
    if m == 1:
        return "This bundle has one head: there is nobody to dissent."
    if not heads.dissenters:
        return f"All {m} heads say {classes[heads.prediction]}."
    said = [
        f"head {i + 1} says {classes[int(heads.probabilities[i].argmax())]}"
        for i in heads.dissenters
    ]
    n = len(said)
    return f"{n} of {m} heads dissent{'s' if n == 1 else ''}: {', '.join(said)}."
