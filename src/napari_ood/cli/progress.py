"""Progress on stderr: one line that updates itself on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from napari_ood.inference import Progress

TERMINAL_INTERVAL_S = 0.2
LOG_INTERVAL_S = 10.0


class StatusLine:
    """A line of status that replaces the one before; leave its ``with`` block to end it.

    Where the stream is no terminal, lines follow one another, ``LOG_INTERVAL_S`` apart.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._interval = TERMINAL_INTERVAL_S if self._terminal else LOG_INTERVAL_S
        self._shown_at = float("-inf")

    def __enter__(self) -> StatusLine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._terminal and self._shown_at > float("-inf"):
            print(file=self._stream, flush=True)

    def show(self, text: str, last: bool = False) -> None:
        """Show ``text`` unless the line before it is too recent; the ``last`` one always."""
        now = time.monotonic()
        if now - self._shown_at < self._interval and not last:
            return
        self._shown_at = now
        if self._terminal:
            columns = shutil.get_terminal_size().columns - 1
            print(f"\r{text[:columns]:<{columns}}", end="", file=self._stream, flush=True)
        else:
            print(text, file=self._stream, flush=True)

    def keep(self, text: str) -> None:
        """Show a line that stays; the status goes on below it."""
        if self._terminal and self._shown_at > float("-inf"):
            columns = shutil.get_terminal_size().columns - 1
            print(f"\r{text:<{columns}}", file=self._stream, flush=True)
            self._shown_at = float("-inf")  # the status line is gone
        else:
            print(text, file=self._stream, flush=True)

    def show_run(self, name: str, progress: Progress) -> None:
        """Show the progress of a run."""
        self.show(describe(name, progress), last=progress.n_done == progress.n_total)


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
