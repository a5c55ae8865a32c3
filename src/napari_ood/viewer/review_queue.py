"""The review queue: regions above a threshold, one after the other, and what is said of them.

No Qt, no napari. As in :mod:`~napari_ood.viewer.session` the state is an immutable snapshot that
commands replace; commands and :meth:`ReviewQueue.poll` belong to the GUI's thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from psygnal import Signal

from napari_ood.errors import OodError, ReviewError
from napari_ood.viewer.maps import SCORED, Maps, Overlay
from napari_ood.viewer.review_search import Found, Query, Search
from napari_ood.viewer.state import Phase, State

if TYPE_CHECKING:
    from pathlib import Path

    from napari_ood.analysis.regions import Region
    from napari_ood.review.matching import Matches
    from napari_ood.review.store import ReviewStore
    from napari_ood.review.verdicts import Artefact, Kind, Verdict
    from napari_ood.scores.thresholds import Threshold
    from napari_ood.slides import Slide
    from napari_ood.viewer.session import Session

T = TypeVar("T")

QUIET_S = 0.2
"""How long a threshold must rest before regions are looked for again."""


class Stage(StrEnum):
    """What the queue has to show."""

    NO_RUN = "no run"
    RUNNING = "running"
    NO_THRESHOLD = "no threshold"
    SEARCHING = "searching"
    READY = "ready"
    EMPTY = "empty"
    FAILED = "failed"


class Order(StrEnum):
    """In which order regions come."""

    SCORE = "score"
    AREA = "area"
    DIVERSITY = "diversity"


@dataclass(frozen=True, eq=False)
class QueueState:
    """One snapshot.

    Attributes
    ----------
    stage : what there is to show
    searching : whether newer regions are being looked for while these are shown
    message : why it failed
    notice : what the last command did, in words
    slide : where pictures come from; None when it was not found
    found : regions and verdicts; None before the first search has ended
    temperature : that the scores were worked out at; None for the bundle's own
    current : place of the region at hand in ``regions``; None before the first is chosen
    draft : comment as it stands in the window
    unsaved : verdicts that the disk did not take
    """

    stage: Stage = Stage.NO_RUN
    searching: bool = False
    message: str = ""
    notice: str = ""
    maps: Maps | None = None
    slide: Slide | None = None
    overlays: tuple[Overlay, ...] = ()
    overlay: Overlay | None = None
    threshold: Threshold | None = None
    temperature: float | None = None
    order: Order = Order.SCORE
    min_tiles: int = 1
    found: Found | None = None
    matches: Matches | None = None
    current: int | None = None
    draft: str = ""
    reviewer: str = ""
    unsaved: int = 0

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions, ranked."""
        return self.found.regions if self.found is not None else ()

    @property
    def region(self) -> Region | None:
        """The region at hand."""
        return None if self.current is None else self.regions[self.current]

    @property
    def verdict(self) -> Verdict | None:
        """This reviewer's verdict on the region at hand."""
        region = self.region
        return None if region is None else self.verdict_on(region)

    def verdict_on(self, region: Region) -> Verdict | None:
        """This reviewer's verdict that applies to a region, also one given at another threshold."""
        return self.matches.verdict(region) if self.matches is not None else None

    def done(self, region: Region) -> bool:
        """Whether a region was judged as it is now, or nearly so."""
        return self.matches is not None and self.matches.done(region)

    @property
    def n_done(self) -> int:
        """Number of regions that were judged."""
        if self.matches is None or self.found is None:
            return 0
        # Verdicts are few and regions may be many.
        places = (self.found.places.get(key) for key in self.matches.by_key)
        return sum(self.done(self.regions[i]) for i in places if i is not None)

    def differs(self, old: QueueState | None, *names: str) -> bool:
        """Whether any of these fields differs from another snapshot; True without one."""
        if old is None:
            return True
        pairs = ((getattr(self, name), getattr(old, name)) for name in names)
        return any(a is not b and (_by_identity(a) or a != b) for a, b in pairs)


def _by_identity(value: object) -> bool:
    return not isinstance(value, str | int | float | tuple | None)


class ReviewQueue:
    """Regions of the run that is shown in a session, and a reviewer's verdicts on them.

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
            self._look_up_threshold(session)

    def _forget(self, stage: Stage, maps: Maps | None) -> None:
        """Start anew with another run, or none."""
        self.keep_draft()
        self._wanted = None
        self._update(
            stage=stage, searching=False, message="", notice="", maps=maps, slide=None,
            overlays=(), overlay=None, threshold=None, temperature=None, found=None, matches=None,
            current=None, draft="", unsaved=0,
        )  # fmt: skip

    def _choose_overlay(self, maps: Maps, shown: Overlay | None) -> None:
        """Keep the score that was chosen, else take the one that is on screen, else OOD."""
        overlays = tuple(overlay for overlay in maps.overlays if overlay in SCORED)
        candidates = (self.state.overlay, shown, *reversed(overlays))
        overlay = next((o for o in candidates if o in overlays), None)
        self._update(overlays=overlays, overlay=overlay)

    def _look_up_threshold(self, session: State) -> None:
        overlay = self.state.overlay
        threshold = session.thresholds.get(overlay) if overlay is not None else None
        if threshold is None:
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
        if s.maps is None or s.threshold is None:
            return
        maps, session = s.maps, self._session
        same_run = s.found is not None and s.found.query.maps is maps
        store = s.found.store if s.found is not None and same_run and not new_store else None
        self._wanted = Query(
            maps, lambda: session.scored(maps), s.threshold, s.min_tiles, s.order.value,
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
                stage=Stage.FAILED, message=search.error or "", found=None, matches=None,
                current=None, searching=False,
            )  # fmt: skip
            return
        found, region = search.found, self.state.region
        # A verdict that was given while the search went on may not be in what it has matched.
        same = self._n_written == search.query.n_written
        matches = found.matches if same else found.store.match(found.regions)
        self._update(
            stage=Stage.READY if found.regions else Stage.EMPTY, message="", found=found,
            matches=matches, current=place_of(region, found), searching=False,
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

    # ---------------------------------------------------------------- verdicts

    def judge(
        self, kind: Kind, *, label: str | None = None, artefact: Artefact | None = None
    ) -> None:
        """Give a verdict on the region at hand, save it, and go on to the next one."""
        if self.state.region is None:
            self._update(notice="First go to a region: press N or click on one.")
        elif self._save(kind, label, artefact, self.state.draft):
            self._go_on()

    def set_draft(self, text: str) -> None:
        """Take over the comment as it is being typed; a verdict brings it along."""
        self._update(draft=text)

    def keep_draft(self) -> None:
        """Save a comment that was typed: with the verdict there is, else as one of ‘skip’."""
        from napari_ood.review.verdicts import Kind

        if self.state.region is None or self.state.draft.strip() == self._comment():
            return
        given = self.state.verdict
        if given is None:
            self._save(Kind.SKIP, None, None, self.state.draft)
        else:
            self._save(given.kind, given.label, given.artefact, self.state.draft)

    def _comment(self) -> str:
        return self.state.verdict.comment if self.state.verdict is not None else ""

    def _save(self, kind: Kind, label: str | None, artefact: Artefact | None, comment: str) -> bool:
        from napari_ood.review.matching import Match
        from napari_ood.review.verdicts import Verdict

        s = self.state
        assert s.region is not None and s.found is not None and s.matches is not None
        try:
            verdict = Verdict.of(
                s.region, kind, reviewer=s.found.store.reviewer, label=label, artefact=artefact,
                comment=comment.strip(), threshold=s.found.query.threshold.value,
            )  # fmt: skip
        except ReviewError as error:
            self.failed.emit(str(error))
            return False
        self._write(lambda store: store.add(verdict))
        others = (m for m in s.matches.of(s.region) if m.verdict.region_key != s.region.key)
        key = s.region.key
        self._update(
            matches=replace(
                s.matches,
                by_key={**s.matches.by_key, key: (Match(verdict, 1.0), *others)},
                seen={**s.matches.seen, key: 1.0},
            ),
            draft=verdict.comment,
            notice=f"{_place(s)}: {verdict.category}.",
        )
        return True

    def undo(self) -> None:
        """Take back this reviewer's last verdict, also one of before a restart, and go there."""
        self._step_back(lambda store: store.undo(), "Undone", "Nothing to undo.")

    def redo(self) -> None:
        """Bring back what was undone last."""
        self._step_back(lambda store: store.redo(), "Redone", "Nothing to redo.")

    def _step_back(
        self, step: Callable[[ReviewStore], Verdict | None], word: str, nothing: str
    ) -> None:
        found = self.state.found
        if found is None:
            return
        # A comment that is being typed belongs to what is on screen now.
        self.keep_draft()
        saved, verdict = self._write(step)
        if saved and verdict is None:
            self._update(notice=nothing)
            return
        self._update(matches=found.store.match(found.regions))
        self._update(draft=self._comment())
        if verdict is None:
            return
        place = place_of(verdict, found)
        if place is None:
            self._update(notice=f"{word}: {verdict.category}, of a region that is not listed now.")
            return
        self.choose(place)
        self._update(notice=f"{word}: {_place(self.state)}, {verdict.category}.")

    def _write(self, step: Callable[[ReviewStore], T]) -> tuple[bool, T | None]:
        """Change the store; what the disk does not take counts all the same and is told."""
        found = self.state.found
        assert found is not None
        self._n_written += 1
        saved, result = False, None
        try:
            result = step(found.store)
            saved = True
        except ReviewError as error:
            self.failed.emit(str(error))
        self._update(unsaved=found.store.unsaved)
        return saved, result

    def save_again(self) -> None:
        """Try once more to save what the disk did not take."""
        if self.state.found is not None:
            self._write(lambda store: store.save())

    def save_to(self, folder: Path) -> None:
        """Go on in another folder, with all that was done so far."""
        found = self.state.found
        if found is None:
            return
        _, moved = self._write(lambda store: store.save_to(folder))
        if moved is not None:
            self._update(found=replace(found, store=moved), unsaved=moved.unsaved)
            self._update(notice=f"Saved in {moved.path}.")

    # ---------------------------------------------------------------- all reviewers

    def all_verdicts(self) -> Mapping[str, tuple[Verdict, ...]]:
        """Latest verdicts of every reviewer, read anew; nothing where that fails, which is told."""
        found = self.state.found
        try:
            return found.store.all_verdicts() if found is not None else {}
        except OodError as error:
            self.failed.emit(str(error))
            return {}

    def close(self) -> None:
        """Save what was typed; look for nothing any more. May be called more than once."""
        self.keep_draft()
        self._wanted = None


def place_of(sought: Region | Verdict | None, found: Found) -> int | None:
    """Place of the region that has the peak of another region or of a verdict; None if none has."""
    if sought is None:
        return None
    if sought.key in found.places:
        return found.places[sought.key]
    row, col = sought.peak_cell
    for i, region in enumerate(found.regions):
        cells = region.cells  # row by row, so the first and the last say which rows there are
        if cells[0, 0] <= row <= cells[-1, 0] and (cells == (row, col)).all(axis=1).any():
            return i
    return None


def _is_running(session: State, maps: Maps) -> bool:
    """Whether the run that is shown is still growing."""
    output = session.output
    return session.phase is not Phase.IDLE and output is not None and output.path == maps.path


def _place(state: QueueState) -> str:
    return f"{(state.current or 0) + 1} of {len(state.regions)}"
