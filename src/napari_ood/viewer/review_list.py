"""The list of regions: how a row is drawn, and which one the user goes to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QModelIndex, QRect, QSize, Qt, Signal
from qtpy.QtGui import QColor, QFocusEvent, QFont, QKeyEvent, QPainter, QPixmap
from qtpy.QtWidgets import (
    QApplication,
    QFrame,
    QListView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
)

from napari_ood.viewer.region_model import Index, RegionModel

if TYPE_CHECKING:
    from napari_ood.viewer.review_state import QueueState

PICTURE_PX = 60
"""Side of a picture in the list; it is read at twice that, for screens of high resolution."""
PADDING_PX = 5
BATCH_ROWS = 1000
"""Rows that are laid out at once, before the window answers again."""
MUTED = 0.65
SWATCH_PX = 10


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
