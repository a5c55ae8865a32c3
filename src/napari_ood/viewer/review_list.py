"""The list of regions: a Qt model over the queue's state, and how a row is drawn."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import (
    QAbstractListModel,
    QLineF,
    QModelIndex,
    QPersistentModelIndex,
    QPointF,
    QRect,
    QSize,
    Qt,
    Signal,
)
from qtpy.QtGui import QColor, QFocusEvent, QFont, QImage, QKeyEvent, QPainter, QPen, QPixmap
from qtpy.QtWidgets import (
    QApplication,
    QFrame,
    QListView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
)

from napari_ood.viewer.outline import edges_around
from napari_ood.viewer.thumbnails import Box, Thumbnail, Thumbnails, field_of

if TYPE_CHECKING:
    from napari_ood.analysis.regions import Region
    from napari_ood.viewer.maps import Maps
    from napari_ood.viewer.review_queue import QueueState

Index = QModelIndex | QPersistentModelIndex

PICTURE_PX = 60
"""Side of a picture in the list; it is read at twice that, for screens of high resolution."""
PADDING_PX = 5
MARGIN = 0.35
LEAST_TILES = 3
MAX_PIXMAPS = 600
BATCH_ROWS = 1000
"""Rows that are laid out at once, before the window answers again."""
MUTED = 0.65
SWATCH_PX = 10
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
        return f"{row + 1}  {_prediction(region)}", _measures(region), self.verdict_text(row)

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


class RegionDelegate(QStyledItemDelegate):
    """Draws a row: picture, class, measures, verdict."""

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        """Rows are all equally high."""
        return QSize(200, max(PICTURE_PX, 3 * option.fontMetrics.lineSpacing()) + 2 * PADDING_PX)

    def paint(self, painter: QPainter | None, option: QStyleOptionViewItem, index: Index) -> None:
        """Draw one row."""
        model = index.model()
        assert painter is not None and isinstance(model, RegionModel)
        painter.save()
        self._draw_background(painter, option, index)
        inner = option.rect.adjusted(PADDING_PX, PADDING_PX, -PADDING_PX, -PADDING_PX)
        picture = QRect(inner.left(), inner.top(), PICTURE_PX, PICTURE_PX)
        _draw_square(painter, picture, model.pixmap(index.row()), option.palette.text().color())
        text = inner.adjusted(PICTURE_PX + 2 * PADDING_PX, 0, 0, 0)
        _draw_lines(painter, text, model, index.row(), option)
        painter.restore()

    def _draw_background(
        self, painter: QPainter, option: QStyleOptionViewItem, index: Index
    ) -> None:
        own = QStyleOptionViewItem(option)
        assert isinstance(index, QModelIndex)
        self.initStyleOption(own, index)
        own.text = ""
        style = option.widget.style() if option.widget is not None else QApplication.style()
        assert style is not None
        style.drawControl(QStyle.ControlElement.CE_ItemViewItem, own, painter, option.widget)


def _draw_square(painter: QPainter, rect: QRect, pixmap: QPixmap | None, text: QColor) -> None:
    if pixmap is not None:
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.drawPixmap(rect, pixmap)
        return
    faint = QColor(text)
    faint.setAlphaF(0.12)
    painter.fillRect(rect, faint)


def _draw_lines(
    painter: QPainter, rect: QRect, model: RegionModel, row: int, option: QStyleOptionViewItem
) -> None:
    title, measures, verdict = model.lines(row)
    metrics = option.fontMetrics
    line = metrics.lineSpacing()
    top = rect.top() + max(0, (rect.height() - 3 * line) // 2)
    plain = option.palette.text().color()
    muted = QColor(plain)
    muted.setAlphaF(MUTED)
    bold = QFont(option.font)
    bold.setBold(True)
    swatch = QRect(rect.left(), top + (line - SWATCH_PX) // 2, SWATCH_PX, SWATCH_PX)
    painter.fillRect(swatch, QColor(model.color(row)))
    indent = SWATCH_PX + 6
    mark = "✓ " if model.done(row) else ""
    rows = (
        (indent, bold, plain, title),
        (0, option.font, muted, measures),
        (0, bold if mark else option.font, plain, f"{mark}{verdict}"),
    )
    for i, (left, font, color, text) in enumerate(rows):
        box = rect.adjusted(left, 0, 0, 0)
        box.setTop(top + i * line)
        box.setHeight(line)
        painter.setFont(font)
        painter.setPen(color)
        fitted = painter.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, box.width())
        painter.drawText(box, Qt.AlignmentFlag.AlignVCenter, fitted)


class RegionList(QListView):
    """The regions; tells which one the user clicks on or moves to."""

    chosen = Signal(int)
    MIN_ROWS = 2

    def __init__(self) -> None:
        super().__init__()
        self._state: QueueState | None = None
        self._scroll_due = False
        self.regions = RegionModel()
        self.setModel(self.regions)
        self.setItemDelegate(RegionDelegate(self))
        self.setUniformItemSizes(True)
        self.setLayoutMode(QListView.LayoutMode.Batched)  # tens of thousands of rows take a while
        self.setBatchSize(BATCH_ROWS)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setVerticalScrollMode(QListView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumHeight(self.MIN_ROWS * (PICTURE_PX + 2 * PADDING_PX))
        bar = self.verticalScrollBar()
        assert bar is not None
        bar.rangeChanged.connect(self._scroll_to_current)
        self.clicked.connect(lambda index: self.chosen.emit(index.row()))

    def show_state(self, state: QueueState) -> None:
        """Show the rows of another snapshot and the region at hand."""
        self._state = state
        self.regions.show_state(state)
        viewport = self.viewport()
        assert viewport is not None
        viewport.update()  # telling Qt that all rows changed would lay them all out
        row = self.currentIndex().row()
        wanted = -1 if state.current is None else state.current
        if row != wanted:
            index = self.regions.index(wanted) if wanted >= 0 else QModelIndex()
            self.setCurrentIndex(index)
            self._scroll_due = wanted >= 0
            self._scroll_to_current()

    def _scroll_to_current(self) -> None:
        """Show the region at hand, as soon as its row has been laid out."""
        index = self.currentIndex()
        if self._scroll_due and self.visualRect(index).isValid():
            self._scroll_due = False
            self.scrollTo(index)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Arrow keys choose the row that they go to."""
        before = self.currentIndex().row()
        super().keyPressEvent(event)
        row = self.currentIndex().row()
        if row >= 0 and row != before:
            self.chosen.emit(row)

    def focusInEvent(self, event: QFocusEvent | None) -> None:
        """Choose nothing: Qt would make the first row the current one."""
        super().focusInEvent(event)
        if self._state is not None:
            self.show_state(self._state)


def _nothing() -> None:
    """Wake nobody: no slide has been set yet."""


def _prediction(region: Region) -> str:
    share = f" {100 * region.label_share:.0f} %" if region.label_share < 1 else ""
    return f"{region.label}{share}"


def _measures(region: Region) -> str:
    tiles = f"{region.n_tiles:,} tile{'s' if region.n_tiles > 1 else ''}"
    area = f" · {region.area_mm2:.3g} mm²" if region.area_mm2 is not None else ""
    return f"score {region.peak:.3g} · {tiles}{area}"
