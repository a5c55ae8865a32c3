"""Sums over a cohort, kept up to date: to add all slides up for each report would take hours."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from napari_ood.cohort.plan import Job
from napari_ood.cohort.progress import CohortProgress
from napari_ood.cohort.track import Track


class Tally:
    """How far a cohort is. A slide's bytes say how much work it is before it is opened."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._started = time.monotonic()
        self._n_slides = len(jobs)
        self._bytes_done = 0.0  # of slides that were computed, in part or whole
        self._bytes_left = float(sum(job.size for job in jobs))
        self._n_tiles = self._n_done = self._n_failed = 0

    def ended(self, failed: bool) -> None:
        """Count a slide."""
        self._n_failed += failed
        self._n_done += not failed

    def moved(self, track: Track, share_before: float, n_works_before: int) -> None:
        """Count what a report added to a slide."""
        share, size, works = track.share, track.job.size, track.works
        self._n_tiles += sum(work.n_tiles for work in works[n_works_before:])
        self._bytes_left -= size * (share - share_before)
        if works:
            self._bytes_done += size * (share - (share_before if n_works_before else 0.0))

    def kept(self, n_tiles: int) -> None:
        """Count what a task had stored before it failed: it is not computed again."""
        self._n_tiles += n_tiles

    def progress(self, n_workers: int, under_way: Iterable[tuple[int, float]]) -> CohortProgress:
        """Where the cohort stands.

        Parameters
        ----------
        n_workers : that are there
        under_way : of each task that was begun: tiles stored, and the slide's bytes they stand for
        """
        seconds = max(time.monotonic() - self._started, 1e-9)
        stored = list(under_way)
        n_tiles = self._n_tiles + sum(n for n, _ in stored)
        size = sum(size for _, size in stored)
        computed, left = self._bytes_done + size, max(self._bytes_left - size, 0.0)
        return CohortProgress(
            n_slides=self._n_slides,
            n_done=self._n_done,
            n_failed=self._n_failed,
            n_tiles=n_tiles,
            n_workers=n_workers,
            seconds=seconds,
            tiles_per_s=n_tiles / seconds,
            seconds_left=left / computed * seconds if computed else None,
        )
