"""From a stored run to its row: shares, uncertainty, worst region. The network isn't run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.analysis.regions import find_regions
from napari_ood.analysis.scored import ScoredRun
from napari_ood.board.row import DONE, UNFINISHED, SlideRow, WorstRegion
from napari_ood.errors import OodError
from napari_ood.naming import run_name
from napari_ood.passport.check import Light
from napari_ood.passport.run_checks import FOREIGN_RED, FOREIGN_YELLOW

if TYPE_CHECKING:
    from napari_ood.inference import Run
    from napari_ood.models import Bundle
    from napari_ood.scores.thresholds import Threshold

ROLES = ("ood", "appearance", "tissue")
HIGH = 0.95
"""The quantile of the uncertainty that is told beside its mean."""


def measure_run(run: Run, bundle: Bundle | None, why_not: str = "") -> SlideRow:
    """Row of a run.

    Parameters
    ----------
    run : Run
    bundle : that made it; None where it is not at hand
    why_not : why it is not

    Raises
    ------
    RunError
        If the run's files are damaged.
    """
    slide: dict[str, Any] = run.provenance["slide"]
    scored = ScoredRun(run, bundle)
    row = SlideRow(
        name=run_name(run.path),
        slide=str(slide["path"]),
        run=str(run.path),
        outcome=DONE if run.complete else UNFINISHED,
        n_tiles=run.n_tiles,
        n_total=int(run.tissue.sum()),
        bundle=str(run.provenance["bundle"]["name"]),
        mpp=float(slide["mpp"][1]) if slide["mpp"] else None,
        objective=slide.get("objective"),
        fingerprint=str(slide["fingerprint"]),
        mm2=None if (area := scored.mm2_per_tile) is None else round(area * run.n_tiles, 4),
    )
    if not run.n_tiles:
        return replace(row, error="no tissue was found") if run.complete else row
    mean, high = _uncertainty(scored)
    row = replace(row, classes=_class_shares(scored), uncertainty=mean, uncertainty_95=high)
    if bundle is None:
        return replace(row, error=why_not or "its bundle is not at hand")
    if "ood" not in scored.roles:
        why = "its bundle has no reference" if run.has_features else "it was run without features"
        return replace(row, error=f"no OOD share: {why}")
    try:
        return _with_shares(row, scored)
    except OodError as error:
        return replace(row, error=str(error))


def light_of(shares: dict[str, float]) -> str:
    """Light of a slide by the passport's limits: of appearance and tissue if known, else of ood."""
    kinds = [shares[role] for role in ROLES[1:] if role in shares] or list(shares.values())
    if not kinds:
        return str(Light.GREY)
    worst = max(kinds)
    if worst >= FOREIGN_RED:
        return str(Light.RED)
    return str(Light.YELLOW if worst >= FOREIGN_YELLOW else Light.GREEN)


def _with_shares(row: SlideRow, scored: ScoredRun) -> SlideRow:
    thresholds = {role: scored.threshold(role) for role in ROLES if role in scored.roles}
    shares = {role: _share(scored, threshold) for role, threshold in thresholds.items()}
    known = {role: share for role, share in shares.items() if share is not None}
    worst = worst_region(scored, thresholds["ood"]) if "ood" in thresholds else None
    return replace(
        row,
        ood=known.get("ood"),
        appearance=known.get("appearance"),
        tissue=known.get("tissue"),
        light=light_of(known),
        worst=worst,
    )


def _share(scored: ScoredRun, threshold: Threshold) -> float | None:
    """Share of the tiles with a score that are above the threshold."""
    n_scored = int((~np.isnan(scored.score(threshold.score))).sum())
    return float(scored.flagged(threshold).sum()) / n_scored if n_scored else None


def worst_region(scored: ScoredRun, threshold: Threshold) -> WorstRegion | None:
    """The region of flagged tiles with the largest sum of score minus threshold.

    That sum, the mass of a cluster (Bullmore et al. 1999, IEEE Transactions on Medical Imaging
    18:32), weighs area and height: neither one odd tile nor a wide region just above the threshold
    beats a large region far above it.
    """
    flagged = scored.flagged(threshold)
    regions = find_regions(scored, flagged, threshold.score)
    if not regions:
        return None
    # Infinite scores are real (an empty class's covariance): all of them count alike.
    excess = np.nan_to_num(scored.score(threshold.score) - threshold.value32, posinf=1e30)
    masses = [float(excess[region.tiles].sum(dtype=np.float64)) for region in regions]
    worst = regions[int(np.argmax(masses))]
    peak = scored.run.grid.boxes(np.array([worst.peak_cell]))[0]
    return WorstRegion(
        box=worst.box,
        peak_box=_box(peak),
        n_tiles=worst.n_tiles,
        peak=_finite(worst.peak),
        excess=_finite(max(masses)),
        label=worst.label,
    )


def _box(values: NDArray[np.float64]) -> tuple[float, float, float, float]:
    y, x, h, w = values.tolist()
    return y, x, h, w


def _finite(value: float) -> float:
    """JSON knows no infinity."""
    return float(np.nan_to_num(value))


def _class_shares(scored: ScoredRun) -> tuple[tuple[str, float], ...]:
    known = scored.prediction()[~np.isnan(scored.confidence())]
    counts = np.bincount(known, minlength=len(scored.classes))
    shares = counts / max(1, len(known))
    return tuple(zip(scored.classes, shares.tolist(), strict=True))


def _uncertainty(scored: ScoredRun) -> tuple[float | None, float | None]:
    """Mean and quantile; None where the bundle has no such score or it needs the bundle."""
    try:
        values = scored.score("uncertainty")
    except OodError:
        return None, None
    values = values[np.isfinite(values)]
    if not len(values):
        return None, None
    return float(values.mean(dtype=np.float64)), float(np.quantile(values, HIGH))
