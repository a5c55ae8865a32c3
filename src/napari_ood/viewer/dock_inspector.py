"""The dock *OOD inspector*: why the model said so, and why a tile is foreign."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtGui import QHideEvent, QShowEvent

from napari_ood.viewer.canvas_pick import CanvasPick
from napari_ood.viewer.fine_map_panel import FineMapPanel
from napari_ood.viewer.follower import follow
from napari_ood.viewer.geometry import cell_at, map_placement
from napari_ood.viewer.inspector import inspector_of
from napari_ood.viewer.inspector_answers import Answers
from napari_ood.viewer.inspector_state import Inspected, Tab
from napari_ood.viewer.maps import Overlay
from napari_ood.viewer.outline import Outline
from napari_ood.viewer.regions import see_through, shape_layer, shape_region
from napari_ood.viewer.saliency_layer import show_saliency
from napari_ood.viewer.scroll_dock import TabbedDock
from napari_ood.viewer.section_saliency import SaliencySection
from napari_ood.viewer.section_sanity import SanitySection
from napari_ood.viewer.section_tile import DISSENT, TileSection
from napari_ood.viewer.state import Phase
from napari_ood.viewer.tile_flight import TileFlight

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari import Viewer

    from napari_ood.models import Card
    from napari_ood.viewer.maps import Readout
    from napari_ood.viewer.state import State

POLL_INTERVAL_MS = 40
OUTLINE = "Inspector: tiles"
DRAW_FIRST = (
    "Draw a rectangle first: New shapes layer, then Add rectangles, on the slide. It says which "
    "tiles are meant."
)


class InspectorDock(TabbedDock):
    """What the model says of one tile, whether to trust it, and why; holds no state.

    Clicks and arrow keys on the canvas choose tiles while the dock is in front.

    Parameters
    ----------
    napari_viewer : Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        viewer = self.bridge.viewer
        assert viewer is not None
        self.inspector = inspector_of(self.bridge)
        self._outline, self._flight = (
            Outline(viewer, OUTLINE, self.bridge.steps),
            TileFlight(viewer, self),
        )
        self.pick = CanvasPick(viewer, self._click, self._step)
        self._overlay: Overlay | None = None
        self.tile, self._answers = TileSection(), Answers()
        self.tabs, self.working = self._answers.tabs, self._answers.working
        self.heads, self.prototypes = self._answers.heads, self._answers.prototypes
        self.cause = self._answers.cause
        self.saliency = SaliencySection(self.inspector.methods())
        self.sanity = SanitySection()
        self.fine_map = FineMapPanel(self.bridge)
        self._poll_timer, self._hide_timer = QTimer(self), QTimer(self)
        self._lay_out()
        self._connect()
        self.show_inspected(self.inspector.state, None)
        self.follow()

    def _lay_out(self) -> None:
        self.column.setSpacing(10)
        for widget in (
            self.tile, *self._answers.widgets, self.saliency, self.sanity, self.fine_map,
        ):  # fmt: skip
            self.column.addWidget(widget)
        self.column.addStretch(1)

    def _connect(self) -> None:
        inspector = self.inspector
        inspector.changed.connect(self.show_inspected)
        self._poll_timer.setInterval(POLL_INTERVAL_MS)
        self._poll_timer.timeout.connect(self._poll)
        self._hide_timer.setSingleShot(True)
        self._hide_timer.setInterval(0)
        self._hide_timer.timeout.connect(self._show_map)
        self.tile.most_foreign_asked.connect(self._go_to_most_foreign)
        self.tile.flight_asked.connect(self._fly)
        self.tile.box_asked.connect(self._choose_box)
        self.tabs.chosen.connect(inspector.show_tab)
        self.heads.layer_asked.connect(self._show_dissent)
        self.saliency.method_chosen.connect(lambda name: self._wish(method=name))
        self.saliency.target_chosen.connect(lambda target: self._wish(target=target))
        self.saliency.layer_chosen.connect(lambda name: self._wish(layer=name))
        self.saliency.explain_asked.connect(inspector.explain)
        self.saliency.cancel_asked.connect(inspector.cancel)
        self.saliency.following_chosen.connect(inspector.set_following)
        self.saliency.tissue_asked.connect(self._show_bare_tissue)
        self.sanity.randomise_asked.connect(inspector.randomise)
        self.sanity.curves_asked.connect(inspector.test)
        self.sanity.cancel_asked.connect(inspector.cancel_check)

    # ---------------------------------------------------------------- what the user asks for

    def _click(self, position: Any) -> None:
        maps = self.inspector.state.maps
        if maps is not None:
            cell = cell_at(position, map_placement(maps.grid, maps.mpp), maps.shape)
            self.inspector.select(cell)

    def _step(self, down: int, right: int) -> None:
        if self.inspector.step(down, right) and not self._in_view():
            self._fly()

    def _in_view(self) -> bool:
        s = self.inspector.state
        if s.maps is None or s.cell is None or s.slide is None:
            return True
        return self._flight.in_view(s.slide, s.maps, s.cell)

    def _go_to_most_foreign(self) -> None:
        if self.inspector.select_most_foreign():
            self._fly()

    def _fly(self) -> None:
        s = self.inspector.state
        if s.maps is not None and s.cell is not None:
            self._flight.fly(s.maps, s.cell)

    def _choose_box(self) -> None:
        slide, viewer = self.inspector.state.slide, self.bridge.viewer
        if viewer is None:
            return
        box = shape_region(viewer, slide) if slide is not None else None
        if box is None:
            self.tile.note.setText(DRAW_FIRST)
            self.tile.note.setVisible(True)
        elif self.inspector.select_box(box):
            drawn = shape_layer(viewer)
            if drawn is not None:
                see_through(drawn)
            self.inspector.show_tab(Tab.SALIENCY)

    def _wish(self, **changes: Any) -> None:
        self.inspector.wish(**changes)

    def _show_dissent(self, on: bool) -> None:
        """Let the overlay of uncertainty show dissenting heads, or again what it showed."""
        session, card = self.bridge.session, self._card()
        if card is not None:
            session.set_score(
                Overlay.UNCERTAINTY, DISSENT if on else card.scores[Overlay.UNCERTAINTY]
            )
            if on:
                session.set_overlay(Overlay.UNCERTAINTY)

    def _show_bare_tissue(self, bare: bool) -> None:
        session = self.bridge.session
        if bare:
            self._overlay = session.state.overlay
            session.set_overlay(None)
        else:
            maps = session.state.maps
            before = self._overlay or (maps.overlays[-1] if maps is not None else None)
            session.set_overlay(before)

    # ---------------------------------------------------------------- views

    def show_state(self, new: State, old: State | None) -> None:
        """Follow slide, run, thresholds and overlay of the session."""
        self.inspector.follow(new)
        if new.studying:
            follow(self.bridge, self)
        if old is None or new.differs(old, "thresholds", "scales", "results", "slide", "phase"):
            self._show_tile()
        if old is None or new.differs(old, "overlay", "scales", "results", "slide", "phase"):
            self._show_layers(new)

    def show_inspected(self, new: Inspected, old: Inspected | None) -> None:
        """Redraw what differs between two snapshots; everything when ``old`` is None."""
        if self._bridge is None:
            return
        if new.differs(old, "maps", "cells", "note", "look", "slide", "running"):
            self._show_tile()
        if new.differs(old, "maps", "cells"):
            self._show_outline(new)
        if new.differs(old, "maps", "cells", "look", "looking", "tab", "running"):
            self._show_look(new)
        if new.differs(old, "shown", "explaining"):
            if new.shown is None:
                self._hide_timer.start()
            else:
                self._show_map()
        self._show_saliency(new)
        if self.inspector.working or new.looking or new.explaining or new.checking:
            self._poll_timer.start()

    def _show_map(self) -> None:
        """Show the map at hand; the last one stays until the next comes, and goes if none does."""
        state, viewer = self.inspector.state, self.bridge.viewer
        if viewer is not None and (state.shown is not None or not state.explaining):
            show_saliency(viewer, state.shown, state.slide, self.bridge.steps)

    def _show_tile(self) -> None:
        readout, limits = self._readout()
        self.tile.show_tile(self.inspector.state, readout, limits)

    def _readout(self) -> tuple[Readout | None, Mapping[Overlay, float]]:
        """What the maps say of the chosen tile, and the thresholds that hold now."""
        maps, cell = self.inspector.state.maps, self.inspector.state.cell
        limits = {o: t.value for o, t in self.bridge.session.state.thresholds.items()}
        if maps is None or cell is None:
            return None, limits
        return maps.readout(*cell, limits), limits

    def _show_outline(self, state: Inspected) -> None:
        viewer = self.bridge.viewer
        if state.maps is None or not state.cells or viewer is None or state.maps.whole_image:
            self._outline.hide()
            return
        import numpy as np

        self._outline.show(np.array(state.cells), state.maps, viewer.scene.camera.zoom)

    def _show_look(self, state: Inspected) -> None:
        self._answers.show(state, self._is_foreign(), self.saliency)
        chosen = state.cell is not None and state.look is not None
        self.sanity.setVisible(chosen and state.tab is Tab.SALIENCY)

    def _is_foreign(self) -> bool | None:
        """Whether the chosen tile is above the threshold of any score of foreignness."""
        readout, limits = self._readout()
        if readout is None:
            return None
        above = [
            value > limits[overlay]
            for overlay in (Overlay.OOD, Overlay.APPEARANCE, Overlay.TISSUE)
            if overlay in limits and (value := readout.value(overlay)) is not None
        ]
        return any(above) if above else None

    def _card(self) -> Card | None:
        maps = self.inspector.state.maps
        return maps.bundle.card if maps is not None and maps.bundle is not None else None

    def _show_saliency(self, state: Inspected) -> None:
        bare = self.bridge.session.state.overlay is None
        self.saliency.show_state(state, self._card(), bare)
        self.sanity.show_state(state)

    def _show_layers(self, state: State) -> None:
        card, scale = self._card(), state.scales.get(Overlay.UNCERTAINTY)
        possible = card is not None and card.n_heads > 1 and state.phase is Phase.IDLE
        self.heads.show_layer(
            on=scale is not None and scale.score == DISSENT,
            possible=possible and scale is not None,
        )
        self._show_saliency(self.inspector.state)

    # ---------------------------------------------------------------- window

    def _poll(self) -> None:
        if not self.inspector.poll():
            self._poll_timer.stop()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Take clicks and arrow keys."""
        super().showEvent(event)
        if self._bridge is not None:
            self.pick.bind()
            self.inspector.resume()

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Give clicks and arrow keys back."""
        super().hideEvent(event)
        self.pick.unbind()

    def teardown(self) -> None:
        """Stop all work, give clicks, keys and outline back; may be called more than once."""
        if self._bridge is not None:
            self.pick.unbind()
            self.inspector.changed.disconnect(self.show_inspected, missing_ok=True)
            self.inspector.stop()
            self.fine_map.teardown()
            for stoppable in (self._poll_timer, self._flight, self._hide_timer):
                stoppable.stop()
            self._outline.remove()
        super().teardown()
