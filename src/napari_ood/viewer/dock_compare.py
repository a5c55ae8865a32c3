"""The dock *OOD compare runs*: choose two runs of a slide, see where they part ways."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog

from napari_ood.viewer.comparison import Choice, candidates, comparison_of
from napari_ood.viewer.difference_layer import difference_layer, show_difference
from napari_ood.viewer.docking import raise_dock
from napari_ood.viewer.flight import CONTEXT_TILES, Flight, view_of
from napari_ood.viewer.outline import GridOnSlide, Outline
from napari_ood.viewer.places import side_of
from napari_ood.viewer.scroll_dock import TabbedDock
from napari_ood.viewer.section_compare import ChoiceSection
from napari_ood.viewer.section_difference import DifferenceSection
from napari_ood.viewer.section_diverging import RegionsSection

if TYPE_CHECKING:
    from napari import Viewer

    from napari_ood.analysis.diverging import Divergence
    from napari_ood.viewer.places import Places
    from napari_ood.viewer.state import State

PLUGIN = "napari-ood"
POLL_INTERVAL_MS = 100
REVIEW = "OOD review"
OUTLINE = "Compare: region"
NOT_SHOWN = "To review these places, open run A or B on the slide: verdicts are kept with a run."
FRAME_MS = 16


class CompareDock(TabbedDock):
    """Two stored runs of one slide: their difference as a layer, a table, a list of regions.

    Parameters
    ----------
    napari_viewer : Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self._window = napari_viewer.window
        self._outline = Outline(napari_viewer, OUTLINE)
        self.comparison = comparison_of(self.bridge)
        self.choice, self.difference = ChoiceSection(), DifferenceSection()
        self.regions = RegionsSection()
        for section in (self.choice, self.difference, self.regions):
            self.column.addWidget(section)
        self.column.addStretch(1)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._poll)
        self._flight_timer = QTimer(self)
        self._flight_timer.timeout.connect(self._fly_on)
        self._flight: Flight | None = None
        self._connect_sections()
        self.comparison.changed.connect(self._on_changed)
        self.follow()

    def _connect_sections(self) -> None:
        comparison = self.comparison
        self.choice.a_chosen.connect(lambda path: comparison.choose(a=path))
        self.choice.b_chosen.connect(lambda path: comparison.choose(b=path))
        self.choice.open_requested.connect(self._open)
        self.choice.swap_requested.connect(comparison.swap)
        self.choice.score_chosen.connect(self._set_score)
        self.choice.copies_chosen.connect(comparison.set_copies)
        self.choice.start_requested.connect(self._start)
        self.difference.shown.connect(self._show_layer)
        self.regions.by_chosen.connect(comparison.set_by)
        self.regions.chosen.connect(self.fly_to)
        self.regions.review_requested.connect(self._review)

    # ---------------------------------------------------------------- what the user asks for

    def _open(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Open a stored run (….ood.zarr)")
        if folder:
            self.comparison.open(Path(folder).absolute())
            viewer = self.bridge.viewer
            if viewer is not None and not self.bridge.session.state.slides:
                viewer.open(folder, plugin=PLUGIN)  # a difference alone shows no tissue

    def _set_score(self, score: str) -> None:
        self.comparison.set_score(score)
        self._watch()

    def _start(self) -> None:
        self.comparison.start()
        self._watch()

    def _watch(self) -> None:
        if self.comparison.choice.busy:
            self._timer.start(POLL_INTERVAL_MS)

    def _poll(self) -> None:
        comparing = self.comparison.poll()
        found = self.comparison.take_places()
        if found is not None:
            self._open_review(*found)
        if not comparing and not self.comparison.finding_places:
            self._timer.stop()

    def _review(self) -> None:
        """Have the listed places reviewed on the run that is on screen."""
        maps = self.bridge.session.state.maps
        if maps is not None:
            self.comparison.find_places(maps)
            self._timer.start(POLL_INTERVAL_MS)
            self._offer_review()

    def _open_review(self, places: Places | None, error: str) -> None:
        self._offer_review()
        if places is None:
            show_error(error)
            return
        self.bridge.session.set_places(places)
        raise_dock(self._window, REVIEW)

    def _offer_review(self) -> None:
        compared, maps = self.comparison.choice.compared, self.bridge.session.state.maps
        if compared is not None:
            known = side_of(compared.difference, maps) is not None
            self.regions.show_review("" if known else NOT_SHOWN, self.comparison.finding_places)

    def _show_layer(self, visible: bool) -> None:
        compared, viewer = self.comparison.choice.compared, self.bridge.viewer
        if compared is None or viewer is None:
            return
        layer = difference_layer(viewer)
        if visible:
            layer = show_difference(viewer, compared.difference)
            layer.events.visible.connect(self._on_visible)
            # Two translucent maps over each other show neither.
            self.bridge.session.set_overlay(None)
        elif layer is not None:
            layer.visible = False
        self._show_box()

    def _on_visible(self, event: object) -> None:
        """Follow the eye icon in the layer list."""
        if self._bridge is not None:
            self._show_box()

    def _show_box(self) -> None:
        viewer = self.bridge.viewer
        layer = difference_layer(viewer) if viewer is not None else None
        self.difference.show_box.setChecked(layer is not None and layer.visible)

    def fly_to(self, region: Divergence) -> None:
        """Move the camera to a region."""
        compared, viewer = self.comparison.choice.compared, self.bridge.viewer
        if compared is None or viewer is None:
            return
        difference = compared.difference
        mpp = difference.a.run.provenance["slide"]["mpp"]
        on = GridOnSlide(difference.match.grid, tuple(mpp) if mpp else None)
        least = CONTEXT_TILES * max(difference.match.grid.tile_size)
        self._flight = Flight(viewer)
        view = view_of(region.box, on.mpp, viewer.canvas.size, least)
        self._outline.show(difference.cells[region.pairs], on, view.zoom)
        if self._flight.begin(view):
            self._flight_timer.start(FRAME_MS)

    def _fly_on(self) -> None:
        if self._flight is None or not self._flight.step():
            self._flight_timer.stop()

    # ---------------------------------------------------------------- views

    def show_state(self, new: State, old: State | None) -> None:
        """Offer the runs that are at hand now."""
        if old is not None and new.overlay not in (None, old.overlay):
            self._show_layer(False)
        if old is not None and not new.differs(old, "slide", "results", "folder", "phase"):
            return
        if old is None:
            self._show_choice(self.comparison.choice, None)
            self._watch()
        self._offer(new)
        self._offer_review()

    def _offer(self, state: State) -> None:
        choice = self.comparison.choice
        paths = candidates(state, (*choice.opened, choice.a, choice.b))
        self.choice.offer(paths, choice)
        if len(paths) > 1:
            self.comparison.suggest(paths[0], paths[1])

    def _on_changed(self, new: Choice, old: Choice) -> None:
        if self._bridge is None:
            return
        if new.opened != old.opened or (new.a, new.b) != (old.a, old.b):
            paths = candidates(self.bridge.session.state, (*new.opened, new.a, new.b))
            self.choice.offer(paths, new)
        self._show_choice(new, old)
        if new.compared is not None and new.compared is not old.compared:
            self._show_layer(True)

    def _show_choice(self, new: Choice, old: Choice | None) -> None:
        self.choice.show_choice(new)
        fresh = old is None or new.compared is not old.compared
        if fresh:
            self._outline.hide()
            self.difference.show_compared(new.compared)
            self._show_box()
        if old is None or fresh or new.by is not old.by:
            self.regions.show_regions(new)
            self._offer_review()

    def on_front(self, front: bool) -> None:
        """Outline nothing while another dock is in front."""
        if not front:
            self._outline.hide()

    def teardown(self) -> None:
        """Stop following; a comparison that is being made goes on."""
        self.comparison.changed.disconnect(self._on_changed, missing_ok=True)
        self._timer.stop()
        self._flight_timer.stop()
        if self._bridge is not None:
            self._outline.remove()
        super().teardown()
