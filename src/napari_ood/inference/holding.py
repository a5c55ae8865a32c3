"""One writer at a time: a file beside a run, or in a cohort's folder, that says who writes there.

It is created in one go or not at all, which shared file systems grant as well, unlike locks. What
a process left that was killed is taken over, where this machine can tell that it is gone.
"""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from napari_ood.errors import RunError
from napari_ood.inference.process import Process
from napari_ood.inference.store import disk_error

WHOLE_FOLDER = ".cohort.lock"
"""In a cohort's folder: all runs in it are written by the cohort."""
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
WRITING_S = 1.0
"""How long a file may stay empty that another process has just created."""
TRIES, WAIT_S = 100, 0.02
"""Others may take over what was left, or end, at the same moment."""


class HeldError(RunError):
    """Another process writes there."""


@dataclass(frozen=True)
class Holder:
    """Who writes, since when (ISO 8601, UTC)."""

    process: Process
    since: str
    token: str

    @classmethod
    def this(cls) -> Holder:
        """The process that asks, from now on."""
        since = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(Process.this(), since, uuid4().hex)


_UNKNOWN = Holder(Process("", "", "", 0, ""), "", "")


@contextmanager
def holding_run(run: Path) -> Iterator[None]:
    """Be the only one who writes a run.

    Raises
    ------
    HeldError
        If another process writes it, or all runs in its folder.
    RunError
        If nothing can be written there.
    """
    run = run.absolute()
    # Both look for the other's file after having made their own: one of them sees it.
    with _held(_beside(run), run):
        _check(run.parent / WHOLE_FOLDER, run.parent)
        yield


@contextmanager
def holding_folder(folder: Path) -> Iterator[None]:
    """Be the only one who writes runs in a folder, with all who help.

    Who helps has to look whether a run is written by somebody else: ``check_run``.

    Raises
    ------
    HeldError
        If another process does.
    RunError
        If nothing can be written there.
    """
    folder = folder.absolute()
    with _held(folder / WHOLE_FOLDER, folder):
        yield


def check_run(run: Path) -> None:
    """Raise HeldError where a process writes just this run."""
    _check(_beside(run.absolute()), run)


def is_folder_held(folder: Path) -> bool:
    """Whether somebody writes all runs in a folder, for all that can be told from here."""
    holder = _holder(folder / WHOLE_FOLDER)
    return holder is not None and _may_run(holder)


def _may_run(holder: Holder) -> bool:
    return holder == _UNKNOWN or holder.process.runs() is not False


def _beside(run: Path) -> Path:
    return run.with_name(f".{run.name}.lock")


def _check(lock: Path, what: Path) -> None:
    holder = _holder(lock)
    if holder is not None and _may_run(holder):
        raise _error(lock, what, holder)


@contextmanager
def _held(lock: Path, what: Path) -> Iterator[None]:
    this = Holder.this()
    made = [folder for folder in lock.parents if not folder.exists()]
    try:
        try:
            _take(lock, what, this)
        except OSError as error:
            # A run that is complete is looked at where nothing can be written, too.
            if not (error.errno in READ_ONLY and what.exists()):
                raise disk_error(what, error, begun=False) from error
        yield
    finally:
        if _holder(lock) == this:
            _remove(lock)
        for folder in made:
            with suppress(OSError):
                folder.rmdir()  # nothing was begun there, or this fails


def _take(lock: Path, what: Path, this: Holder) -> None:
    """Create the file; takes it over from a process that is gone."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(TRIES):
        try:
            _create(lock, this)
        except FileExistsError:
            holder = _holder(lock)
        else:
            return
        if holder is None:
            continue  # its owner has just ended
        if _may_run(holder):
            raise _error(lock, what, holder)
        _put_away(lock, holder, this)
    raise HeldError(f"several programs begin to write {what} at once: run one of them")


def _create(lock: Path, this: Holder) -> None:
    with lock.open("x", encoding="utf-8") as file:
        try:
            json.dump(asdict(this), file)
            file.flush()
        except OSError:
            _remove(lock)
            raise


def _put_away(lock: Path, left: Holder, this: Holder) -> None:
    """Remove what a dead process left, unless somebody else is about to: then wait a moment.

    Only who has the guard removes it, and it is looked at again: it may be a live one's by now.
    """
    guard = lock.with_name(f"{lock.name}.guard")
    try:
        _create(guard, this)
    except FileExistsError:
        time.sleep(WAIT_S)
        owner = _holder(guard)
        if owner is not None and not _may_run(owner):
            _remove(guard)  # killed in the millisecond that this takes
        return
    try:
        if _holder(lock) == left:
            _remove(lock)
    finally:
        _remove(guard)


def _remove(lock: Path) -> None:
    for _ in range(TRIES):
        try:
            lock.unlink(missing_ok=True)
        except PermissionError:  # on Windows, while somebody reads it
            time.sleep(WAIT_S)
        except OSError:
            return  # told by what is written there
        else:
            return


def _holder(lock: Path) -> Holder | None:
    """Who made a file; None where there is none, ``_UNKNOWN`` where it does not say."""
    until = time.monotonic() + WRITING_S
    while True:
        try:
            data = json.loads(lock.read_text("utf-8"))
            return Holder(Process(**data.pop("process")), **data)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            if time.monotonic() > until:
                return _UNKNOWN
            time.sleep(WRITING_S / 20)


def _error(lock: Path, what: Path, holder: Holder) -> HeldError:
    if holder == _UNKNOWN:
        who, alive = "another napari-ood, which does not say more", None
    else:
        process, since = holder.process, holder.since.replace("T", " ").replace("+00:00", " UTC")
        who = f"process {process.pid} on {process.host} since {since}"
        alive = process.runs()
    remedy = "wait for it, stop it, or choose another output"
    if not alive:  # it cannot be told from here
        remedy += f"; if it is gone, delete {lock}"
    return HeldError(f"{what} is being written by {who}: {remedy}")
