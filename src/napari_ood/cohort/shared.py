"""What workers share with the cohort: its folder, which a file shows them, and its end."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from napari_ood.errors import RunError
from napari_ood.inference.store import disk_error

TOKEN = ".cohort-"


class UnfitError(RunError):
    """This machine cannot do the cohort's work, whatever the slide: another one may."""


class StoppedError(RunError):
    """The cohort was stopped, and the task not begun."""

    def __init__(self) -> None:
        super().__init__("the cohort was stopped before this was begun")


@contextmanager
def token_in(folder: Path) -> Iterator[str]:
    """Path of a file that lies in the cohort's folder as long as the cohort goes on.

    To be called by who holds the folder: what cohorts left that were killed is cleared away.

    Raises
    ------
    RunError
        If it cannot be written.
    """
    # Of a new name: what a network file system knows of a folder may be seconds old.
    path = folder / f"{TOKEN}{uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"{TOKEN}*"):
            left.unlink(missing_ok=True)
        path.touch(exist_ok=False)
    except OSError as error:
        raise disk_error(folder, error, begun=False) from error
    try:
        yield str(path)
    finally:
        with suppress(OSError):
            path.unlink()


def check_shared(token: str | None) -> None:
    """Refuse to work where the runs would land on a disk that only this machine has.

    Raises
    ------
    UnfitError
        If the token is not there.
    """
    if token is not None and not Path(token).exists():
        raise UnfitError(
            f"{Path(token).parent} on {platform.node()} is not the cohort's folder: mount the "
            "shared one there, or stop that worker"
        )
