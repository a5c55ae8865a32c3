"""Files that appear whole or not at all, and work that can be watched and cancelled."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from napari_ood.errors import ExportCancelled, ExportError
from napari_ood.files import replacing


@dataclass(frozen=True)
class ExportProgress:
    """How far an export is.

    Attributes
    ----------
    format : the format that is being written
    done, total : steps of this format
    """

    format: str
    done: int
    total: int


Listener = Callable[[ExportProgress], None]
Step = Callable[[int, int], None]
"""Called with (done, total) between pieces of work; raises ExportCancelled."""


def watched(
    name: str, on_progress: Listener | None = None, cancel: Callable[[], bool] | None = None
) -> Step:
    """Return what a writer calls between pieces of work: it tells, and stops when asked to."""

    def step(done: int, total: int) -> None:
        if cancel is not None and cancel():
            raise ExportCancelled("the export was cancelled; files that were finished are kept")
        if on_progress is not None:
            on_progress(ExportProgress(name, done, total))

    return step


def unwatched(done: int, total: int) -> None:
    """Do nothing: the step of a writer that nobody watches."""


@dataclass
class Pieces:
    """Work that is counted in pieces, and that asks within a piece, too, whether to stop.

    Attributes
    ----------
    step : told of every piece
    total : number of pieces
    done : those that are finished
    """

    step: Step
    total: int
    done: int = 0

    def look(self) -> None:
        """Go on or not: ExportCancelled if the export was cancelled."""
        self.step(self.done, self.total)

    def finished(self) -> None:
        """Count a piece, and look."""
        self.done = min(self.done + 1, self.total)
        self.look()

    def cancelled(self) -> bool:
        """Look as work does that is asked to stop and does not raise; :meth:`look` after it."""
        try:
            self.look()
        except ExportCancelled:
            return True
        return False


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a path to write to; what lies there takes the place of ``path`` when all went well.

    Raises
    ------
    ExportError
        If the disk is full or not writable. ``path`` is then as it was.
    """
    try:
        with replacing(path) as partial:
            yield partial
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
    except OSError as error:
        raise disk_error(path, error) from error


@contextmanager
def new_folder(path: Path, ours: Callable[[Path], bool]) -> Iterator[Path]:
    """Give a folder path to fill; it takes the place of ``path`` when all went well.

    Parameters
    ----------
    path : Path
    ours : tells whether an existing folder is an earlier export, which may be replaced

    Raises
    ------
    ExportError
        If something else lies there, or the disk is full or not writable.
    """
    if path.exists() and not ours(path):
        raise ExportError(f"{path} exists and is no export of napari-ood: choose another folder")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        yield partial
        if path.exists():
            path.rename(old)
        try:
            partial.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)


def disk_error(path: Path, error: OSError) -> ExportError:
    """Say what to do about a failed write."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ExportError(f"the disk is full, {path} was not written: free space and export again")
    return ExportError(
        f"cannot write {path} ({error.strerror or error}): choose another output folder"
    )
