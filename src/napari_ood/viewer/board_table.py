"""The table of a cohort's slides: how cells are drawn, and what the user goes to."""

from __future__ import annotations

from functools import lru_cache

from qtpy.QtCore import QModelIndex, QPoint, QRect, QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QKeyEvent, QPainter, QPixmap, QRegion
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QFrame,
    QHeaderView,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTableView,
    QWidget,
)

from napari_ood.passport import Light
from napari_ood.viewer.board_model import BAR_ROLE, COLUMNS, LIGHT_ROLE, BoardModel, Index
from napari_ood.viewer.colors import OOD, UNCERTAINTY
from napari_ood.viewer.section_passport import LightIcon

EXPECTED = 0.05
BAR_PX, GAP_PX, PAD_PX = 8, 6, 4
NUMBER = "00.0 %"
LIGHT_PX = 16
WIDTHS = {"name": 170, "classes": 120, "scanner": 130, "group": 90, "date": 88, "mm2": 60,
          "outcome": 84}  # fmt: skip
BAR_COLUMN_PX = 130
OOD_INK, UNCERTAINTY_INK = OOD.stops[2][1], UNCERTAINTY.stops[3][1]
"""From the overlays' ramps, of the part where tiles begin to be flagged."""


@lru_cache(maxsize=8)
def light_icon(light: Light, ratio: float) -> QIcon:
    """A light for a row, drawn as the passport draws it."""
    picture = QPixmap(QSize(LIGHT_PX, LIGHT_PX) * ratio)
    picture.setDevicePixelRatio(ratio)
    picture.fill(Qt.GlobalColor.transparent)
    lamp = LightIcon(LIGHT_PX)
    lamp.show_light(light)
    flags = QWidget.RenderFlag.DrawChildren
    lamp.render(picture, QPoint(), QRegion(), flags)
    icon = QIcon(picture)
    icon.addPixmap(picture, QIcon.Mode.Selected)  # Qt would tint it
    return icon


class CellDelegate(QStyledItemDelegate):
    """Draws a cell: its text, with a light before or a bar behind it."""

    def paint(self, painter: QPainter | None, option: QStyleOptionViewItem, index: Index) -> None:
        """Draw one cell."""
        assert painter is not None
        own = QStyleOptionViewItem(option)
        assert isinstance(index, QModelIndex)
        self.initStyleOption(own, index)
        own.state &= ~QStyle.StateFlag.State_HasFocus  # the row is chosen, not a cell of it
        light, bar = index.data(LIGHT_ROLE), index.data(BAR_ROLE)
        if light is not None:
            own.features |= QStyleOptionViewItem.ViewItemFeature.HasDecoration
            device = painter.device()
            own.icon = light_icon(light, device.devicePixelRatioF() if device else 1.0)
            own.decorationSize = QSize(LIGHT_PX, LIGHT_PX)
        style = own.widget.style() if own.widget is not None else QApplication.style()
        assert style is not None
        style.drawControl(QStyle.ControlElement.CE_ItemViewItem, own, painter, own.widget)
        if bar is not None:
            _draw_bar(painter, own, bar, COLUMNS[index.column()].bar == "share")


def _draw_bar(painter: QPainter, option: QStyleOptionViewItem, length: float, share: bool) -> None:
    left = option.rect.left() + PAD_PX + option.fontMetrics.horizontalAdvance(NUMBER) + GAP_PX
    width = option.rect.right() - PAD_PX - left
    if width < 2 * BAR_PX:
        return
    top = option.rect.center().y() - BAR_PX // 2
    faint = QColor(option.palette.text().color())
    faint.setAlphaF(0.13)
    painter.fillRect(QRect(left, top, width, BAR_PX), faint)
    filled = max(1, round(length * width)) if length > 0 else 0
    painter.fillRect(
        QRect(left, top, filled, BAR_PX), QColor(OOD_INK if share else UNCERTAINTY_INK)
    )
    if share:
        mark = QColor(option.palette.text().color())
        mark.setAlphaF(0.7)
        painter.fillRect(QRect(left + round(EXPECTED * width), top - 2, 1, BAR_PX + 4), mark)


class BoardTable(QTableView):
    """Slides, a row each. Enter or a double-click opens one; arrow keys and a click choose.

    Signals
    -------
    opened(place) : the user wants to see this slide
    chosen(place) : the user has moved to this row
    """

    opened = Signal(int)
    chosen = Signal(int)

    def __init__(self, model: BoardModel) -> None:
        super().__init__()
        self._model = model
        self.setModel(model)
        self.setItemDelegate(CellDelegate(self))
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setShowGrid(False)
        self.setAlternatingRowColors(False)
        self.setWordWrap(False)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setTabKeyNavigation(False)
        header, numbers = self.horizontalHeader(), self.verticalHeader()
        assert header is not None and numbers is not None
        numbers.setVisible(False)
        # Fixed heights and widths: to fit them to contents would measure all rows.
        numbers.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        numbers.setDefaultSectionSize(self.fontMetrics().height() + 9)
        header.setHighlightSections(False)
        header.setSectionsMovable(True)
        for i, column in enumerate(COLUMNS):
            header.resizeSection(i, WIDTHS.get(column.key, BAR_COLUMN_PX))
        header.setSortIndicator(1, Qt.SortOrder.DescendingOrder)
        header.setSortIndicatorShown(True)
        header.setSectionsClickable(True)
        header.sectionClicked.connect(self._order)
        self._header = header
        self.doubleClicked.connect(lambda index: self.opened.emit(model.place_of(index.row())))
        selection = self.selectionModel()
        assert selection is not None
        selection.currentRowChanged.connect(self._on_current)

    def fit_columns(self) -> None:
        """Hide the columns in which no slide has anything."""
        for i, column in enumerate(COLUMNS):
            self.setColumnHidden(i, column.key not in ("name", "ood") and not self._model.has(i))

    def choose(self, place: int) -> None:
        """Go to a slide, where the filter shows it."""
        row = self._model.row_of(place)
        if row is not None:
            self.setCurrentIndex(self._model.index(row, 0))
            self.scrollTo(self._model.index(row, 0))

    @property
    def current(self) -> int | None:
        """Place of the chosen slide."""
        index = self.currentIndex()
        return self._model.place_of(index.row()) if index.isValid() else None

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Enter opens."""
        assert event is not None
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self.current is not None:
            self.opened.emit(self.current)
            return
        super().keyPressEvent(event)

    def _order(self, column: int) -> None:
        """Order by a column: the most interesting first, the other way at the second click."""
        same, way = self._model.ordered_by
        down = not way if column == same else COLUMNS[column].down
        order = Qt.SortOrder.DescendingOrder if down else Qt.SortOrder.AscendingOrder
        self._header.setSortIndicator(column, order)
        self._model.sort(column, order)
        if self.current is not None:
            self.scrollTo(self.currentIndex())

    def _on_current(self, now: QModelIndex, before: QModelIndex) -> None:
        if now.isValid():
            self.chosen.emit(self._model.place_of(now.row()))
