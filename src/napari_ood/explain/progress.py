"""Progress and cancelling, shared by all methods."""

from __future__ import annotations

from collections.abc import Callable

from napari_ood.errors import ExplainCancelled


class Steps:
    """Counts forward batches: reports the share that is done, and stops when cancelled.

    Parameters
    ----------
    on_progress : called with the share, 0 to 1, never falling
    cancel : polled before every forward batch
    """

    def __init__(
        self,
        on_progress: Callable[[float], None] | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> None:
        self._on_progress, self._cancel = on_progress, cancel
        self._start, self._stop, self._n, self._done = 0.0, 1.0, 1, 0
        self._reported = 0.0

    def part(self, index: int, n_parts: int) -> None:
        """Say which of equal parts of the work begins."""
        self._start, self._stop = index / n_parts, (index + 1) / n_parts
        self._n, self._done = 1, 0

    def expect(self, n: int) -> None:
        """Say how many forward batches this part takes."""
        self._n = max(1, n)

    def tick(self) -> None:
        """One forward batch begins. Raises ExplainCancelled."""
        if self._cancel is not None and self._cancel():
            raise ExplainCancelled("the explanation was cancelled")
        share = min(self._done / self._n, 1.0)
        self._report(self._start + share * (self._stop - self._start))
        self._done += 1

    def finish(self) -> None:
        """All is done."""
        self._report(1.0)

    def _report(self, share: float) -> None:
        if self._on_progress is not None and share >= self._reported:
            self._reported = share
            self._on_progress(share)
