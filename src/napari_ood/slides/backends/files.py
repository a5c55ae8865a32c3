"""Positioned reads that many threads can share, on every operating system."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from napari_ood.errors import SlideError


class PositionedFile:
    """A read-only file with ``read_at``; uses ``os.pread`` where the system has it.

    Windows has no pread: there a lock guards seek + read, which is short beside decoding.
    """

    def __init__(self, path: Path, *, use_pread: bool = hasattr(os, "pread")) -> None:
        self._path = path
        self._file = path.open("rb", buffering=0)
        self._size = path.stat().st_size
        self._use_pread = use_pread
        self._lock = threading.Lock()
        self._n_readers = 0
        self._is_closed = False

    def read_at(self, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes from ``offset``; SlideError when the file ends before."""
        if offset + size > self._size:  # before memory for it is allocated
            raise SlideError(f"the file is {offset + size - self._size} bytes short: copy it again")
        self._enter()
        try:
            parts: list[bytes] = []
            missing = size
            while missing > 0:
                part = self._read_once(offset + size - missing, missing)
                if not part:
                    raise SlideError("the file has shrunk since it was opened: open it again")
                parts.append(part)
                missing -= len(part)
        finally:
            self._leave()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_once(self, offset: int, size: int) -> bytes:
        if self._use_pread:
            return os.pread(self._file.fileno(), size, offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.read(size) or b""

    def _enter(self) -> None:
        with self._lock:
            if self._is_closed:
                raise SlideError("the slide was closed; open it again")
            self._n_readers += 1

    def _leave(self) -> None:
        with self._lock:
            self._n_readers -= 1
            if self._is_closed and self._n_readers == 0:
                self._file.close()

    def close(self) -> None:
        """Close the file, after reads in other threads have ended; idempotent.

        Closing at once could let another file take over the descriptor that a thread is about to
        read from, and hand it foreign bytes.
        """
        with self._lock:
            self._is_closed = True
            if self._n_readers == 0:
                self._file.close()
