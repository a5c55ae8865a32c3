"""The part of the review dock where verdicts are given. It knows Qt and the queue's state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, Qt, Signal
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import (
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_ood.review.verdicts import Artefact, Kind
from napari_ood.viewer import review_keys as keys
from napari_ood.viewer.widgets import text_label

if TYPE_CHECKING:
    from napari_ood.review.verdicts import Verdict
    from napari_ood.viewer.review_state import QueueState

HIDE, SHOW = "Hide overlay", "Show overlay"
CLASS_COLUMNS = 2
ARTEFACT_COLUMNS = 3
MAX_CLASS_BUTTONS = 8
"""Classes beyond these are chosen from a list."""


class VerdictPanel(QWidget):
    """Verdict buttons, comment and undo; tells what the user wants by signals."""

    judged = Signal(object, object, object)  # Kind, label or None, Artefact or None
    next_requested = Signal()
    back_requested = Signal()
    undo_requested = Signal()
    overlay_toggled = Signal()
    comment_typed = Signal(str)
    comment_entered = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.title = text_label(bold=True)
        self.back_button = _button("Previous", keys.BACK, self.back_requested.emit)
        self.next_button = _button("Next", keys.NEXT, self.next_requested.emit)
        self.agree = self._verdict("Model is right", keys.AGREE, Kind.AGREE)
        self.unknown = self._verdict("Unknown tissue", keys.UNKNOWN, Kind.UNKNOWN_TISSUE)
        self.skip = self._verdict("Skip", keys.SKIP, Kind.SKIP)
        self.undo = _button("Undo", keys.UNDO, self.undo_requested.emit)
        self.overlay = _button(HIDE, keys.OVERLAY, self.overlay_toggled.emit)
        self.artefacts = {kind: self._artefact(kind) for kind in Artefact}
        self.classes: dict[str, QPushButton] = {}
        self.more = QComboBox()
        self.more.activated.connect(self._choose_more)
        self.comment = CommentLine()
        self.comment.textEdited.connect(self.comment_typed)
        self.comment.entered.connect(self.comment_entered)
        self.notice = text_label(muted=True)
        self._lay_out()

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(5)
        layout.addLayout(_row((self.title, 1), (self.back_button, 0), (self.next_button, 0)))
        layout.addWidget(self.agree)
        self.wrong = QLabel("Wrong class, it is:")
        layout.addWidget(self.wrong)
        self._class_grid = _grid()
        layout.addLayout(self._class_grid)
        layout.addWidget(self.more)
        layout.addWidget(QLabel("Artefact:"))
        artefacts = _grid()
        for i, button in enumerate(self.artefacts.values()):
            artefacts.addWidget(button, *divmod(i, ARTEFACT_COLUMNS))
        layout.addLayout(artefacts)
        layout.addSpacing(4)
        layout.addLayout(_row((self.unknown, 1), (self.skip, 1)))
        layout.addWidget(self.comment)
        layout.addWidget(self.notice)
        layout.addLayout(_row((self.undo, 1), (self.overlay, 1)))

    def _verdict(
        self, title: str, key: str, kind: Kind, label: str | None = None,
        artefact: Artefact | None = None,
    ) -> QPushButton:  # fmt: skip
        button = _button(title, key, lambda: self.judged.emit(kind, label, artefact))
        button.setCheckable(True)
        return button

    def _artefact(self, kind: Artefact) -> QPushButton:
        key = keys.ARTEFACTS[kind.value]
        return self._verdict(kind.value.capitalize(), key, Kind.ARTEFACT, None, kind)

    # ---------------------------------------------------------------- classes

    def set_classes(self, names: Sequence[str]) -> None:
        """Offer these classes, the first of them as buttons."""
        for button in self.classes.values():
            self._class_grid.removeWidget(button)
            button.deleteLater()
        shown = names[:MAX_CLASS_BUTTONS]
        self.classes = {
            name: self._verdict(name, str(i + 1), Kind.WRONG_CLASS, name)
            for i, name in enumerate(shown)
        }
        for i, button in enumerate(self.classes.values()):
            self._class_grid.addWidget(button, *divmod(i, CLASS_COLUMNS))
        self.more.clear()
        self.more.addItems(["Another class…", *names[MAX_CLASS_BUTTONS:]])
        self.more.setVisible(len(names) > MAX_CLASS_BUTTONS)

    def press_class(self, place: int) -> None:
        """Press the button of a class, by key; nothing where there is none or it is disabled."""
        buttons = list(self.classes.values())
        if place < len(buttons):
            press(buttons[place])

    def _choose_more(self, row: int) -> None:
        if row > 0:
            self.judged.emit(Kind.WRONG_CLASS, self.more.itemText(row), None)

    # ---------------------------------------------------------------- state

    def show_state(self, new: QueueState, old: QueueState | None) -> None:
        """Redraw what differs."""
        if new.maps is not None and new.differs(old, "maps"):
            self.set_classes(new.maps.classes)
        if new.differs(old, "found", "current", "matches", "maps"):
            self._show_region(new)
        if new.differs(old, "draft") and self.comment.text() != new.draft:
            self.comment.setText(new.draft)
        if new.differs(old, "notice"):
            self.notice.setText(new.notice)

    def show_overlay(self, shown: bool) -> None:
        """Say what the button about the overlay would do."""
        self.overlay.setText(_title(HIDE if shown else SHOW, keys.OVERLAY))

    def _show_region(self, state: QueueState) -> None:
        region, verdict = state.region, state.verdict
        n = len(state.regions)
        self.title.setText(
            f"Region {(state.current or 0) + 1:,} of {n:,}" if region else "No region chosen"
        )
        self.back_button.setEnabled(region is not None and state.current != 0)
        self.next_button.setEnabled(region is None or state.current != n - 1)
        only = len(self.classes) < 2
        self.wrong.setVisible(not only)
        for name, button in self.classes.items():
            own = region is not None and name == region.label
            button.setEnabled(region is not None and not own)
            button.setToolTip("This is what the model says." if own else "")
            button.setVisible(not only)
        others = (self.agree, self.unknown, self.skip, self.comment, *self.artefacts.values())
        for widget in (*others, self.more):
            widget.setEnabled(region is not None)
        said = f": {region.label}" if region is not None else ""
        self.agree.setText(_title(f"Model is right{said}", keys.AGREE))
        self._show_verdict(verdict)

    def _show_verdict(self, given: Verdict | None) -> None:
        kind, label, artefact = None, None, None
        if given is not None:
            kind, label, artefact = given.kind, given.label, given.artefact
        self.agree.setChecked(kind is Kind.AGREE)
        self.unknown.setChecked(kind is Kind.UNKNOWN_TISSUE)
        self.skip.setChecked(kind is Kind.SKIP)
        for name, button in self.classes.items():
            button.setChecked(kind is Kind.WRONG_CLASS and name == label)
        for which, button in self.artefacts.items():
            button.setChecked(which is artefact)
        row = self.more.findText(label) if kind is Kind.WRONG_CLASS and label else 0
        self.more.setCurrentIndex(max(row, 0))


class CommentLine(QLineEdit):
    """One line of text: Enter keeps it, Escape leaves it."""

    entered = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setPlaceholderText(f"Comment ({keys.COMMENT}); Enter saves it")
        self.setMaxLength(2000)

    def event(self, event: QEvent | None) -> bool:
        """Keep Enter and Escape from shortcuts of napari while the text is edited."""
        if (
            isinstance(event, QKeyEvent)
            and event.type() == QEvent.Type.ShortcutOverride
            and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Escape)
        ):
            event.accept()
            return True
        return bool(super().event(event))

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Enter and Escape end the editing."""
        assert event is not None
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Escape):
            self.clearFocus()
            if event.key() != Qt.Key.Key_Escape:
                self.entered.emit()
            return
        super().keyPressEvent(event)


def press(button: QPushButton) -> None:
    """Do what a click on a button would do; nothing while it is disabled."""
    if button.isEnabled():
        button.click()


def _title(text: str, key: str) -> str:
    return f"{text}  ({key})"


def _button(title: str, key: str, pressed: Callable[[], None]) -> QPushButton:
    button = QPushButton(_title(title, key))
    button.setObjectName(title)
    button.clicked.connect(lambda: pressed())
    # Focus stays where it is: a click must not take it from the canvas or hand it the space bar.
    button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    return button


def _row(*parts: tuple[QWidget, int]) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(4)
    for widget, stretch in parts:
        row.addWidget(widget, stretch)
    return row


def _grid() -> QGridLayout:
    grid = QGridLayout()
    grid.setSpacing(4)
    return grid
