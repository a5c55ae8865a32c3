"""The dock *OOD thresholds*: where the model is not to be trusted, and what that costs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error
from qtpy.QtCore import QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QCheckBox, QFileDialog, QPushButton
from superqt.utils import signals_blocked

from napari_ood.analysis.summary import summarise
from napari_ood.errors import OodError
from napari_ood.scores.thresholds import Meaning, value_threshold
from napari_ood.viewer.canvas_legend import CanvasLegend, show_legend
from napari_ood.viewer.canvas_picture import save_picture
from napari_ood.viewer.follower import follow
from napari_ood.viewer.histogram import KEY
from napari_ood.viewer.layers import TITLES
from napari_ood.viewer.maps import Overlay
from napari_ood.viewer.score_card import ScoreCard
from napari_ood.viewer.scroll_dock import TabbedDock
from napari_ood.viewer.section_meaning import MeaningSection
from napari_ood.viewer.section_results import RAMPS
from napari_ood.viewer.section_sets import SetsSection
from napari_ood.viewer.section_temperature import TemperatureSection
from napari_ood.viewer.sets import SetsAsked
from napari_ood.viewer.ticker import main_window
from napari_ood.viewer.widgets import Section, text_label

if TYPE_CHECKING:
    from napari import Viewer

    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.analysis.summary import Summary
    from napari_ood.scores.conformal import Method
    from napari_ood.viewer.state import State

NO_RUN = "Thresholds need a run: open one, or run a bundle on a slide in the dock OOD."
RUNNING = "Thresholds can be moved when the run has ended; the default holds meanwhile."
NOT_STORED = "The run is not where it was stored any more: its thresholds cannot be moved."
WORKING = "Reading the run…"
IMAGES = "Pictures (*.png *.jpg *.tif)"
WORDS_INTERVAL_MS = 120
"""While a threshold is dragged its words and numbers follow this often, line and map always."""
ORDER = (Overlay.OOD, Overlay.APPEARANCE, Overlay.TISSUE, Overlay.UNCERTAINTY)


class ThresholdsDock(TabbedDock):
    """Histograms with thresholds for the chosen slide's scores; holds no state.

    Parameters
    ----------
    napari_viewer : Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self.note = text_label()
        self.key = text_label(KEY)
        self.key.setToolTip("Bars show square roots of shares, so that a few tiles are seen, too.")
        self.cards = {overlay: ScoreCard(TITLES[overlay]) for overlay in ORDER}
        self.meaning = MeaningSection()
        self.outlined = QCheckBox("Outline flagged tiles")
        self.flagged_only = QCheckBox("Hide tiles that are not flagged")
        self.legend = QCheckBox("Legend on the canvas")
        self.temperature = TemperatureSection()
        self.sets = SetsSection()
        self.picture_button = QPushButton("Save a picture…")
        self.picture_button.setToolTip("What the canvas shows, with the legend.")
        self._viewer = napari_viewer
        self._shown_in = Section("On the slide")
        self._words = QTimer(self)
        self._words.setSingleShot(True)
        self._words.timeout.connect(self._show_words)
        self._worded_at = 0.0
        self._lay_out()
        self._connect()
        self.follow()

    def _lay_out(self) -> None:
        self._shown_in.body.addWidget(self.outlined)
        self._shown_in.body.addWidget(self.flagged_only)
        self._shown_in.body.addWidget(self.legend)
        self._shown_in.body.addWidget(self.picture_button)
        self.column.setSpacing(12)
        self.column.addWidget(self.note)
        self.column.addWidget(self.key)
        for card in self.cards.values():
            self.column.addWidget(card)
        for section in (self.meaning, self._shown_in, self.temperature, self.sets):
            self.column.addWidget(section)
        self.column.addStretch(1)

    def _connect(self) -> None:
        session = self.bridge.session
        for overlay, card in self.cards.items():
            card.moved.connect(lambda value, o=overlay: self._move(o, value))
            card.reset_asked.connect(lambda o=overlay: session.reset_threshold(o))
            card.chosen.connect(lambda o=overlay: self._choose(o))
            card.score_chosen.connect(lambda name, o=overlay: session.set_score(o, name))
        self.meaning.asked.connect(self._ask)
        self.outlined.toggled.connect(session.set_outlined)
        self.flagged_only.toggled.connect(session.set_flagged_only)
        self.legend.toggled.connect(session.set_legend)
        self.picture_button.clicked.connect(self._save_picture)
        self.temperature.asked.connect(session.set_temperature)
        self.sets.asked.connect(self._ask_sets)
        self.sets.outlined.connect(session.set_sets_outlined)

    # ---------------------------------------------------------------- what the user asks for

    def _move(self, overlay: Overlay, value: float) -> None:
        scale = self.bridge.session.state.scales[overlay]
        self.bridge.session.set_threshold(overlay, value_threshold(scale.score, value))

    def _choose(self, overlay: Overlay) -> None:
        """Show a score on the slide, unless what is shown already depends on its threshold."""
        if self.bridge.session.state.flagging is not overlay:
            self.bridge.session.set_overlay(overlay)

    def _ask(self, meaning: Meaning, parameter: float) -> None:
        session = self.bridge.session
        scored, overlay = session.scored(session.state.maps), _active(session.state)
        if scored is None or overlay is None:
            return
        name = session.state.scales[overlay].score
        try:
            session.set_threshold(overlay, scored.threshold(name, meaning, parameter))
        except OodError as error:
            self.meaning.show_problem(str(error))

    def _ask_sets(self, error: float | None, method: Method) -> None:
        asked = None if error is None else SetsAsked(error, method)
        self.bridge.session.set_sets(asked)

    def _save_picture(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save a picture", "canvas.png", IMAGES)
        if path:
            legend = main_window(self).findChild(CanvasLegend)
            try:
                save_picture(self._viewer, legend, Path(path))
            except OodError as error:
                show_error(str(error))

    # ---------------------------------------------------------------- view of the state

    def show_state(self, new: State, old: State | None) -> None:
        """Redraw what differs between two snapshots; everything when ``old`` is None."""
        session = self.bridge.session
        if old is None or new.differs(old, "results", "slide", "phase"):
            session.study()  # a no-op where the figures are there, or nothing is stored
            old = None
            new = session.state
        if new.studying:
            follow(self.bridge, self)
        if old is None or new.differs(old, "figures", "scales", "overlay", "temperature"):
            self._show_scores(new)
        if old is None or new.differs(old, "studying"):
            self._show_note(new)
        if old is None or new.differs(old, "figures", "scales", "overlay"):
            self._show_thresholds(new)
        elif new.differs(old, "thresholds"):
            moved = (t for o, t in new.thresholds.items() if t is not old.thresholds.get(o))
            by_hand = all(threshold.meaning is Meaning.VALUE for threshold in moved)
            (self._move_lines if by_hand else self._show_thresholds)(new)
        if old is None or new.differs(old, "sets_asked", "sets", "sets_outlined"):
            self.sets.show_sets(new.sets_asked, new.sets, new.sets_outlined)
        if old is None or new.differs(old, "outlined", "flagged_only", "legend"):
            for box, on in (
                (self.outlined, new.outlined),
                (self.flagged_only, new.flagged_only),
                (self.legend, new.legend),
            ):
                with signals_blocked(box):
                    box.setChecked(on)

    def _show_note(self, state: State) -> None:
        text = ""
        if state.maps is None:
            text = NO_RUN
        elif self.bridge.session.scored(state.maps) is None:
            text = RUNNING if self.bridge.session.busy else NOT_STORED
        elif state.studying:
            text = WORKING
        else:
            text = state.maps.no_ood
        self.note.setText(text)
        self.note.setVisible(bool(text))

    def _show_scores(self, state: State) -> None:
        active, ready = _active(state), bool(state.figures)
        scored = self.bridge.session.scored(state.maps) if ready else None
        for overlay, card in self.cards.items():
            shown = overlay in state.figures
            card.setVisible(shown)
            if shown and scored is not None:
                scale = state.scales[overlay]
                card.show_scores(scored.names(), scale.score, scored.card)
                table = RAMPS[overlay].table()
                card.show_figure(state.figures.get(overlay), scale, table, overlay is active)
        for section in (self.key, self.meaning, self._shown_in, self.temperature, self.sets):
            section.setVisible(ready)
        if scored is not None:
            self.temperature.show_temperature(scored.temperature, scored.card.temperature)
        self.meaning.show_curve(state.figures.get(active) if active is not None else None)

    def _move_lines(self, state: State) -> None:
        """Follow a threshold at once, with words at most every so often: texts lay the dock out."""
        since_ms = round(1000 * (time.monotonic() - self._worded_at))
        if since_ms >= WORDS_INTERVAL_MS:
            self._show_thresholds(state)
            return
        for overlay, card in self.cards.items():
            card.move_line(state.thresholds.get(overlay))
        if not self._words.isActive():
            self._words.start(WORDS_INTERVAL_MS - since_ms)

    def _show_words(self) -> None:
        if self._bridge is not None:
            self._show_thresholds(self._bridge.session.state)

    def _show_thresholds(self, state: State) -> None:
        self._words.stop()
        self._worded_at = time.monotonic()
        scored, active = self.bridge.session.scored(state.maps), _active(state)
        if scored is None or active is None or not state.figures:
            return
        for overlay, card in self.cards.items():
            threshold = state.thresholds.get(overlay)
            summary = self._summary(state, overlay, scored)
            card.show_threshold(threshold, summary)
            if overlay is active:
                held_out = scored.held_out(threshold) if threshold is not None else None
                self.meaning.show_threshold(TITLES[overlay], state.scales[overlay], threshold)
                assert state.maps is not None
                self.meaning.show_effect(threshold, summary, held_out, state.maps.colors)

    def _summary(self, state: State, overlay: Overlay, scored: ScoredRun) -> Summary | None:
        """What the threshold does; only of scores whose figure is there, so that it is instant."""
        threshold, figure = state.thresholds.get(overlay), state.figures.get(overlay)
        if threshold is None or figure is None or figure.score != threshold.score:
            return None
        return summarise(scored, threshold)

    # ---------------------------------------------------------------- window

    def showEvent(self, event: QShowEvent | None) -> None:
        """Put the legend on the canvas: only now the window is known."""
        super().showEvent(event)
        show_legend(self.bridge, self)


def _active(state: State) -> Overlay | None:
    """The overlay whose threshold is looked at: that on the slide, else the first."""
    if state.flagging in state.scales:
        return state.flagging
    return next((overlay for overlay in ORDER if overlay in state.scales), None)
