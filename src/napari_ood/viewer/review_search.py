"""Finding, ranking and matching regions in a thread: at a million tiles it takes seconds."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import OodError
from napari_ood.viewer.places import Places
from napari_ood.viewer.rematch import NOWHERE, Given, by_region, owners_of

if TYPE_CHECKING:
    from napari_ood.analysis.regions import Order, Region
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.review.matching import Matches
    from napari_ood.review.store import ReviewStore
    from napari_ood.scores.thresholds import Threshold
    from napari_ood.viewer.maps import Maps

log = logging.getLogger(__name__)

Regions = tuple["Region", ...]


@dataclass(frozen=True, eq=False)
class Query:
    """What is looked for: regions above a threshold, or certain places.

    ``scored`` opens the run with its scores; it is called in the thread. ``store`` is the open
    review, None to open it; ``n_written`` is how often it was written to before.
    """

    maps: Maps
    scored: Callable[[], ScoredRun | None]
    asked: Threshold | Places
    min_tiles: int
    order: Order
    reviewer: str
    store: ReviewStore | None = None
    n_written: int = 0

    @property
    def threshold(self) -> Threshold | None:
        """The threshold that regions lie above; None where certain places are reviewed."""
        return None if isinstance(self.asked, Places) else self.asked

    @property
    def level(self) -> float | None:
        """Value from which tiles count, for a verdict."""
        return self.asked.level if isinstance(self.asked, Places) else self.asked.value

    @property
    def limits(self) -> tuple[object, ...]:
        """What decides which regions there are in a run, in whatever order."""
        if isinstance(self.asked, Places):
            return id(self.asked), self.min_tiles
        return self.asked.score, self.asked.value, self.min_tiles

    def regions(self, scored: ScoredRun) -> Regions:
        """The regions, row by row."""
        from napari_ood.analysis.regions import find_regions

        if isinstance(self.asked, Places):
            return tuple(r for r in self.asked.regions if r.n_tiles >= self.min_tiles)
        score, value = self.asked.score, self.asked.value
        flagged = np.asarray(scored.score(score) > value)
        return find_regions(scored, flagged, score, self.min_tiles)


@dataclass(frozen=True, eq=False)
class Found:
    """What a search has found; ``unsorted`` are the regions row by row.

    ``places`` says by key where in ``regions`` a region is, ``owners`` [rows, cols] by tile;
    ``n_tiles`` and ``area_mm2`` (None without the slide's mpp) are those of all regions together.
    ``matches`` are those of the verdicts ``given``.
    """

    query: Query
    scored: ScoredRun
    unsorted: Regions
    regions: Regions
    places: Mapping[str, int]
    n_tiles: int
    area_mm2: float | None
    store: ReviewStore
    given: Given
    matches: Matches
    owners: NDArray[np.int32]

    def place_of(self, cell: tuple[int, int]) -> int | None:
        """Place of the region that has a tile; None where it is in none."""
        inside = all(0 <= at < n for at, n in zip(cell, self.owners.shape, strict=True))
        place = int(self.owners[cell]) if inside else NOWHERE
        return None if place == NOWHERE else place


class Search:
    """One search in a thread; polled from the GUI.

    Attributes
    ----------
    found : what it has found; None while it works and after an error
    error : one line for the user when it has failed
    """

    def __init__(self, query: Query, before: Found | None) -> None:
        self.query = query
        self.found: Found | None = None
        self.error: str | None = None
        self._before = before
        # Not a daemon: zarr killed half-way through a call takes the interpreter along.
        self._thread = threading.Thread(target=self._work, name="napari-ood regions")
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread is still working."""
        return self._thread.is_alive()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it has ended; whether it has."""
        self._thread.join(timeout)
        return not self.alive

    def _work(self) -> None:
        try:
            self.found = _search(self.query, self._before)
        except OodError as error:
            self.error = str(error)
        except Exception as error:
            if not threading.main_thread().is_alive():
                return  # the interpreter is ending; nobody is there to read it
            log.exception("search for regions failed")
            self.error = f"The regions cannot be listed: {type(error).__name__}: {error}"


def _search(query: Query, before: Found | None) -> Found:
    from napari_ood.analysis.regions import rank_regions
    from napari_ood.errors import RunError
    from napari_ood.review.matching import match_verdicts

    scored = query.scored()
    if scored is None:
        raise RunError("the run's file is not at hand: open the run again")
    if before is not None and before.scored is scored and before.query.limits == query.limits:
        unsorted = before.unsorted
    else:
        unsorted = query.regions(scored)
    regions = rank_regions(unsorted, query.order, scored)
    store = query.store or open_store(scored, query.reviewer)
    n_tiles = sum(region.n_tiles for region in regions)
    each = scored.mm2_per_tile
    area = None if each is None else each * n_tiles
    places = {region.key: place for place, region in enumerate(regions)}
    given = by_region(store.verdicts())
    matches = match_verdicts(regions, given.values())
    owners = owners_of(regions, query.maps.shape)
    return Found(
        query, scored, unsorted, regions, places, n_tiles, area, store, given, matches, owners
    )


def open_store(scored: ScoredRun, reviewer: str) -> ReviewStore:
    """The review of a run, beside it.

    Raises
    ------
    ReviewError
        If it cannot be read or belongs to another run.
    """
    from napari_ood.review import ReviewStore, review_folder, run_identity

    return ReviewStore(review_folder(scored.run.path), run_identity(scored.run), reviewer)
