"""Slides of a cohort as a Qt table: ordered and filtered here, 10,000 rows in a few ms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, Qt

from napari_ood.board.row import DONE
from napari_ood.passport import Light

if TYPE_CHECKING:
    from napari_ood.board import SlideRow

Index = QModelIndex | QPersistentModelIndex
Value = float | str | None

BAR_ROLE = Qt.ItemDataRole.UserRole
"""Length of a cell's bar, 0 to 1; None for a cell without one."""
LIGHT_ROLE = Qt.ItemDataRole.UserRole + 1
RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
NOT_KNOWN = "–"


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes
    ----------
    key : stable name
    title, tip : for people
    value : by which rows are ordered; None comes last, whichever way
    text : of a cell
    bar : ``share`` for a bar from 0 to 1, ``relative`` for one up to the largest value, "" for none
    down : whether a first click puts the largest first
    """

    key: str
    title: str
    tip: str
    value: Callable[[SlideRow], Value]
    text: Callable[[SlideRow], str]
    bar: str = ""
    down: bool = False


def _share(key: str, title: str, tip: str) -> Column:
    def value(row: SlideRow) -> float | None:
        found: float | None = getattr(row, key)
        return found

    return Column(key, title, tip, value, lambda row: _percent(value(row)), "share", True)


def _percent(share: float | None) -> str:
    return NOT_KNOWN if share is None else f"{100 * share:.1f} %"


def _known(value: Any, form: str = "") -> str:
    return NOT_KNOWN if value is None else format(value, form)


def _top(row: SlideRow) -> str | None:
    """Class, then share: of one class, those with most of it first."""
    return None if row.top_class is None else f"{row.top_class[0]}\0{1 - row.top_class[1]:.6f}"


def _top_text(row: SlideRow) -> str:
    top = row.top_class
    return NOT_KNOWN if top is None else f"{top[0]} {100 * top[1]:.0f} %"


COLUMNS: tuple[Column, ...] = (
    Column("name", "Slide", "Name of the slide, with the passport's light for its OOD share.",
           lambda row: row.name, lambda row: row.name),
    _share("ood", "OOD", "Tiles above the threshold that keeps 95 % of in-distribution tiles.\n"
                         "5 % is to be expected: the mark in the bar."),
    _share("appearance", "Appearance", "The same for stain, scanner and artefacts."),
    _share("tissue", "Tissue", "The same for tissue that the model does not know."),
    Column("uncertainty", "Uncertainty", "Mean over the slide's tiles.",
           lambda row: row.uncertainty, lambda row: _known(row.uncertainty, ".3f"),
           "relative", True),
    Column("classes", "Mostly", "Class that most tiles are predicted to be.", _top, _top_text),
    Column("scanner", "Scanner", "As the file or the list of slides says.",
           lambda row: row.scanner, lambda row: _known(row.scanner)),
    Column("date", "Scanned", "As the file or the list of slides says.",
           lambda row: row.date, lambda row: _known(row.date and row.date[:10])),
    Column("group", "Group", "As the list of slides says.",
           lambda row: row.group, lambda row: _known(row.group)),
    Column("mm2", "mm²", "Tissue that was run.",
           lambda row: row.mm2, lambda row: _known(row.mm2, ",.1f"), "", True),
    Column("outcome", "Outcome", "What became of the slide in the cohort.",
           lambda row: None if row.outcome == DONE and not row.error else row.outcome,
           lambda row: row.outcome),
)  # fmt: skip


class BoardModel(QAbstractTableModel):
    """Rows of a board in the order and with the filter that the user wants.

    A row's *place* is where it stands on the board; Qt's row is where it is shown.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[SlideRow] = []
        self._texts: list[str] = []
        self._shown: list[int] = []
        self._words: tuple[str, ...] = ()
        self._by, self._down = 1, True
        self._largest: dict[str, float] = {}

    # ---------------------------------------------------------------- what is shown

    @property
    def rows(self) -> Sequence[SlideRow]:
        """All rows, by place."""
        return self._rows

    @property
    def n_shown(self) -> int:
        """Rows that the filter lets through."""
        return len(self._shown)

    @property
    def ordered_by(self) -> tuple[int, bool]:
        """Column by which rows are ordered, and whether the largest come first."""
        return self._by, self._down

    def clear(self) -> None:
        """Show none."""
        self.beginResetModel()
        self._rows, self._texts, self._shown, self._largest = [], [], [], {}
        self.endResetModel()

    def take(self, news: Mapping[int, SlideRow]) -> None:
        """Take rows over, by place; those beyond the end are added, without gaps."""
        if not news:
            return
        for place in sorted(news):
            row = news[place]
            if place < len(self._rows):
                self._rows[place], self._texts[place] = row, _haystack(row)
            else:
                self._rows.append(row)
                self._texts.append(_haystack(row))
        for column in COLUMNS:
            if column.bar == "relative":
                values = [v for row in self._rows if isinstance(v := column.value(row), float)]
                self._largest[column.key] = max(values, default=0.0)
        self._arrange()

    def set_filter(self, text: str) -> None:
        """Show rows in which all words occur: in name, scanner, date, group, class or error."""
        words = tuple(text.lower().split())
        if words != self._words:
            self._words = words
            self._arrange()

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Order the rows by a column; what is not known comes last, whichever way."""
        self._by, self._down = column, order == Qt.SortOrder.DescendingOrder
        self._arrange()

    def has(self, column: int) -> bool:
        """Whether any row has something in a column."""
        value = COLUMNS[column].value
        return any(value(row) is not None for row in self._rows)

    def place_of(self, row: int) -> int:
        """Place of a row that is shown."""
        return self._shown[row]

    def row_of(self, place: int) -> int | None:
        """Where a place is shown; None where the filter hides it."""
        try:
            return self._shown.index(place)
        except ValueError:
            return None

    def _arrange(self) -> None:
        """Filter and order anew; selections stay with their slides."""
        self.layoutAboutToBeChanged.emit()
        before = [(index, self._shown[index.row()]) for index in self.persistentIndexList()]
        value = COLUMNS[self._by].value
        found = [i for i, text in enumerate(self._texts) if all(w in text for w in self._words)]
        keyed = [(value(self._rows[i]), i) for i in found]
        known = [(key, i) for key, i in keyed if key is not None]
        # Stable both ways: equal ones stay in the order of the board.
        known.sort(key=lambda pair: pair[0], reverse=self._down)
        self._shown = [i for _, i in known] + [i for key, i in keyed if key is None]
        at = {place: row for row, place in enumerate(self._shown)} if before else {}
        for index, place in before:
            row = at.get(place)
            new = QModelIndex() if row is None else self.index(row, index.column())
            self.changePersistentIndex(index, new)
        self.layoutChanged.emit()

    # ---------------------------------------------------------------- Qt's questions

    def rowCount(self, parent: Index | None = None) -> int:
        """Number of slides that are shown."""
        return 0 if parent is not None and parent.isValid() else len(self._shown)

    def columnCount(self, parent: Index | None = None) -> int:
        """Number of columns."""
        return 0 if parent is not None and parent.isValid() else len(COLUMNS)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Titles and tips of the columns."""
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return COLUMNS[section].title
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"{COLUMNS[section].tip}\nClick to order by it."
        return LEFT if role == Qt.ItemDataRole.TextAlignmentRole else None

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """What a cell says, and its bar or light."""
        if not index.isValid():
            return None
        row, column = self._rows[self._shown[index.row()]], COLUMNS[index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return column.text(row)
        if role == BAR_ROLE:
            return self._bar(row, column)
        if role == LIGHT_ROLE:
            return Light(row.light) if column.key == "name" else None
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return RIGHT if column.key == "mm2" else LEFT
        if role == Qt.ItemDataRole.ToolTipRole:
            return _tip(row, column)
        return None

    def _bar(self, row: SlideRow, column: Column) -> float | None:
        value = column.value(row) if column.bar else None
        if not isinstance(value, float):
            return None
        top = 1.0 if column.bar == "share" else self._largest.get(column.key, 0.0)
        return min(value / top, 1.0) if top > 0 else 0.0


def _haystack(row: SlideRow) -> str:
    top = row.top_class
    parts = (row.name, row.slide, row.scanner, row.date, row.group, row.outcome, row.error,
             top and top[0])  # fmt: skip
    return "\n".join(part for part in parts if part).lower()


def _tip(row: SlideRow, column: Column) -> str | None:
    if row.error:
        return row.error
    if column.key == "date" and row.date is not None:
        return f"{row.date}, from {row.date_source}"
    if column.key == "uncertainty" and row.uncertainty_95 is not None:
        return f"95 % of tiles below {row.uncertainty_95:.3f}"
    if column.key == "classes" and row.classes:
        return "\n".join(f"{name} {_percent(share)}" for name, share in row.classes)
    if column.key == "name":
        return f"{row.slide}\n{Light(row.light).words}"
    return None
