"""A picture of the canvas with its legend, which napari's own screenshot of the canvas leaves out.

The legend is a widget over the canvas: napari knows no overlay that could mark a threshold on a
colour bar, and has no public way to add one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QImage, QPainter

from napari_ood.errors import ExportError

if TYPE_CHECKING:
    from napari import Viewer
    from qtpy.QtWidgets import QWidget


def canvas_picture(viewer: Viewer, legend: QWidget | None) -> QImage:
    """The canvas in the screen's resolution, with the legend where it is on screen if it is."""
    pixels = np.ascontiguousarray(viewer.screenshot(canvas_only=True, flash=False))
    h, w = pixels.shape[:2]
    picture = QImage(pixels.tobytes(), w, h, 4 * w, QImage.Format.Format_RGBA8888).copy()
    if legend is None or not legend.isVisible():
        return picture
    ratio = w / viewer.canvas.size[1]
    drawn = QImage(legend.size() * ratio, QImage.Format.Format_ARGB32_Premultiplied)
    drawn.setDevicePixelRatio(ratio)
    drawn.fill(Qt.GlobalColor.transparent)
    legend.render(drawn)
    painter = QPainter(picture)
    # The canvas ends where its parent ends, so the distance from the lower left corner holds.
    parent = legend.parentWidget()
    below = parent.height() - legend.y() if parent is not None else legend.height()
    painter.drawImage(QPoint(round(legend.x() * ratio), h - round(below * ratio)), _plain(drawn))
    painter.end()
    return picture


def _plain(image: QImage) -> QImage:
    """The same pixels, drawn one to one."""
    image.setDevicePixelRatio(1.0)
    return image


def save_picture(viewer: Viewer, legend: QWidget | None, path: Path) -> None:
    """Write it in the format that the name asks for; PNG for a name without an ending.

    Raises
    ------
    ExportError
        If the file cannot be written.
    """
    path = path if path.suffix else path.with_suffix(".png")
    if not canvas_picture(viewer, legend).save(str(path)):
        raise ExportError(f"cannot write {path}: choose another folder, or end its name in .png")
