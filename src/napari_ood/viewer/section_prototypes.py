"""The chosen tile beside the tiles of the bundle's reference that are most like it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QVBoxLayout, QWidget

from napari_ood.viewer.picture import Picture
from napari_ood.viewer.widgets import ClassLegend, sentence, text_label

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_ood.explain.prototypes import Prototype
    from napari_ood.viewer.inspector_state import Answer, Neighbours

COLUMNS = 3
FAR = 95.0
"""Percentile of in-distribution tiles beyond which the nearest reference tile is far."""


class PrototypesSection(QWidget):
    """The tile first, then its nearest reference tiles in frames of their classes' colours."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.message = text_label(), text_label()
        self.space = text_label(muted=True)
        self.legend = ClassLegend()
        self.pictures: list[Picture] = []
        self._labels: list[QLabel] = []
        self._grid = QGridLayout()
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(8)
        self._grid.setVerticalSpacing(2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        layout.addWidget(self.message)
        layout.addWidget(self.words)
        layout.addLayout(self._grid)
        layout.addWidget(self.legend)
        layout.addWidget(self.space)

    def show_prototypes(
        self,
        answer: Answer[Neighbours],
        tile: NDArray[np.uint8] | None,
        classes: Sequence[str],
        colors: Sequence[str],
        noun: str = "tile",
    ) -> None:
        """Show the nearest tiles, or why there are none; ``noun`` is what the bundle judges."""
        found = answer.value
        self.message.setText(sentence(answer.words))
        self.message.setVisible(bool(answer.words))
        for widget in (self.words, self.space, self.legend):
            widget.setVisible(found is not None)
        tiles = found.tiles if found is not None else ()
        self._set_n(1 + len(tiles) if tiles else 0)
        if found is None or not tiles:
            return
        self.words.setText(nearest_in_words(tiles).replace("tile", noun))
        self.space.setText(
            f"Below each: its distance in {found.space}; and the share of in-distribution {noun}s "
            "whose nearest neighbour is closer than that."
        )
        self.pictures[0].show_pixels(tile, "no pixels")
        self._labels[0].setText(f"<b>this {noun}</b>")
        for prototype, picture, label in zip(
            tiles, self.pictures[1:], self._labels[1:], strict=True
        ):
            _show(prototype, picture, label, colors[prototype.label], noun)
        present = sorted({p.label for p in tiles})
        self.legend.show_texts(
            [classes[i] for i in present],
            [colors[i] for i in present],
            [f"{sum(p.label == i for p in tiles)} of {len(tiles)}" for i in present],
        )

    def _set_n(self, n: int) -> None:
        while len(self.pictures) > n:
            for widget in (self.pictures.pop(), self._labels.pop()):
                self._grid.removeWidget(widget)
                widget.hide()
                widget.deleteLater()
        while len(self.pictures) < n:
            row, column = divmod(len(self.pictures), COLUMNS)
            picture, label = Picture(), QLabel()
            label.setAlignment(Qt.AlignmentFlag.AlignHCenter)
            self._grid.addWidget(picture, 2 * row, column)
            self._grid.addWidget(label, 2 * row + 1, column)
            self._grid.setColumnStretch(column, 1)
            self.pictures.append(picture)
            self._labels.append(label)


def _show(prototype: Prototype, picture: Picture, label: QLabel, color: str, noun: str) -> None:
    word = f"{prototype.class_name}\n#{prototype.index}"
    picture.show_pixels(prototype.thumbnail, word, color)
    label.setText(f"{prototype.distance:#.3g} · {percent(prototype.percentile)}")
    words = (
        f"{prototype.class_name}, {noun} {prototype.index} of the reference. At distance "
        f"{prototype.distance:.4g}; {percent(prototype.percentile)} of in-distribution {noun}s "
        "have their nearest neighbour closer than that."
    )
    for widget in (picture, label):
        widget.setToolTip(words)
    picture.setAccessibleName(words)


def percent(value: float) -> str:
    """A percentile that never claims more than was counted."""
    if 99.5 <= value < 100:
        return f"{value:.1f} %"
    return f"{value:.0f} %"


def nearest_in_words(tiles: Sequence[Prototype]) -> str:
    """How near the nearest reference tile is, against what is usual."""
    first = tiles[0]
    if first.percentile >= 100:
        return (
            "No in-distribution tile is as far from its nearest neighbour as this one: nothing "
            "the model has learnt from looks like it."
        )
    usual = "far from" if first.percentile > FAR else "as near as usual to"
    return (
        f"It is {usual} what the model has learnt from: {percent(first.percentile)} of "
        "in-distribution tiles have their nearest neighbour closer."
    )
