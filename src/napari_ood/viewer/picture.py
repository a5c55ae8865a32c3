"""A square picture of a tile, with a map over it. Knows Qt, nothing of sessions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QColor, QFont, QImage, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

RGB = NDArray[np.uint8]
FRAME_PX = 3
EMPTY_ALPHA = 26


class Picture(QWidget):
    """A picture in a frame of one colour; without pixels, a word in their place.

    Parameters
    ----------
    side : of the square in pixels; by default as wide as there is room
    """

    def __init__(self, side: int | None = None) -> None:
        super().__init__()
        self._image: QImage | None = None
        self._word = ""
        self._color: str | None = None
        self._side = side
        if side is not None:
            self.setFixedSize(QSize(side, side))
        else:
            policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
            policy.setHeightForWidth(True)
            self.setSizePolicy(policy)

    def sizeHint(self) -> QSize:
        """Return a square."""
        side = self._side or 60
        return QSize(side, side)

    def hasHeightForWidth(self) -> bool:
        """Whether it grows with the dock."""
        return self._side is None

    def heightForWidth(self, width: int) -> int:
        """As high as wide."""
        return width

    def show_pixels(self, pixels: RGB | None, word: str = "", color: str | None = None) -> None:
        """Show (h, w, 3) uint8, or a word where there are none, in a frame of a colour."""
        self._image = None if pixels is None else to_image(pixels)
        self._word, self._color = word, color
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw frame and picture, or the word."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        side = min(self.width(), self.height())
        box = QRectF(0, 0, side, side)
        if self._color is not None:
            painter.fillRect(box, QColor(self._color))
            box = box.adjusted(FRAME_PX, FRAME_PX, -FRAME_PX, -FRAME_PX)
        if self._image is not None:
            painter.drawImage(box, self._image)
        else:
            self._draw_word(painter, box)
        painter.end()

    def _draw_word(self, painter: QPainter, box: QRectF) -> None:
        painter.fillRect(box, self.palette().window())
        ink = self.palette().windowText().color()
        wash = QColor(ink)
        wash.setAlpha(EMPTY_ALPHA)
        painter.fillRect(box, wash)
        font = QFont(self.font())
        font.setPointSizeF(font.pointSizeF() * 0.85)
        painter.setFont(font)
        painter.setPen(QPen(ink))
        flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
        painter.drawText(box.adjusted(2, 2, -2, -2), flags, self._word)


def to_image(pixels: RGB) -> QImage:
    """(h, w, 3) uint8 as an image of Qt's."""
    pixels = np.ascontiguousarray(pixels)
    height, width = pixels.shape[:2]
    kind = QImage.Format.Format_RGB888
    # copy(): QImage does not keep the numpy buffer alive.
    return QImage(pixels.tobytes(), width, height, 3 * width, kind).copy()


def lay_over(
    pixels: RGB,
    values: NDArray[np.floating],
    table: NDArray[np.float32],
    limits: tuple[float, float],
) -> RGB:
    """Draw a map in colours over a picture of the same size.

    Parameters
    ----------
    pixels : [h, w, 3] uint8
    values : [h, w]; NaN draws nothing
    table : [n, 4] RGBA, 0 to 1
    limits : values at the ends of the table

    Returns
    -------
    [h, w, 3] uint8
    """
    low, high = limits
    share = np.clip((values - low) / (high - low), 0.0, 1.0)
    rgba = table[np.nan_to_num(share * (len(table) - 1)).round().astype(np.int64)]
    alpha = np.where(np.isnan(values), 0.0, rgba[..., 3])[..., None]
    mixed = rgba[..., :3] * 255 * alpha + pixels * (1 - alpha)
    return np.asarray(mixed.round().clip(0, 255), np.uint8)
