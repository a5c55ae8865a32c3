"""Regions as a Qt model: what a row says, and its picture."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractListModel, QLineF, QModelIndex, QPersistentModelIndex, QPointF, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPen, QPixmap

from napari_ood.viewer.outline import edges_around
from napari_ood.viewer.thumbnails import Box, Thumbnail, Thumbnails, field_of

if TYPE_CHECKING:
    from napari_ood.analysis.regions import Region
    from napari_ood.viewer.maps import Maps
    from napari_ood.viewer.review_state import QueueState

Index = QModelIndex | QPersistentModelIndex

MARGIN = 0.35
LEAST_TILES = 3
MAX_PIXMAPS = 600
PLACEHOLDER = "#808080"


class RegionModel(QAbstractListModel):
    """Rows are the queue's regions; pictures come as they are read."""

    def __init__(self) -> None:
        super().__init__()
        self._state: QueueState | None = None
        self._regions: tuple[Region, ...] = ()
        self._rows: Mapping[str, int] = {}
        self._thumbnails: Thumbnails | None = None
        self._wake: Callable[[], None] = _nothing
        self._pixmaps: OrderedDict[str, QPixmap] = OrderedDict()

    # ---------------------------------------------------------------- what is shown

    def show_state(self, state: QueueState) -> None:
        """Show another snapshot; rows are rebuilt only when the regions differ."""
        self._state = state
        if state.regions is not self._regions:
            self.beginResetModel()
            self._regions = state.regions
            self._rows = state.found.places if state.found is not None else {}
            self._pixmaps.clear()
            self.endResetModel()

    def set_thumbnails(self, thumbnails: Thumbnails | None, wake: Callable[[], None]) -> None:
        """Take pictures from here, None for none; ``wake`` is called when one is to be read."""
        self._thumbnails, self._wake = thumbnails, wake
        self._pixmaps.clear()

    def take_pictures(self) -> None:
        """Redraw the rows whose pictures have been read."""
        for key in self._thumbnails.take_new() if self._thumbnails is not None else ():
            row = self._rows.get(key)
            if row is not None:
                self.dataChanged.emit(self.index(row), self.index(row))

    # ---------------------------------------------------------------- Qt's questions

    def rowCount(self, parent: Index | None = None) -> int:
        """Number of regions."""
        return 0 if parent is not None and parent.isValid() else len(self._regions)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """The text of a row, for screen readers and tooltips; drawing asks for more."""
        if not index.isValid() or self._state is None:
            return None
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole):
            return ", ".join(self.lines(index.row()))
        if role == Qt.ItemDataRole.ToolTipRole:
            verdict = self._state.verdict_on(self._regions[index.row()])
            return verdict.comment or None if verdict is not None else None
        return None

    # ---------------------------------------------------------------- what a row says

    def lines(self, row: int) -> tuple[str, str, str]:
        """Title, measures and verdict of a row."""
        region = self._regions[row]
        places = self._state.places if self._state is not None else None
        measures = _measures(region, "score" if places is None else places.measure)
        return f"{row + 1}  {_prediction(region)}", measures, self.verdict_text(row)

    def verdict_text(self, row: int) -> str:
        """What this reviewer has said; empty when nothing."""
        region = self._regions[row]
        verdict = self._state.verdict_on(region) if self._state is not None else None
        if verdict is None or self._state is None:
            return ""
        text = f"{verdict.category}" + (" …" if verdict.comment else "")
        return text if self._state.done(region) else f"{text}, but has grown: look again"

    def done(self, row: int) -> bool:
        """Whether a row is judged."""
        return self._state is not None and self._state.done(self._regions[row])

    def color(self, row: int) -> str:
        """Colour of the class that is predicted."""
        maps = self._state.maps if self._state is not None else None
        label = self._regions[row].label
        return maps.colors[maps.classes.index(label)] if maps is not None else PLACEHOLDER

    def pixmap(self, row: int) -> QPixmap | None:
        """The picture of a row, asking for it when it has not been read."""
        maps = self._state.maps if self._state is not None else None
        if self._thumbnails is None or maps is None:
            return None
        region = self._regions[row]
        if region.key in self._pixmaps:
            self._pixmaps.move_to_end(region.key)
            return self._pixmaps[region.key]
        thumbnail = self._thumbnails.get(region.key, picture_field(region, maps))
        if thumbnail is None:
            self._wake()
        if thumbnail is None or thumbnail.pixels is None:
            return None
        pixmap = self._pixmaps[region.key] = draw_picture(thumbnail, region, maps)
        while len(self._pixmaps) > MAX_PIXMAPS:
            self._pixmaps.popitem(last=False)
        return pixmap


def picture_field(region: Region, maps: Maps) -> Box:
    """Which part of the slide is shown of a region."""
    return field_of(region.box, MARGIN, LEAST_TILES * max(maps.grid.tile_size))


def draw_picture(thumbnail: Thumbnail, region: Region, maps: Maps) -> QPixmap:
    """The picture with the region's outline, dark with a light core."""
    assert thumbnail.pixels is not None
    px = thumbnail.pixels.shape[0]
    image = QImage(thumbnail.pixels.tobytes(), px, px, 3 * px, QImage.Format.Format_RGB888)
    pixmap = QPixmap.fromImage(image)
    grid = maps.grid
    y, x, side, _ = thumbnail.field
    edges = edges_around(region.cells)
    for axis, origin in enumerate((y, x)):
        # The edge of a cell in level-0 pixels: cells lie centred on their tiles.
        middle = grid.region[axis] + grid.tile_size[axis] / 2
        edges[:, :, axis] = (edges[:, :, axis] * grid.pitch[axis] + middle - origin) * px / side
    lines = [QLineF(QPointF(x0, y0), QPointF(x1, y1)) for (y0, x0), (y1, x1) in edges.tolist()]
    painter = QPainter(pixmap)
    for color, width in (("#000000", 2.6), ("#ffffff", 1.2)):
        painter.setPen(QPen(QColor(color), width, cap=Qt.PenCapStyle.SquareCap))
        for line in lines:
            painter.drawLine(line)
    painter.end()
    return pixmap


def _nothing() -> None:
    """Wake nobody: no slide has been set yet."""


def _prediction(region: Region) -> str:
    share = f" {100 * region.label_share:.0f} %" if region.label_share < 1 else ""
    return f"{region.label}{share}"


def _measures(region: Region, measure: str) -> str:
    tiles = f"{region.n_tiles:,} tile{'s' if region.n_tiles > 1 else ''}"
    area = f" · {region.area_mm2:.3g} mm²" if region.area_mm2 is not None else ""
    return f"{measure} {region.peak:.3g} · {tiles}{area}"
