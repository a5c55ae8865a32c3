"""Rows that were measured before, in one file beside the manifest."""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from napari_ood.board.row import SlideRow
from napari_ood.files import replacing

CACHE = "board.jsonl"
"""One line per row, the latest counts: a line more costs the same however many there are."""
FORMAT_VERSION = 1
STALE_LINES = 1000
"""Outdated lines that are put up with, at least, before the file is written anew."""


def stamp_of(run: Path, bundle: str) -> str | None:
    """What a run's row depends on; None where there is no run.

    The run's own record holds what it was made from and all its sessions; which tiles it holds can
    change without it, but not once the run is complete.

    Parameters
    ----------
    run : folder
    bundle : hash of the weights, reference and card at hand, "" for none
    """
    try:
        record = (run / "zarr.json").read_bytes()
    except OSError:
        return None
    return blake2b(f"{FORMAT_VERSION} {bundle} ".encode() + record, digest_size=16).hexdigest()


class RowCache:
    """Measured rows by stamp; ``put`` appends them to a file, if that can be written.

    Paths in them are those of then, and not to be used: folders are moved. Safe to use from several
    threads and processes: a line is written in one go, and a damaged one passed over.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / CACHE
        self._lock = threading.Lock()
        self._rows: dict[str, dict[str, Any]] = {}
        self._n_lines = 0
        self._torn = False
        with suppress(OSError), self._path.open("rb") as lines:
            for line in lines:
                self._n_lines += 1
                self._torn = not line.endswith(b"\n")  # whoever wrote it was stopped half-way
                with suppress(ValueError, KeyError, TypeError):
                    entry = json.loads(line)
                    self._rows[entry["stamp"]] = entry["row"]

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, stamp: str) -> SlideRow | None:
        """The row of a stamp; None where it is not known."""
        data = self._rows.get(stamp)
        if data is None:
            return None
        try:
            return SlideRow.from_dict(data)
        except (KeyError, TypeError, ValueError):
            return None  # written by another version

    def put(self, stamp: str, row: SlideRow) -> None:
        """Keep a row; without a place to write to it is kept for this time."""
        line = json.dumps({"stamp": stamp, "row": row.as_dict()}, allow_nan=False) + "\n"
        with self._lock:
            self._rows[stamp] = json.loads(line)["row"]
            with suppress(OSError):
                # One write of one buffer in append mode: lines of two processes do not mix.
                handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
                try:
                    os.write(handle, ("\n" * self._torn + line).encode())
                    self._n_lines, self._torn = self._n_lines + 1, False
                finally:
                    os.close(handle)

    def tidy(self, used: set[str]) -> None:
        """Write the file anew without what is outdated, once that is most of it."""
        if self._n_lines <= max(2 * len(used), len(used) + STALE_LINES):
            return
        with self._lock, suppress(OSError):
            kept = {stamp: row for stamp, row in self._rows.items() if stamp in used}
            lines = (json.dumps({"stamp": s, "row": row}) + "\n" for s, row in kept.items())
            with replacing(self._path) as partial:
                partial.write_text("".join(lines), "utf-8")
            self._rows, self._n_lines = kept, len(kept)
