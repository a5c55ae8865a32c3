"""Which regions are in the review queue, in which order, and which one is at hand.

No Qt, no napari. As in :mod:`~napari_ood.viewer.session` the state is an immutable snapshot that
commands replace; commands and :meth:`Listing.poll` belong to the GUI's thread.
"""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_ood.viewer.maps import SCORED, Maps, Overlay
from napari_ood.viewer.rematch import by_region, rematch
from napari_ood.viewer.review_search import Found, Query, Search
from napari_ood.viewer.review_state import Order, QueueState, Stage
from napari_ood.viewer.state import Phase, State

if TYPE_CHECKING:
    from napari_ood.analysis.regions import Region
    from napari_ood.review.verdicts import Verdict
    from napari_ood.viewer.session import Session

QUIET_S = 0.2
"""How long a threshold must rest before regions are looked for again."""


class Listing:
    """Regions of the run that is shown in a session.

    Parameters
    ----------
    session : Session
    reviewer : name

    Signals
    -------
    changed(new, old) : after every change of the state
    visited(region) : the user asks to see a region
    failed(message) : one line for the user
    """

    changed = Signal(object, object)
    visited = Signal(object)
    failed = Signal(str)

    def __init__(self, session: Session, reviewer: str) -> None:
        self.state = QueueState(reviewer=reviewer)
        self._session = session
        self._search: Search | None = None
        self._wanted: Query | None = None
        self._wanted_at = 0.0
        self._n_written = 0

    def _update(self, **changes: Any) -> None:
        old = self.state
        new = replace(old, **changes)
        if new.differs(old, *changes):
            self.state = new
            self.changed.emit(new, old)

    def keep_draft(self) -> None:
        """Save what was typed about the region at hand, before it is left."""
        raise NotImplementedError

    def _comment(self) -> str:
        """What this reviewer has written about the region at hand."""
        return self.state.verdict.comment if self.state.verdict is not None else ""

    # ---------------------------------------------------------------- what is reviewed

    def follow(self, session: State) -> None:
        """Take over what the session shows: run, slide, thresholds."""
        maps = session.maps
        if maps is None:
            self._forget(Stage.NO_RUN, None)
        elif _is_running(session, maps):
            self._forget(Stage.RUNNING, maps)
        else:
            if maps is not self.state.maps or self.state.stage is Stage.RUNNING:
                self._forget(Stage.SEARCHING, maps)
            self._update(slide=session.slide)
            self._choose_overlay(maps, session.overlay)
            self._take_places(session)
            self._look_up_threshold(session)

    def _forget(self, stage: Stage, maps: Maps | None) -> None:
        """Start anew with another run, or none."""
        self.keep_draft()
        self._wanted = None
        self._update(
            stage=stage, searching=False, message="", notice="", maps=maps, slide=None,
            overlays=(), overlay=None, threshold=None, temperature=None, found=None, matches=None,
            places=None, given={}, current=None, draft="", unsaved=0,
        )  # fmt: skip

    def _choose_overlay(self, maps: Maps, shown: Overlay | None) -> None:
        """Keep the score that was chosen, else take the one that is on screen, else OOD."""
        overlays = tuple(overlay for overlay in maps.overlays if overlay in SCORED)
        candidates = (self.state.overlay, shown, *reversed(overlays))
        overlay = next((o for o in candidates if o in overlays), None)
        self._update(overlays=overlays, overlay=overlay)

    def _take_places(self, session: State) -> None:
        """Review certain places of this run instead, or no longer."""
        places = session.places
        if places is not None and places.maps is not session.maps:
            places = None
        if places is not self.state.places:
            self.keep_draft()
            self._update(places=places, current=None, draft="", notice="")
            self._want()

    def _look_up_threshold(self, session: State) -> None:
        overlay = self.state.overlay
        threshold = session.thresholds.get(overlay) if overlay is not None else None
        if self.state.places is not None:
            self._update(threshold=threshold, temperature=session.temperature)
        elif threshold is None:
            self._wanted = None
            self._update(stage=Stage.NO_THRESHOLD, threshold=None, searching=False)
        elif (threshold, session.temperature) != (self.state.threshold, self.state.temperature):
            self._update(threshold=threshold, temperature=session.temperature)
            self._want()

    def set_overlay(self, overlay: Overlay) -> None:
        """Review the regions of another score."""
        if overlay in self.state.overlays and overlay is not self.state.overlay:
            self.keep_draft()
            self._update(overlay=overlay, current=None, draft="", notice="")
            self._look_up_threshold(self._session.state)

    def set_order(self, order: Order) -> None:
        """Rank the regions in another way."""
        if order is not self.state.order:
            self._update(order=Order(order))
            self._want()

    def set_min_tiles(self, n: int) -> None:
        """Leave out regions of fewer tiles."""
        if n != self.state.min_tiles:
            self._update(min_tiles=max(1, n))
            self._want()

    def set_reviewer(self, name: str) -> None:
        """Go on as another reviewer, with their own verdicts."""
        name = " ".join(name.split())
        if name and name != self.state.reviewer:
            self.keep_draft()
            self._update(reviewer=name, current=None, notice="", draft="")
            self._want(new_store=True)

    # ---------------------------------------------------------------- search

    def _want(self, new_store: bool = False) -> None:
        """Ask for a search; the latest wish counts."""
        s = self.state
        asked = s.threshold if s.places is None else s.places
        if s.maps is None or asked is None:
            return
        maps, session = s.maps, self._session
        same_run = s.found is not None and s.found.query.maps is maps
        store = s.found.store if s.found is not None and same_run and not new_store else None
        self._wanted = Query(
            maps, lambda: session.scored(maps), asked, s.min_tiles, s.order.value,
            s.reviewer, store, self._n_written,
        )  # fmt: skip
        self._wanted_at = time.monotonic()
        self._update(searching=True, stage=s.stage if s.found else Stage.SEARCHING)

    @property
    def busy(self) -> bool:
        """Whether a search is going on or due."""
        return self._search is not None or self._wanted is not None

    def poll(self) -> bool:
        """Take over what a search has found, and start the next; whether one is going on or due.

        To be called several times per second while :attr:`busy`.
        """
        search = self._search
        if search is not None and not search.alive:
            self._search = None
            if self._wanted is None:
                self._take(search)
        rested = self.state.found is None or time.monotonic() - self._wanted_at >= QUIET_S
        if self._search is None and self._wanted is not None and rested:
            query, self._wanted = self._wanted, None
            self._search = Search(query, self.state.found)
        return self.busy

    def wait(self, timeout: float = 60.0) -> bool:
        """Block until nothing is searched any more; whether that came in time. For scripts."""
        end = time.monotonic() + timeout
        while self.poll() and time.monotonic() < end:
            if self._search is not None:
                self._search.wait(0.05)
        return not self.busy

    def _take(self, search: Search) -> None:
        if search.query.maps is not self.state.maps:
            return
        if search.found is None:
            self._update(
                stage=Stage.FAILED, message=search.error or "", found=None, matches=None, given={},
                current=None, searching=False,
            )  # fmt: skip
            return
        found, region = search.found, self.state.region
        # A verdict that was given while the search went on may not be in what it has matched.
        given, matches = found.given, found.matches
        if self._n_written != search.query.n_written:
            given = by_region(found.store.verdicts())
            matches = rematch(matches, found.regions, found.owners, found.given, given)
        self._update(
            stage=Stage.READY if found.regions else Stage.EMPTY, message="", found=found,
            matches=matches, given=given, current=place_of(region, found), searching=False,
            unsaved=found.store.unsaved,
        )  # fmt: skip
        if not self.state.draft:
            self._update(draft=self._comment())

    # ---------------------------------------------------------------- moving

    def choose(self, place: int) -> None:
        """Go to the region at a place in the list."""
        if not 0 <= place < len(self.state.regions):
            return
        if place != self.state.current:
            self.keep_draft()
            self._update(current=place, notice="")
            self._update(draft=self._comment())
        self.visited.emit(self.state.region)

    def go_next(self) -> None:
        """Go to the next region, judged or not; stay at the last one."""
        current = self.state.current
        self.choose(0 if current is None else min(current + 1, len(self.state.regions) - 1))

    def go_back(self) -> None:
        """Go to the region before this one."""
        self.choose(max((self.state.current or 0) - 1, 0))

    def _go_on(self) -> None:
        """Go to the next region that is not judged yet, from the top when the end is reached."""
        s = self.state
        start = (s.current or 0) + 1
        places = chain(range(start, len(s.regions)), range(start))
        place = next((i for i in places if not s.done(s.regions[i])), None)
        if place is not None:
            notice = s.notice
            self.choose(place)
            self._update(notice=notice)


def place_of(sought: Region | Verdict | None, found: Found) -> int | None:
    """Place of the region that has the peak of another region or of a verdict; None if none has."""
    if sought is None:
        return None
    if sought.key in found.places:
        return found.places[sought.key]
    return found.place_of(sought.peak_cell)


def _is_running(session: State, maps: Maps) -> bool:
    """Whether the run that is shown is still growing."""
    output = session.output
    return session.phase is not Phase.IDLE and output is not None and output.path == maps.path
