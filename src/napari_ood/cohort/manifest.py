"""The manifest: one JSON file that says what became of every slide."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from napari_ood.errors import RunError
from napari_ood.files import replacing
from napari_ood.inference.store import disk_error

MANIFEST = "cohort.json"
FORMAT_VERSION = 1
DONE, FAILED, CANCELLED, NOT_BEGUN = "done", "failed", "cancelled", "not begun"
"""Outcomes of a slide. ``cancelled``: not all of it was run; ``not begun``: no worker came to it.
The same call goes on."""


def counts(slides: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many slides had which outcome, and tiles: in their runs, and computed by this call."""
    slides = list(slides)
    outcomes = [slide["outcome"] for slide in slides]
    return {
        "slides": len(slides),
        **{outcome: outcomes.count(outcome) for outcome in (DONE, FAILED, CANCELLED, NOT_BEGUN)},
        "tiles": sum(slide["n_tiles"] for slide in slides),
        "new_tiles": sum(slide["n_new"] for slide in slides),
    }


def summary(
    facts: Mapping[str, Any], slides: list[dict[str, Any]], ended: str | None = None
) -> dict[str, Any]:
    """The manifest: what holds for the cohort, and the records of this call's slides."""
    return {**facts, "ended": ended, "counts": counts(slides), "slides": slides}


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> Path:
    """Write ``cohort.json``; whoever reads it sees the old one or the new one, whole.

    Raises
    ------
    RunError
        If it cannot be written.
    """
    path = folder / MANIFEST
    text = json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False)
    try:
        with replacing(path) as partial:
            partial.write_text(text + "\n", "utf-8")
    except OSError as error:
        raise disk_error(path, error, begun=False) from error
    return path


def read_manifest(path: str | Path) -> dict[str, Any]:
    """Read the manifest of a cohort, by its folder or its own path.

    Raises
    ------
    RunError
        If there is none, or it is of a version that this one cannot read.
    """
    path = Path(path)
    file = path / MANIFEST if path.is_dir() else path
    try:
        manifest: dict[str, Any] = json.loads(file.read_text("utf-8"))
        version = manifest["format_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file} is no manifest of a cohort: {error}") from error
    if version != FORMAT_VERSION:
        raise RunError(f"{file} has format {version}, this napari-ood reads {FORMAT_VERSION}")
    return manifest


def differing_versions(workers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Packages of which not all workers have the same version: their results may differ in bits."""
    names = {name for worker in workers.values() for name in worker["versions"]}
    return sorted(
        name for name in names if len({w["versions"].get(name) for w in workers.values()}) > 1
    )


def merged_session(sessions: list[dict[str, Any]]) -> dict[str, Any]:
    """One session record out of those of a slide's parts, which ran beside one another.

    Busy seconds of the stages are summed over workers; ``seconds`` are those of the clock.
    """
    began = min(session["started"] for session in sessions)
    ended = max(session["ended"] for session in sessions)
    clock = (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds()
    # The stamps are whole seconds.
    seconds = max(clock, *(session["seconds"] for session in sessions))
    n_tiles = sum(session["n_tiles"] for session in sessions)
    stages = {name for session in sessions for name in session["stage_seconds"]}
    return {
        "started": began,
        "ended": ended,
        "device": _joined(sessions, "device"),
        "batch_size": max(session["batch_size"] for session in sessions),
        "n_tiles": n_tiles,
        "seconds": seconds,
        "tiles_per_s": n_tiles / seconds,
        "stage_seconds": {
            stage: sum(session["stage_seconds"][stage] for session in sessions)
            for stage in sorted(stages)
        },
        "machine": _joined(sessions, "machine"),
        "tasks": len(sessions),
    }


def now() -> str:
    """Time stamp, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _joined(sessions: list[dict[str, Any]], key: str) -> str:
    return ", ".join(sorted({str(session[key]) for session in sessions}))
