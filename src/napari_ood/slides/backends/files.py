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
        self._lock = threading.Lock()
        self._use_pread = use_pread

    def read_at(self, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes from ``offset``; SlideError when the file ends before."""
        parts: list[bytes] = []
        missing = size
        while missing > 0:
            part = self._read_once(offset + size - missing, missing)
            if not part:
                raise SlideError(
                    f"the file ends at byte {offset + size - missing}, "
                    f"{missing} bytes short: it is truncated; copy it again"
                )
            parts.append(part)
            missing -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_once(self, offset: int, size: int) -> bytes:
        try:
            if self._use_pread:
                return os.pread(self._file.fileno(), size, offset)
            with self._lock:
                self._file.seek(offset)
                return self._file.read(size) or b""
        except ValueError as error:
            raise SlideError(f"{self._path.name} was closed; open the slide again") from error

    def close(self) -> None:
        """Close the file; idempotent."""
        self._file.close()
