"""``napari-ood info RUN``: what a run is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ood.models.precision import Arithmetic
from napari_ood.naming import FLOAT16, FLOAT32, NO_FEATURES

if TYPE_CHECKING:
    from napari_ood.inference import Run

BY_FEATURES = {
    FLOAT32: "as float32",
    FLOAT16: "as float16",
    NO_FEATURES: "none: prediction and uncertainty only, no OOD score",
}


def describe_run(path: Path) -> dict[str, Any]:
    """Return what ``info --json`` prints of a run. RunError where it is none."""
    from napari_ood import open_run

    run = open_run(path)
    record = run.provenance
    return {
        "run": str(path),
        "slide": record["slide"]["path"],
        "bundle": record["bundle"]["name"],
        "created": record.get("created"),
        "complete": run.complete,
        "n_tiles": run.n_tiles,
        "n_total": int(run.tissue.sum()),
        **run.arithmetic.to_dict(),
        **stored(run),
        "devices": sorted({session["device"] for session in record["sessions"]}),
        "warnings": list(record.get("warnings", ())),
    }


def stored(run: Run) -> dict[str, Any]:
    """How features are stored, and bytes on disk per tile."""
    sizes = {name: round(n) for name, n in run.bytes_per_tile().items()}
    return {"features": run.features_as, "bytes_per_tile": sizes}


def run_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the same as a table."""
    arithmetic = Arithmetic(facts["precision"], facts["layout"], facts["convolution"])
    how = str(arithmetic).replace("_", " ")
    return [
        ("run", facts["run"]),
        ("slide", facts["slide"]),
        ("bundle", facts["bundle"]),
        ("tiles", f"{facts['n_tiles']:,} of {facts['n_total']:,}"),
        ("precision", f"{how}, on {', '.join(facts['devices']) or '-'}"),
        ("features", BY_FEATURES[facts["features"]]),
        ("on disk", bytes_text(facts["bytes_per_tile"])),
        *(("warning", text) for text in facts["warnings"]),
    ]


def bytes_text(sizes: dict[str, int]) -> str:
    """Return e.g. ``2,310 bytes per tile (logits 102, features 2,190, other 18)``."""
    parts = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
    return f"{sum(sizes.values()):,} bytes per tile ({parts})"
