"""Whether a cohort goes on, and how far it is, in words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_ood.cohort.manifest import MANIFEST, read_manifest
from napari_ood.errors import RunError
from napari_ood.inference.holding import is_folder_held

BEGUN = "A call of cohort has just begun here."
INTERRUPTED = "The cohort was interrupted: the same command goes on."


def state_of(folder: Path, manifest: Mapping[str, Any]) -> str:
    """A sentence on a cohort that goes on or was interrupted; "" for one that has ended.

    Parameters
    ----------
    folder : of the cohort
    manifest : as it was read; empty where there is none
    """
    ended = not manifest or manifest.get("ended") is not None
    if is_folder_held(folder):
        return BEGUN if ended else _progress(manifest.get("progress") or {})
    return "" if ended else INTERRUPTED


class StateReader:
    """Reads a cohort's state again and again; its manifest, which may be large, when it changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stamp: int | None = None
        self._manifest: dict[str, Any] = {}

    def read(self) -> str:
        """As ``state_of``."""
        file = self.folder / MANIFEST
        try:
            stamp = file.stat().st_mtime_ns
            if stamp != self._stamp:
                whole = read_manifest(file)
                self._manifest = {name: whole.get(name) for name in ("ended", "progress")}
                self._stamp = stamp
        except (OSError, RunError):
            self._stamp, self._manifest = None, {}
        return state_of(self.folder, self._manifest)


def _progress(progress: Mapping[str, Any]) -> str:
    if not progress:
        return "The cohort goes on."
    parts = [f"{progress['n_done']:,} of {progress['n_slides']:,} slides done"]
    if progress["n_failed"]:
        parts.append(f"{progress['n_failed']:,} failed")
    parts.append(f"{progress['n_tiles']:,} tiles at {progress['tiles_per_s']:.1f} per second")
    left = progress["seconds_left"]
    if left is not None:
        minutes = round(left / 60)
        parts.append(f"about {minutes:,} min left" if minutes else "less than a minute left")
    return f"The cohort goes on: {', '.join(parts)}."
