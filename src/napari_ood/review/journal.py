"""A file of JSON lines that only ever grows, safe against a crash at any moment.

Each record is one write to a file opened for appending, then fsync. It begins with a line break, so
that whatever a crash left half-written before it stays a line of its own; nothing is ever
rewritten. Two processes may append to one file.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_ood.errors import ReviewError

Record = dict[str, Any]


class Journal:
    """The records of one file, read as far as it has grown.

    Parameters
    ----------
    path : Path
        Of the file, which need not exist yet.
    check : callable
        Raises ReviewError for a record that can't be accepted; nothing is taken in then.

    Attributes
    ----------
    path : Path
    records : list of dict, in the order of the file
    damaged : list of str, lines that are no records (cut off by a crash); they stay in the file
    """

    def __init__(self, path: Path, check: Callable[[Record], None]) -> None:
        self.path = path
        self._check = check
        self.records: list[Record] = []
        self.damaged: list[str] = []
        self._tail = b""
        self._offset = 0

    @property
    def torn(self) -> str | None:
        """The last line, if it was cut off; None if the file ends as it should."""
        return self._tail.decode(errors="replace") or None

    def refresh(self) -> None:
        """Read what was appended since.

        Raises
        ------
        ReviewError
            If the file cannot be read, or has become shorter.
        """
        try:
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size < self._offset:
                    raise ReviewError(
                        f"{self.path} was cut short by another program: open the review again"
                    )
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            if self._offset:
                raise ReviewError(
                    f"{self.path} was moved or deleted: put it back, or open the review again"
                ) from None
            return
        except OSError as error:
            raise ReviewError(
                f"cannot read {self.path} ({error.strerror or error}): make it readable"
            ) from error
        *lines, tail = data.split(b"\n")
        # A record that lacks nothing but its line break counts; the next one will end its line.
        if _parse(tail) is not None:
            lines, tail = [*lines, tail], b""
        parsed = [(line, _parse(line)) for line in lines if line]
        for _, record in parsed:
            if record is not None:
                self._check(record)
        self.records += [record for _, record in parsed if record is not None]
        self.damaged += [line.decode(errors="replace") for line, record in parsed if record is None]
        self._offset, self._tail = self._offset + len(data) - len(tail), tail

    def append(self, record: Record) -> None:
        """Write a record; when this returns, it is on the disk.

        Raises
        ------
        OSError
            If it could not be written in whole. What was written before is untouched.
        """
        line = b"\n" + json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        new = not self.path.exists()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
        file = os.open(self.path, flags, 0o666)
        try:
            # One write, never the rest of one: another process may have appended in between.
            if os.write(file, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file)
        finally:
            os.close(file)
        if new:
            _sync_folder(self.path.parent)


def _parse(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _sync_folder(folder: Path) -> None:
    """Make a new file's name durable, where the system has a way to ask for that."""
    if os.name == "posix":
        file = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
