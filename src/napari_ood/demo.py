"""The demo without a window: sample slide → run → how well the scores find what was planted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import RunError
from napari_ood.evaluation.metrics import ood_auroc
from napari_ood.inference import open_run, run_slide
from napari_ood.models import load_bundle
from napari_ood.samples import Truth, load_truth, synthetic_slide
from napari_ood.slides import open_slide

if TYPE_CHECKING:
    from napari_ood.inference import Progress, Run

BUNDLE = "synthetic-he"
SUMMARY = "summary.json"
MIN_SHARE = 0.5
"""A tile is of a planted kind, or of a tissue class, if that covers at least this share of it."""


@dataclass(frozen=True)
class TileTruth:
    """Truth per tile of a run.

    Attributes
    ----------
    in_distribution : numpy.ndarray
        ``[N]`` bool, tiles without a planted pixel. Tiles that are neither this nor of a kind
        (a planted region covers less than half of them) count nowhere.
    kinds : dict of str to numpy.ndarray
        ``[N]`` bool per planted kind.
    tissue : numpy.ndarray
        ``[N]`` int, class of the tissue as in the run, -1 where none covers half of the tile.
    """

    in_distribution: NDArray[np.bool_]
    kinds: dict[str, NDArray[np.bool_]]
    tissue: NDArray[np.int64]


def run_demo(
    out: str | Path,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    slide_path: str | Path | None = None,
    device: str = "auto",
    on_drawing: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Run the sample bundle over the sample slide and compare its scores with the truth.

    Writes ``OUT/<slide name>.ood.zarr``, anew each time, and ``OUT/summary.json``.

    Parameters
    ----------
    out : str or Path
        Folder for the results; created if missing.
    on_progress : callable, optional
        Listener of the run.
    slide_path : str or Path, optional
        Another procedural slide with its truth beside it.
    device : str
        As ``run_slide`` takes it.
    on_drawing : callable, optional
        Called with the share (0–1) of the sample slide that is drawn, the first time.

    Returns
    -------
    dict
        The summary: paths, ``n_tiles``, ``tiles_per_s``, ``seconds``, ``device``, ``accuracy`` of
        the tissue classes on in-distribution tiles, tiles per kind, and AUROC ``overall`` and per
        kind of the bundle's OOD score (``ood_auroc``) and uncertainty (``uncertainty_auroc``).

    Raises
    ------
    OodError
        If the slide cannot be drawn, or the run cannot be written.
    """
    path = Path(slide_path) if slide_path is not None else synthetic_slide(on_drawing)
    truth = load_truth(path)
    bundle = load_bundle(BUNDLE)
    folder = Path(out)
    with open_slide(path) as slide:
        target = folder / f"{slide.name}.ood.zarr"
        _make_room(target)
        # In one precision everywhere: what the demo finds is told in the docs.
        run = run_slide(
            slide, bundle, target, device=device, on_progress=on_progress, precision="fp32"
        )
    summary = summarise(run, truth)
    (folder / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", "utf-8")
    return summary


def summarise(run: Run, truth: Truth) -> dict[str, Any]:
    """Summary of a run on a slide whose truth is known; see :func:`run_demo`."""
    tiles = truth_of_tiles(run, truth)
    session = run.provenance["sessions"][-1]
    known = tiles.in_distribution & (tiles.tissue >= 0)
    right = run.prediction()[known] == tiles.tissue[known]
    return {
        "slide": run.provenance["slide"]["path"],
        "bundle": run.provenance["bundle"]["name"],
        "run": str(run.path),
        "device": session["device"],
        "n_tiles": run.n_tiles,
        "seconds": round(session["seconds"], 2),
        "tiles_per_s": round(session["tiles_per_s"], 1),
        "accuracy": round(float(right.mean()), 4) if len(right) else None,
        "ood_score": run.score_name("ood"),
        "uncertainty_score": run.score_name("uncertainty"),
        "tiles": {
            "in_distribution": int(tiles.in_distribution.sum()),
            **{kind: int(mask.sum()) for kind, mask in tiles.kinds.items()},
        },
        "ood_auroc": foreign_auroc(run.score("ood"), tiles),
        "uncertainty_auroc": foreign_auroc(run.score("uncertainty"), tiles),
    }


def truth_of_tiles(run: Run, truth: Truth) -> TileTruth:
    """Look up the truth under each tile of a run."""
    shares = truth.foreign_share(run.boxes)
    tissue = truth.tissue_share(run.boxes)
    by_class = np.stack([tissue.get(name, np.zeros(run.n_tiles)) for name in run.classes], axis=1)
    best = by_class.argmax(axis=1)
    return TileTruth(
        in_distribution=np.sum(list(shares.values()), axis=0) == 0,
        kinds={kind: share >= MIN_SHARE for kind, share in shares.items()},
        tissue=np.where(by_class.max(axis=1) >= MIN_SHARE, best, -1).astype(np.int64),
    )


def foreign_auroc(scores: NDArray[np.float32], tiles: TileTruth) -> dict[str, float | None]:
    """AUROC of a score, foreign against in-distribution tiles: overall and per kind.

    None where a kind has no tile, e.g. on a small slide.
    """
    inside = scores[tiles.in_distribution]
    masks = {"overall": np.any(list(tiles.kinds.values()), axis=0), **tiles.kinds}
    return {
        name: round(ood_auroc(inside, scores[mask]), 4) if mask.any() and len(inside) else None
        for name, mask in masks.items()
    }


def _make_room(target: Path) -> None:
    """Create the folder of the results and delete the run of an earlier demo."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            open_run(target)  # nothing but a run is deleted
            shutil.rmtree(target)
    except OSError as error:
        raise RunError(
            f"cannot write the demo to {target.parent} ({error.strerror or error}): "
            "choose another folder with --out"
        ) from error
