"""The dock *OOD slide passport*: does this slide fit the bundle, before and after a run?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_ood.passport import Light
from napari_ood.viewer.inspection import Findings, Subject, inspection_of, subject_of
from napari_ood.viewer.scroll_dock import TabbedDock
from napari_ood.viewer.section_passport import CheckRow, SummaryRow
from napari_ood.viewer.widgets import breakable, text_label

if TYPE_CHECKING:
    from napari import Viewer

    from napari_ood.viewer.state import State

POLL_INTERVAL_MS = 100
EMPTY = (
    "Open a slide to see its passport: scale, scanner, stain, focus, pen and folds, compared with "
    "what the chosen bundle was trained on."
)
URGENT = {Light.RED: 0, Light.YELLOW: 1}
LOOKING = "Looking at the slide…"
NO_BUNDLE = "No bundle is chosen, so nothing is compared with what a model knows"


class PassportDock(TabbedDock):
    """Lights with words for the chosen slide; a reviewer may override one and say why.

    Parameters
    ----------
    napari_viewer : Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self.inspection = inspection_of(self.bridge)
        self.title, self.message = text_label(EMPTY), text_label(muted=True)
        self.summary, self.bar = SummaryRow(), QProgressBar()
        self.bar.setRange(0, 0)
        self.again_button = QPushButton("Look again")
        self.again_button.clicked.connect(self._look_again)
        self.rows: list[CheckRow] = []
        self._shown: object = None
        self._list = QWidget()
        self._rows = QVBoxLayout(self._list)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.setSpacing(12)
        widgets = (self.title, self.bar, self.summary, self.message, self._list, self.again_button)
        for widget in widgets:
            self.column.addWidget(widget)
        self.column.addStretch(1)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._poll)
        self.inspection.changed.connect(self._on_changed)
        self.show_findings(self.inspection.findings)
        self.follow()

    def on_front(self, front: bool) -> None:
        """Look at the slide now that somebody looks here."""
        if front:
            self._look()

    # ---------------------------------------------------------------- what the user asks for

    def _look(self, again: bool = False) -> None:
        if self._bridge is None or not self.in_front:
            return  # reading pixels for a dock that is behind another one would slow that one down
        self.inspection.look_at(subject_of(self.bridge.session), again)
        if self.inspection.findings.busy:
            self._timer.start(POLL_INTERVAL_MS)

    def _look_again(self) -> None:
        self._look(again=True)

    def _poll(self) -> None:
        if not self.inspection.poll():
            self._timer.stop()

    # ---------------------------------------------------------------- views

    def show_state(self, new: State, old: State | None) -> None:
        """Follow the choice of slide and bundle, and the end of a run."""
        names = ("slide", "bundle", "results", "phase", "output")
        if old is None or new.differs(old, *names):
            self._look()

    def _on_changed(self, findings: Findings) -> None:
        if self._bridge is not None:
            self.show_findings(findings)

    def show_findings(self, findings: Findings) -> None:
        """Redraw everything: it changes a few times per slide."""
        passport, subject = findings.passport, findings.subject
        self.title.setText(EMPTY if subject is None else title_text(subject, findings.busy))
        self.bar.setVisible(findings.busy)
        self.again_button.setVisible(subject is not None)
        self.again_button.setEnabled(not findings.busy)
        self.message.setText(findings.error)
        self.message.setVisible(bool(findings.error))
        self.summary.setVisible(passport is not None)
        if passport is not None:
            keys = set(findings.overrides)
            self.summary.show_summary(passport.light(keys), passport.words(keys))
        self._show_rows(findings)

    def _show_rows(self, findings: Findings) -> None:
        can_save = findings.subject is not None and findings.subject.folder is not None
        shown = (findings.passport, dict(findings.overrides), can_save)
        if shown == self._shown:
            return  # somebody may be typing a reason
        self._shown = shown
        while self.rows:
            row = self.rows.pop()
            self._rows.removeWidget(row)
            row.hide()
            row.deleteLater()
        checks = findings.passport.checks if findings.passport else ()
        # What asks for attention comes first, the rest as the passport has it.
        for check in sorted(checks, key=lambda c: URGENT.get(c.light, len(URGENT))):
            row = CheckRow(check, findings.overrides.get(check.key), can_save)
            row.overridden.connect(self.inspection.override)
            row.withdrawn.connect(self.inspection.withdraw)
            self._rows.addWidget(row)
            self.rows.append(row)

    def teardown(self) -> None:
        """Stop following; a passport that is being made is finished and kept."""
        self.inspection.changed.disconnect(self._on_changed, missing_ok=True)
        self._timer.stop()
        super().teardown()


def title_text(subject: Subject, busy: bool) -> str:
    """Which slide, which bundle, before or after which run."""
    if subject.slide is not None:
        name = subject.slide.name
    else:
        name = str(subject.run.provenance["slide"]["name"]) if subject.run is not None else ""
    if subject.run is not None:
        bundle = subject.run.provenance["bundle"]["name"]
        what = f"After the run of {bundle}"
    elif subject.bundle is not None:
        what = f"Before a run of {subject.bundle.name}"
    else:
        what = NO_BUNDLE
    return f"{breakable(name)} · {what[0].lower()}{what[1:]}" + (f"\n{LOOKING}" if busy else "")
