"""The dock *OOD review*: regions above the threshold, one after the other. A view of the queue."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_error
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog

from napari_ood.errors import ReviewError
from napari_ood.review.verdicts import Artefact, Kind
from napari_ood.viewer import review_keys as keys
from napari_ood.viewer.difference_layer import difference_layer
from napari_ood.viewer.flight import CONTEXT_TILES, Flight, view_of
from napari_ood.viewer.outline import Outline
from napari_ood.viewer.review_head import ReviewHead, message_of
from napari_ood.viewer.review_keys import Keys
from napari_ood.viewer.review_list import RegionList
from napari_ood.viewer.review_panel import VerdictPanel, press
from napari_ood.viewer.review_queue import ReviewQueue
from napari_ood.viewer.review_state import QueueState, Stage
from napari_ood.viewer.review_tail import ReviewTail
from napari_ood.viewer.review_work import ReviewWork
from napari_ood.viewer.reviewer import remember_reviewer, remembered_reviewer
from napari_ood.viewer.scroll_dock import TabbedDock
from napari_ood.viewer.thumbnails import Thumbnails
from napari_ood.viewer.ticker import main_window
from napari_ood.viewer.widgets import text_label

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Layer

    from napari_ood.analysis.regions import Region
    from napari_ood.viewer.maps import Overlay
    from napari_ood.viewer.state import State

POLL_INTERVAL_MS = 60
FRAME_INTERVAL_MS = 16


class ReviewDock(TabbedDock):
    """The review queue of one viewer.

    Verdicts are on the disk when they are given; closing and opening the dock shows them again.

    Parameters
    ----------
    napari_viewer : Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        viewer = self.bridge.viewer
        assert viewer is not None
        self.queue = ReviewQueue(self.bridge.session, remembered_reviewer())
        self.work = ReviewWork(self.queue)
        self._flight, self._outline = Flight(viewer), Outline(viewer)
        self._thumbnails: Thumbnails | None = None
        self._overlay: Overlay | None = None
        self.head, self.list, self.panel = ReviewHead(), RegionList(), VerdictPanel()
        self.tail, self.message = ReviewTail(), text_label()
        self.keys = Keys(self._actions())
        self._poll_timer = self._timer(POLL_INTERVAL_MS, self._poll)
        self._frame_timer = self._timer(FRAME_INTERVAL_MS, self._fly_on)
        self._lay_out()
        self._connect()
        self.show_queue(self.queue.state, None)
        self.follow()

    def _timer(self, interval: int, do: Callable[[], None]) -> QTimer:
        timer = QTimer(self)
        timer.setInterval(interval)
        timer.timeout.connect(do)
        return timer

    def _lay_out(self) -> None:
        self.column.setSpacing(8)
        self.column.addWidget(self.head)
        self.column.addWidget(self.message)
        self.column.addWidget(self.list, 1)
        self.column.addWidget(self.panel)
        self.column.addStretch(0)
        self.column.addWidget(self.tail)

    def _connect(self) -> None:
        queue = self.queue
        queue.changed.connect(self.show_queue)
        queue.visited.connect(self._visit)
        queue.failed.connect(show_error)
        self.head.overlay_chosen.connect(queue.set_overlay)
        self.head.order_chosen.connect(queue.set_order)
        self.head.min_tiles_chosen.connect(queue.set_min_tiles)
        self.head.save_requested.connect(queue.save_again)
        self.head.folder_requested.connect(self._save_elsewhere)
        self.list.chosen.connect(queue.choose)
        self.panel.judged.connect(self._judge)
        self.panel.next_requested.connect(queue.go_next)
        self.panel.back_requested.connect(queue.go_back)
        self.panel.undo_requested.connect(queue.undo)
        self.panel.overlay_toggled.connect(self._toggle_overlay)
        self.panel.comment_typed.connect(queue.set_draft)
        self.panel.comment_entered.connect(queue.keep_draft)
        self.tail.reviewer_entered.connect(self._set_reviewer)
        self.tail.keys_toggled.connect(self._bind_keys)
        self.tail.figures_requested.connect(self._show_figures)
        self.tail.import_requested.connect(self._import)
        self.head.all_requested.connect(lambda: self.bridge.session.set_places(None))
        self.work.figured.connect(self.tail.show_figures)
        self.work.imported.connect(self.tail.show_import)
        self.work.failed.connect(self._tell)

    # ---------------------------------------------------------------- keys

    def _actions(self) -> dict[str, Callable[[], None]]:
        panel = self.panel
        actions: dict[str, Callable[[], None]] = {
            keys.NEXT: self.queue.go_next,
            keys.BACK: self.queue.go_back,
            keys.AGREE: partial(press, panel.agree),
            keys.UNKNOWN: partial(press, panel.unknown),
            keys.SKIP: partial(press, panel.skip),
            keys.UNDO: self.queue.undo,
            keys.REDO: self.queue.redo,
            keys.COMMENT: panel.comment.setFocus,
            keys.OVERLAY: self._toggle_overlay,
        }
        for place in range(keys.N_CLASS_KEYS):
            actions[str(place + 1)] = partial(panel.press_class, place)
        for kind, button in panel.artefacts.items():
            actions[keys.ARTEFACTS[kind.value]] = partial(press, button)
        return actions

    def _bind_keys(self) -> None:
        """Take the keys while there is something to review on screen, else leave them to napari."""
        ready = self.queue.state.stage is Stage.READY and self._bridge is not None
        if ready and self.in_front and self.tail.keys_wanted:
            if not self.keys.bound:
                self.keys.bind(main_window(self))
        else:
            self.keys.unbind()

    def on_front(self, front: bool) -> None:
        """Take the keys, or give them back: nothing is judged by a key meant for another dock."""
        self._bind_keys()
        if front:
            self._show_outline()
        else:
            self._outline.hide()

    # ---------------------------------------------------------------- what the user asks for

    def _judge(self, kind: Kind, label: str | None, artefact: Artefact | None) -> None:
        self.queue.judge(kind, label=label, artefact=artefact)
        # A button that was pressed shows the verdict of the region at hand, not that it was pressed
        self.panel.show_state(self.queue.state, None)

    def _toggle_overlay(self) -> None:
        """Show the bare tissue, or again the overlay that was on it."""
        session, difference = self.bridge.session, self._difference()
        if difference is not None:
            difference.visible = not difference.visible
            self.panel.show_overlay(difference.visible)
            return
        shown = session.state.overlay
        if shown is not None:
            self._overlay = shown
        session.set_overlay(
            None if shown is not None else self._overlay or self.queue.state.overlay
        )

    def _difference(self) -> Layer | None:
        """The layer of what two runs differ in, while that is what is reviewed."""
        viewer = self.bridge.viewer
        if viewer is None or self.queue.state.places is None:
            return None
        return difference_layer(viewer)

    def _set_reviewer(self, name: str) -> None:
        self.queue.set_reviewer(name)
        try:
            remember_reviewer(name)
        except ReviewError as error:
            show_error(str(error))

    def _import(self, path: Path) -> None:
        self.tail.show_import(f"Reading {path.name}…", busy=True)
        self.work.import_from(path)
        self._poll_timer.start()

    def _tell(self, message: str) -> None:
        if not self.work.importing:
            self.tail.show_import("")
        show_error(message)

    def _save_elsewhere(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Save the review in…")
        if folder:
            self.queue.save_to(Path(folder))

    def _visit(self, region: Region) -> None:
        """Outline a region and fly there."""
        maps, viewer = self.queue.state.maps, self.bridge.viewer
        if maps is None or viewer is None:
            return
        least = CONTEXT_TILES * max(maps.grid.tile_size)
        goal = view_of(region.box, maps.mpp, viewer.canvas.size, least)
        if self.in_front:
            self._outline.show(region.cells, maps, goal.zoom)
        if self._flight.begin(goal):
            self._frame_timer.start()
        else:
            self._frame_timer.stop()

    def _show_outline(self) -> None:
        """Outline the region at hand again, after another dock was in front."""
        state = self.queue.state
        viewer = self.bridge.viewer if self._bridge is not None else None
        if viewer is not None and state.region is not None and state.maps is not None:
            self._outline.show(state.region.cells, state.maps, viewer.scene.camera.zoom)

    def _fly_on(self) -> None:
        if not self._flight.step():
            self._frame_timer.stop()

    # ---------------------------------------------------------------- view of the state

    def show_state(self, new: State, old: State | None) -> None:
        """Follow the session."""
        self.queue.follow(new)
        difference = self._difference()
        over = new.overlay is not None or (difference is not None and difference.visible)
        self.panel.show_overlay(over)

    def show_queue(self, new: QueueState, old: QueueState | None) -> None:
        """Redraw what differs between two snapshots; everything when ``old`` is None."""
        if new.differs(old, "slide", "maps"):
            self._change_slide(new)
        self.head.show_state(new, old)
        self.panel.show_state(new, old)
        if new.differs(old, "found", "current", "matches", "maps"):
            self.list.show_state(new)
        if new.differs(old, "stage", "message", "threshold", "min_tiles"):
            self._show_stage(new)
        if new.differs(old, "reviewer", "stage"):
            self.tail.show_state(new)
        if self.tail.figures_shown and new.differs(old, "matches", "found"):
            self._show_figures()
        if old is not None and old.region is not None and new.region is None:
            self._outline.hide()
        if self.queue.busy:
            self._poll_timer.start()

    def _show_stage(self, state: QueueState) -> None:
        ready = state.stage is Stage.READY
        self.list.setVisible(ready)
        self.panel.setVisible(ready)
        self.message.setVisible(not ready)
        self.message.setText(message_of(state))
        self._bind_keys()

    def _show_figures(self) -> None:
        self.work.figure()
        self._poll_timer.start()

    def _change_slide(self, state: QueueState) -> None:
        if self._thumbnails is not None:
            self._thumbnails.close()
        self._thumbnails = Thumbnails(state.slide) if state.slide is not None else None
        self.list.regions.set_thumbnails(self._thumbnails, self._poll_timer.start)

    def _poll(self) -> None:
        searching, working = self.queue.poll(), self.work.poll()
        self.list.regions.take_pictures()
        reading = self._thumbnails is not None and self._thumbnails.busy
        if not (searching or working or reading):
            self._poll_timer.stop()

    # ---------------------------------------------------------------- end

    def teardown(self) -> None:
        """Save what was typed, give keys and layer back; may be called more than once."""
        if self._bridge is not None:
            self.queue.close()
            self.keys.unbind()
            self._poll_timer.stop()
            self._frame_timer.stop()
            self._outline.remove()
            if self._thumbnails is not None:
                self._thumbnails.close()
        super().teardown()
