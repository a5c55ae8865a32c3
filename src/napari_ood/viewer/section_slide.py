"""The dock's section about the slide: what it is, its mpp, its associated images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtGui import QAction
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QMenu,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import signals_blocked

from napari_ood.viewer.checks import parse_mpp
from napari_ood.viewer.preference import opens_slides, set_opens_slides
from napari_ood.viewer.widgets import Section, breakable, text_label

if TYPE_CHECKING:
    from napari_ood.slides import Slide
    from napari_ood.viewer.state import State

EMPTY = (
    "No slide is open. Drag one into the window, or open one here. "
    "The sample slide is made by a program and has foreign regions to find."
)
MOVED = "The slide of this run was not found where it was. Say where it is now:"
UNTOLD = ("unknown", "generic")
MPP_MISSING = "This slide does not say how large its pixels are: distances are in pixels."


class SlideSection(Section):
    """Shows the chosen slide; tells by signals what the user asks for."""

    open_requested = Signal(object)  # Path
    sample_requested = Signal()
    chosen = Signal(object)  # Slide
    mpp_entered = Signal(float)
    associated_requested = Signal(str)
    located = Signal(object)  # Path

    def __init__(self) -> None:
        super().__init__("Slide")
        self._slides: tuple[Slide, ...] = ()
        self.combo = QComboBox()
        self.combo.activated.connect(lambda i: self.chosen.emit(self._slides[i]))
        self.facts = text_label()
        self.warning = text_label(muted=True)
        for widget in (self.combo, self.facts, self.warning):
            self.body.addWidget(widget)
        self.body.addWidget(self._make_mpp_row())
        self.body.addWidget(self._make_empty_row())
        self.locate_button = QPushButton("Locate the slide…")
        self.locate_button.clicked.connect(self._locate)
        self.associated_button = QPushButton("Associated images…")
        self.associated_button.setToolTip(
            "Label, macro and thumbnail of the slide. They open only when asked for: "
            "a label can show patient data."
        )
        self.associated_menu = QMenu(self.associated_button)
        self.associated_button.setMenu(self.associated_menu)
        self.body.addWidget(self.locate_button)
        self.body.addWidget(self.associated_button)

    def _make_mpp_row(self) -> QWidget:
        self.mpp_row = QWidget()
        self.mpp_edit = QLineEdit()
        self.mpp_edit.setPlaceholderText("µm per pixel, such as 0.25")
        self.mpp_button = QPushButton("Set")
        self.mpp_edit.returnPressed.connect(self._enter_mpp)
        self.mpp_button.clicked.connect(self._enter_mpp)
        row = QHBoxLayout(self.mpp_row)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.mpp_edit, 1)
        row.addWidget(self.mpp_button)
        return self.mpp_row

    def _make_empty_row(self) -> QWidget:
        self.empty_row = QWidget()
        self.open_button = QPushButton("Open a slide…")
        self.sample_button = QPushButton("Open the sample slide")
        self.open_button.clicked.connect(self._open)
        self.sample_button.clicked.connect(self.sample_requested)
        self.prefer_box = QCheckBox("Open slide files with napari-ood, do not ask")
        self.prefer_box.setToolTip(
            "svs, ndpi, mrxs, scn, bif, vms and runs. Can be changed in Preferences > Plugins."
        )
        self.prefer_box.setChecked(opens_slides())
        self.prefer_box.clicked.connect(set_opens_slides)
        column, row = QVBoxLayout(self.empty_row), QHBoxLayout()
        column.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.open_button, 1)
        row.addWidget(self.sample_button, 1)
        column.addLayout(row)
        column.addWidget(self.prefer_box)
        return self.empty_row

    # ---------------------------------------------------------------- view of the state

    def show_state(self, new: State, old: State | None) -> None:
        """Redraw what differs."""
        if old is not None and not new.differs(old, "slide", "slides", "results", "bundle"):
            return
        slide = new.slide
        moved = slide is None and new.maps is not None
        self._show_choice(new)
        self.empty_row.setVisible(slide is None and not moved)
        self.locate_button.setVisible(moved)
        scaled = new.bundle is None or new.bundle.card.mpp is not None
        self.mpp_row.setVisible(slide is not None and slide.mpp is None and scaled)
        self.facts.setText(describe(slide) if slide else (MOVED if moved else EMPTY))
        warning = "\n".join(warnings_of(slide, scaled)) if slide else ""
        self.warning.setText(warning)
        self.warning.setVisible(bool(warning))
        self._show_associated(slide)

    def _show_choice(self, state: State) -> None:
        self._slides = state.slides
        with signals_blocked(self.combo):
            self.combo.clear()
            self.combo.addItems([s.name for s in state.slides])
            index = next((i for i, s in enumerate(state.slides) if s is state.slide), -1)
            self.combo.setCurrentIndex(index)
        self.combo.setVisible(len(state.slides) > 1)

    def _show_associated(self, slide: Slide | None) -> None:
        names = sorted(slide.associated) if slide else []
        self.associated_menu.clear()
        for name in names:
            action = QAction(name, self.associated_menu)
            self.associated_menu.addAction(action)
            action.triggered.connect(lambda _=False, n=name: self.associated_requested.emit(n))
        self.associated_button.setVisible(bool(names))

    # ---------------------------------------------------------------- what the user does

    def _open(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open a slide")
        if path:
            self.open_requested.emit(Path(path))

    def _locate(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Locate the slide of this run")
        if path:
            self.located.emit(Path(path))

    def _enter_mpp(self) -> None:
        try:
            self.mpp_entered.emit(parse_mpp(self.mpp_edit.text()))
        except ValueError as error:
            self.warning.setText(str(error))
            self.warning.setVisible(True)


def describe(slide: Slide) -> str:
    """Name, size, mpp and scanner of a slide, in three lines."""
    height, width = slide.shape
    lines = [breakable(slide.name), f"{width:,} × {height:,} px"]
    if slide.mpp:
        y, x = slide.mpp
        lines[1] += f" · {width * x / 1e3:.1f} × {height * y / 1e3:.1f} mm"
        oblong = abs(y - x) > 1e-3 * x
        lines.append(f"{x:.4g} × {y:.4g} µm/px" if oblong else f"{x:.4g} µm/px")
    else:
        lines.append("µm/px unknown")
    if slide.objective:
        lines[2] += f" · {slide.objective:g}×"
    if slide.vendor and slide.vendor not in UNTOLD:
        lines[2] += f" · {slide.vendor}"
    return "\n".join(lines)


def warnings_of(slide: Slide, scaled: bool = True) -> list[str]:
    """Warnings of a slide in the words of the dock; ``scaled``: the bundle needs its mpp."""
    if slide.mpp is None:
        missing = [MPP_MISSING] if scaled else []
        return missing + [w for w in slide.warnings if "--mpp" not in w]
    return list(slide.warnings)
