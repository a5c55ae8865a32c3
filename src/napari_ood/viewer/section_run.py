"""The dock's section about the run: scope, device, where it is written, Run, Cancel, progress."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QProgressBar, QPushButton
from superqt.utils import signals_blocked

from napari_ood.viewer.checks import check_run
from napari_ood.viewer.how import USUAL
from napari_ood.viewer.how_row import HowRow
from napari_ood.viewer.state import Phase, Scope
from napari_ood.viewer.widgets import Section, Segmented, breakable, painted_later, text_label

if TYPE_CHECKING:
    from napari_ood.inference import Progress
    from napari_ood.viewer.output import Output
    from napari_ood.viewer.state import State

WHOLE_SLIDE, WHOLE_IMAGE = "Whole slide", "Whole image"
SCOPES = ((Scope.SLIDE, WHOLE_SLIDE), (Scope.VIEW, "Current view"), (Scope.SHAPE, "Shape"))
DEVICES = {
    "auto": "Fastest device",
    "cpu": "Processor (CPU)",
    "cuda": "NVIDIA or AMD GPU",
    "mps": "Apple GPU",
}
FINISHED = "Finished"
LOADING = "Loading the network…"
SCOPE_HINTS = {
    Scope.SLIDE: "",
    Scope.VIEW: "Only what the window shows now.",
    Scope.SHAPE: "Only the bounding box of the selected shape in a Shapes layer.",
}
IMAGE_HINTS = {
    Scope.SLIDE: "",
    Scope.VIEW: "What the window shows now, as an image of its own.",
    Scope.SHAPE: "The bounding box of the selected shape, as an image of its own.",
}


class RunSection(Section):
    """Shows how a run would go and how it goes; tells by signals what the user asks for."""

    scope_chosen = Signal(object)
    device_chosen = Signal(str)
    folder_chosen = Signal(object)
    run_requested = Signal()
    cancel_requested = Signal()

    def __init__(self) -> None:
        super().__init__("Run")
        self.scope: Segmented[Scope] = Segmented(SCOPES)
        self.scope.chosen.connect(self.scope_chosen)
        self.device = QComboBox()
        for name, title in DEVICES.items():
            if name != "mps" or sys.platform == "darwin":
                self.device.addItem(title, name)
        self.device.activated.connect(lambda i: self.device_chosen.emit(self.device.itemData(i)))
        self.how = HowRow()
        self.folder_button = QPushButton("Save in…")
        self.folder_button.setToolTip("Choose the folder that runs are written to.")
        self.folder_button.clicked.connect(self._choose_folder)
        self.where = text_label()
        self.check = text_label(muted=True)
        self.run_button = QPushButton("Run")
        self.cancel_button = QPushButton("Cancel")
        self.run_button.clicked.connect(self.run_requested)
        self.cancel_button.clicked.connect(self.cancel_requested)
        self.bar = QProgressBar()
        self.speed = text_label()
        self._lay_out()

    def _lay_out(self) -> None:
        device_row, button_row = QHBoxLayout(), QHBoxLayout()
        device_row.addWidget(self.device, 1)
        device_row.addWidget(self.folder_button)
        button_row.addWidget(self.run_button, 2)
        button_row.addWidget(self.cancel_button, 1)
        self.body.addWidget(self.scope)
        self.body.addLayout(device_row)
        self.body.addWidget(self.how)
        self.body.addWidget(self.where)
        self.body.addWidget(self.check)
        self.body.addLayout(button_row)
        self.body.addWidget(self.bar)
        self.body.addWidget(self.speed)

    # ---------------------------------------------------------------- view of the state

    def show_state(self, new: State, old: State | None) -> None:
        """Redraw what differs."""
        if old is None or new.differs(
            old, "slide", "bundle", "scope", "phase", "output", "results", "lacks"
        ):
            self._show_plan(new)
        if old is None or new.device != old.device:
            with signals_blocked(self.device):
                self.device.setCurrentIndex(self.device.findData(new.device))
        if old is None or new.differs(old, "precision", "features", "no_bf16", "bundle", "phase"):
            self.how.show_state(new, new.phase is Phase.IDLE)
        if old is None or new.differs(old, "phase", "progress", "outcome"):
            self._show_progress(new)

    def _show_plan(self, state: State) -> None:
        idle = state.phase is Phase.IDLE
        check = check_run(state.slide, state.bundle, state.lacks)
        blocked = check is not None and check.blocking
        self.scope.set_value(state.scope)
        whole = judges_images(state)
        self.scope.button(Scope.SLIDE).setText(WHOLE_IMAGE if whole else WHOLE_SLIDE)
        for widget in (self.scope, self.device, self.folder_button):
            widget.setEnabled(idle)
        self.run_button.setEnabled(idle and not blocked and run_title(state) != FINISHED)
        self.run_button.setText(run_title(state))
        self.cancel_button.setEnabled(state.phase is Phase.RUNNING)
        self.check.setText(check.text if check else "")
        self.check.setVisible(check is not None)
        self.where.setText("" if blocked else where_text(state))
        self.where.setToolTip(str(state.output.path) if state.output else "")
        self.where.setVisible(bool(self.where.text()))

    def _show_progress(self, state: State) -> None:
        p, idle = state.progress, state.phase is Phase.IDLE
        # A finished run is said in words; a bar that stays full would only take room.
        self.bar.setVisible(not idle or (p is not None and p.n_done < p.n_total))
        # Not from 0 to 0, which says "busy" with stripes that move: for each step of theirs the
        # whole window is composed anew, without a graphics card on cores that the network needs.
        with painted_later(self.bar):
            self.bar.setRange(0, p.n_total if p else 1)
            self.bar.setValue(p.n_done if p else 0)
        if state.phase is Phase.CANCELLING:
            text = "Stopping after this batch…"
        elif idle:
            text = state.outcome
        else:
            text = LOADING if p is None and judges_images(state) else progress_text(p)
        self.speed.setText(text)
        self.speed.setVisible(bool(text))

    def _choose_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Folder that runs are written to")
        if folder:
            self.folder_chosen.emit(Path(folder))


def run_title(state: State) -> str:
    """What the Run button would do."""
    output = state.output
    if state.phase is not Phase.IDLE or output is None or not output.resumes:
        return "Run"
    if state.scope is not Scope.SLIDE:
        return "Run"  # the view or the shape may be another by now
    if not output.complete:
        return "Continue"
    return FINISHED if is_shown(state) else "Show the result"


def judges_images(state: State) -> bool:
    """Whether the chosen bundle judges whole images, so that there is nothing to count."""
    return state.bundle is not None and state.bundle.card.whole_image


def is_shown(state: State) -> bool:
    """Whether the run that the dock names is finished and on screen."""
    maps, output = state.maps, state.output
    return bool(maps and output and output.complete and maps.path == output.path)


def where_text(state: State) -> str:
    """Where the run is written and whether it goes on from an earlier one."""
    whole = judges_images(state)
    output, hint = state.output, (IMAGE_HINTS if whole else SCOPE_HINTS)[state.scope]
    if output is None:
        return hint
    name = breakable(output.path.name)
    if state.phase is not Phase.IDLE:
        return f"Writing {name}"
    if is_shown(state):
        return f"Saved as {name} {_place(state, output)}."
    how = "" if output.how in (None, USUAL) else f" {output.how}"
    if output.complete:
        return f"{name} is finished{how}" + ("." if whole else f": {output.n_total:,} tiles.")
    if output.resumes:
        done = f"{output.n_done:,} of {output.n_total:,} tiles"
        return f"{name} has {done}: continues where it stopped{how}."
    return f"Will be saved as {name} {_place(state, output)}.{_passed(output)}"


def _passed(output: Output) -> str:
    """What becomes of the same run that was begun otherwise than is asked for now."""
    before = output.passed
    if before is None:
        return ""
    name = breakable(before.path.name)
    if before.complete:
        return f" {name}, {before.how}, stays as it is."
    return f" {name} was begun {before.how}: choose Automatic to go on with it."


def _place(state: State, output: Output) -> str:
    beside = state.slide is not None and output.path.parent == state.slide.path.parent
    what = "image" if judges_images(state) else "slide"
    return f"beside the {what}" if beside else f"in {breakable(str(output.path.parent))}"


def progress_text(progress: Progress | None) -> str:
    """Tiles, speed and time left."""
    if progress is None:
        return "Finding tissue and loading the network…"
    parts = [f"{progress.n_done:,} of {progress.n_total:,} tiles"]
    if progress.tiles_per_s:
        parts.append(f"{progress.tiles_per_s:,.0f} tiles/s")
    if progress.seconds_left is not None:
        parts.append(f"{duration(progress.seconds_left)} left")
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """Seconds as ``0:07``, ``12:30`` or ``1:02:03``."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"
