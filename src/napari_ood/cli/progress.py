"""Progress on stderr: one line that updates itself on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from napari_ood.inference import Progress

TERMINAL_INTERVAL_S = 0.2
LOG_INTERVAL_S = 10.0


class ProgressLine:
    """Listener of a run; ``close`` it when the run has ended, whichever way."""

    def __init__(self, name: str, stream: TextIO | None = None) -> None:
        self._name = name
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._interval = TERMINAL_INTERVAL_S if self._terminal else LOG_INTERVAL_S
        self._shown_at = float("-inf")

    def __call__(self, progress: Progress) -> None:
        """Show the progress unless the last line is too recent."""
        now = time.monotonic()
        if now - self._shown_at >= self._interval or progress.n_done == progress.n_total:
            self._shown_at = now
            self._show(describe(self._name, progress))

    def close(self) -> None:
        """End the updating line, so that what follows starts on its own."""
        if self._terminal and self._shown_at > float("-inf"):
            print(file=self._stream, flush=True)

    def _show(self, text: str) -> None:
        if self._terminal:
            columns = shutil.get_terminal_size().columns - 1
            print(f"\r{text[:columns]:<{columns}}", end="", file=self._stream, flush=True)
        else:
            print(text, file=self._stream, flush=True)


def describe(name: str, progress: Progress) -> str:
    """Return e.g. ``CMU-1: 1,024/9,131 tiles, 95.9 tiles/s, 1:24 left``."""
    text = f"{name}: {progress.n_done:,}/{progress.n_total:,} tiles"
    if progress.tiles_per_s:
        text += f", {progress.tiles_per_s:.1f} tiles/s"
    if progress.seconds_left is not None and progress.n_done < progress.n_total:
        text += f", {clock(progress.seconds_left)} left"
    return text


def clock(seconds: float) -> str:
    """Return ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
