"""Folders with runs, as a cohort leaves them, without workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_ood import Bundle, open_slide, run_slide
from napari_ood.board import SlideRow
from napari_ood.cohort.manifest import FORMAT_VERSION

PX = 320
INK = (20, 60, 200)


def write_slide(
    path: Path, inked: float, seed: int, date: str | None = "2026:03:04 05:06:07"
) -> Path:
    """A slide of PX: tissue that the tiny bundle knows, its right share under flat ink."""
    rng = np.random.default_rng(seed)
    pixels = np.clip(rng.normal((200, 120, 180), 15, (PX, PX, 3)), 0, 255).astype(np.uint8)
    if inked:
        pixels[:, round(PX * (1 - inked)) :] = INK
    options: dict[str, Any] = {} if date is None else {"datetime": date}
    options |= {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(
        path, pixels, photometric="rgb", tile=(128, 128), compression="zlib", **options
    )
    return path


def write_cohort(folder: Path, slides: list[dict[str, Any]]) -> None:
    """A manifest with these records."""
    manifest = {"format_version": FORMAT_VERSION, "started": "2026-01-01T00:00:00+00:00",
                "ended": None, "slides": slides}  # fmt: skip
    (folder / "cohort.json").write_text(json.dumps(manifest))


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory, two_kinds_bundle: Bundle) -> Path:
    """Runs of three slides: clean, half under ink, all of it; one that failed, one never begun."""
    root = tmp_path_factory.mktemp("board")
    out = root / "out"
    out.mkdir()
    records: list[dict[str, Any]] = []
    for i, (name, inked) in enumerate({"clean": 0.0, "half": 0.5, "ink": 1.0}.items()):
        path = write_slide(root / f"{name}.tif", inked, i)
        with open_slide(path) as slide:
            run_slide(slide, two_kinds_bundle, out / f"{name}.ood.zarr", tissue=False, device="cpu")
        records.append({"slide": str(path), "run": str(out / f"{name}.ood.zarr"), "outcome": "done",
                        "n_tiles": 25, "n_total": 25, "error": None})  # fmt: skip
    records[1]["listed"] = {"scanner": "Lab B", "date": "2026-05-06", "group": "biopsy"}
    error = {"kind": "SlideError", "message": "it is <b>no</b> slide"}
    records.append({"slide": str(root / "bad.svs"), "run": str(out / "bad.ood.zarr"),
                    "outcome": "failed", "n_tiles": 0, "n_total": None,
                    "error": error})  # fmt: skip
    records.append({"slide": str(root / "later.svs"), "run": str(out / "later.ood.zarr"),
                    "outcome": "cancelled", "n_tiles": 0, "n_total": None,
                    "error": None})  # fmt: skip
    write_cohort(out, records)
    return out


def row(i: int, ood: float | None = 0.05, **more: Any) -> SlideRow:
    """A row that nobody measured."""
    facts: dict[str, Any] = {"n_tiles": 1000, "date": None, "scanner": "S", "ood": ood} | more
    return SlideRow(name=f"slide-{i:05}", slide=f"/s/{i}.svs", run=f"/r/{i}.ood.zarr",
                    outcome="done", **facts)  # fmt: skip
