"""The dock *OOD inspector*: why the model said so, and why a tile is foreign."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import QWidget

from napari_ood.viewer.canvas_pick import CanvasPick
from napari_ood.viewer.fine_map_panel import FineMapPanel
from napari_ood.viewer.flight import CONTEXT_TILES, Flight, view_of
from napari_ood.viewer.follower import follow
from napari_ood.viewer.geometry import cell_at, map_placement
from napari_ood.viewer.inspector import inspector_of
from napari_ood.viewer.inspector_state import Answer, Inspected, Tab
from napari_ood.viewer.maps import Overlay
from napari_ood.viewer.outline import Outline
from napari_ood.viewer.regions import shape_region, view_region
from napari_ood.viewer.saliency_layer import show_saliency
from napari_ood.viewer.scroll_dock import TabbedDock
from napari_ood.viewer.section_cause import CauseSection
from napari_ood.viewer.section_heads import HeadsSection
from napari_ood.viewer.section_prototypes import PrototypesSection
from napari_ood.viewer.section_saliency import SaliencySection
from napari_ood.viewer.section_sanity import SanitySection
from napari_ood.viewer.section_tile import TileSection
from napari_ood.viewer.state import Phase
from napari_ood.viewer.widgets import Segmented, text_label

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from napari import Viewer
    from numpy.typing import NDArray

    from napari_ood.models import Card
    from napari_ood.viewer.inspector_state import Look
    from napari_ood.viewer.maps import Readout
    from napari_ood.viewer.state import State

POLL_INTERVAL_MS = 40
FRAME_INTERVAL_MS = 16
OUTLINE = "Inspector: tiles"
DISSENT = "dissent"
"""The score of how many heads would have said another class."""
WORKING = "Working it out…"
DRAW_FIRST = (
    "Draw a rectangle first: New shapes layer, then Add rectangles, on the slide. It says which "
    "tiles are meant."
)
TABS = (
    (Tab.HEADS, "Heads"),
    (Tab.PROTOTYPES, "Similar"),
    (Tab.CAUSE, "Cause"),
    (Tab.SALIENCY, "Saliency"),
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
        self._outline, self._flight = Outline(viewer, OUTLINE), Flight(viewer)
        self.pick = CanvasPick(viewer, self._click, self._step)
        self._overlay: Overlay | None = None
        self.tile, self.tabs = TileSection(), Segmented[Tab](TABS)
        self.working = text_label(WORKING, muted=True)
        self.heads, self.prototypes, self.cause = (
            HeadsSection(),
            PrototypesSection(),
            CauseSection(),
        )
        self.saliency = SaliencySection(self.inspector.methods())
        self.sanity = SanitySection()
        self.fine_map = FineMapPanel(self.bridge)
        self._poll_timer, self._frame_timer = QTimer(self), QTimer(self)
        self._hide_timer = QTimer(self)
        self._lay_out()
        self._connect()
        self.show_inspected(self.inspector.state, None)
        self.follow()

    def _lay_out(self) -> None:
        self.column.setSpacing(10)
        for widget in (
            self.tile, self.tabs, self.working, self.heads, self.prototypes, self.cause,
            self.saliency, self.sanity, self.fine_map,
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
        self._frame_timer.setInterval(FRAME_INTERVAL_MS)
        self._frame_timer.timeout.connect(self._fly_on)
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
        """Whether the middle of the chosen tile can be seen."""
        maps, cell = self.inspector.state.maps, self.inspector.state.cell
        slide, viewer = self.inspector.state.slide, self.bridge.viewer
        if maps is None or cell is None or slide is None or viewer is None:
            return True
        view = view_region(viewer, slide)
        y, x, h, w = maps.grid.boxes([cell])[0]
        return view is not None and (
            view[0] <= y + h / 2 < view[0] + view[2] and view[1] <= x + w / 2 < view[1] + view[3]
        )

    def _go_to_most_foreign(self) -> None:
        if self.inspector.select_most_foreign():
            self._fly()

    def _fly(self) -> None:
        maps, cell, viewer = (
            self.inspector.state.maps, self.inspector.state.cell, self.bridge.viewer
        )  # fmt: skip
        if maps is None or cell is None or viewer is None or maps.whole_image:
            return
        y, x, h, w = (float(v) for v in maps.grid.boxes([cell])[0])
        least = CONTEXT_TILES * max(maps.grid.tile_size)
        if self._flight.begin(view_of((y, x, h, w), maps.mpp, viewer.canvas.size, least)):
            self._frame_timer.start()

    def _fly_on(self) -> None:
        if not self._flight.step():
            self._frame_timer.stop()

    def _choose_box(self) -> None:
        slide, viewer = self.inspector.state.slide, self.bridge.viewer
        if viewer is None:
            return
        box = shape_region(viewer, slide) if slide is not None else None
        if box is None:
            self.tile.note.setText(DRAW_FIRST)
            self.tile.note.setVisible(True)
        elif self.inspector.select_box(box):
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
            show_saliency(viewer, state.shown)

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
        chosen = state.cell is not None and state.look is not None
        self.tabs.setVisible(chosen)
        self.tabs.set_value(state.tab)
        sections: dict[Tab, QWidget] = {
            Tab.HEADS: self.heads,
            Tab.PROTOTYPES: self.prototypes,
            Tab.CAUSE: self.cause,
            Tab.SALIENCY: self.saliency,
        }
        look, maps = state.look, state.maps
        answer = _answer(look, state.tab) if look is not None else None
        waiting = answer is not None and not answer.known
        self.working.setVisible(chosen and waiting and state.looking)
        for tab, section in sections.items():
            section.setVisible(chosen and tab is state.tab and not waiting)
        self.sanity.setVisible(chosen and state.tab is Tab.SALIENCY)
        if look is None or maps is None or waiting:
            return
        if state.tab is Tab.HEADS:
            self.heads.show_heads(look.heads, maps.classes, maps.colors)
        elif state.tab is Tab.PROTOTYPES:
            pixels: NDArray[np.uint8] | None = look.pixels.value
            self.prototypes.show_prototypes(look.prototypes, pixels, maps.classes, maps.colors)
        elif state.tab is Tab.CAUSE:
            self.cause.show_cause(look.cause, self._is_foreign())

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
            for timer in (self._poll_timer, self._frame_timer, self._hide_timer):
                timer.stop()
            self._outline.remove()
        super().teardown()


def _answer(look: Look, tab: Tab) -> Answer[Any] | None:
    """The answer that a tab shows; None for saliency, which is asked for."""
    answers: dict[Tab, Answer[Any]] = {
        Tab.HEADS: look.heads,
        Tab.PROTOTYPES: look.prototypes,
        Tab.CAUSE: look.cause,
    }
    return answers.get(tab)
