"""Two runs of one slide side by side: where model v1 and v2, or raw and normalised, part ways."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.analysis.matching import TileMatch, match_tiles
from napari_ood.analysis.offered import ROLES
from napari_ood.errors import RunError
from napari_ood.scores import score_bounds

if TYPE_CHECKING:
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.inference import Run

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

LOW, MIDDLE, HIGH = 0.05, 0.5, 0.95
"""Quantiles of in-distribution tiles: those of the colour bars and of ``max(a,b)``."""
STANDARD_LIMIT = 2.0
"""Half range of a standardised difference: twice the way from the median to the threshold."""
LOOSE_QUANTILE = 0.99
"""Of the differences, where nothing outside of this slide says how large one is."""


@dataclass(frozen=True)
class DeltaScale:
    """What a difference is measured in.

    Attributes
    ----------
    limit : float > 0, the colour bar goes from −limit to +limit
    standardised : whether scores were brought to (s − q50) / (q95 − q50) of the in-distribution
        tiles of their own bundle, because the bare ones mean different things in the two runs
    fixed : whether ``limit`` comes from the bundles, so that it is the same on every slide
    """

    limit: float
    standardised: bool
    fixed: bool

    @property
    def words(self) -> str:
        """The unit in one line for the user."""
        if self.standardised:
            unit = "in steps from the median to the threshold of each bundle's known tiles"
        else:
            unit = "in units of the score"
        return unit if self.fixed else f"{unit}; the colours' range is from this slide alone"


@dataclass(frozen=True, eq=False)
class RunDifference:
    """Run B minus run A on K pairs of tiles.

    Attributes
    ----------
    a, b : ScoredRun
    score : str, the role or name that was asked for
    names : the scores it stands for in A and in B
    match : TileMatch, which tile was compared with which
    values_a, values_b : [K] float32, on the scale of ``scale``
    delta : [K] float32, B − A; NaN where either is
    scale : DeltaScale
    classes : class names of both runs, A's first
    predicted_a, predicted_b : [K] int64, positions in ``classes``
    """

    a: ScoredRun
    b: ScoredRun
    score: str
    names: tuple[str, str]
    match: TileMatch
    values_a: Floats
    values_b: Floats
    delta: Floats
    scale: DeltaScale
    classes: tuple[str, ...]
    predicted_a: Ints
    predicted_b: Ints

    @property
    def n(self) -> int:
        """Number of pairs, K."""
        return len(self.delta)

    @property
    def cells(self) -> Ints:
        """Row and column on ``match.grid``; [K, 2] int64."""
        return self.match.cells

    @cached_property
    def boxes(self) -> NDArray[np.float64]:
        """Level-0 boxes y, x, h, w of the finer tiles; [K, 4] float64."""
        return self.match.grid.boxes(self.cells)

    @cached_property
    def disagree(self) -> NDArray[np.bool_]:
        """Pairs whose predicted classes differ; [K] bool."""
        return np.asarray(self.predicted_a != self.predicted_b)

    @cached_property
    def agreement(self) -> Ints:
        """Pairs by class, rows: what A says, columns: what B says; [C, C] int64."""
        c = len(self.classes)
        return np.bincount(self.predicted_a * c + self.predicted_b, minlength=c * c).reshape(c, c)

    @property
    def agreed(self) -> float | None:
        """Share of pairs with the same class; None without pairs."""
        return float(np.trace(self.agreement) / self.n) if self.n else None

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa of the predicted classes; None where it is not defined."""
        return kappa(self.agreement)

    @cached_property
    def correlation(self) -> float | None:
        """Spearman's rank correlation of the scores; None where it is not defined."""
        from scipy.stats import rankdata

        finite = np.isfinite(self.delta)
        ranks = [rankdata(v[finite]) for v in (self.values_a, self.values_b)]
        if finite.sum() < 2 or any(np.ptp(r) == 0 for r in ranks):
            return None
        return float(np.corrcoef(*ranks)[0, 1])

    def on_grid(self, values: NDArray[Any], fill: Any) -> NDArray[Any]:
        """Spread one value per pair over the finer grid; (rows, cols), ``fill`` elsewhere."""
        grid = np.full((self.match.grid.rows, self.match.grid.cols), fill, values.dtype)
        grid[tuple(self.cells.T)] = values
        return grid

    def delta_map(self) -> Floats:
        """B − A on the finer grid; (rows, cols) float32, NaN where there is no pair."""
        return self.on_grid(self.delta, np.float32(np.nan))


def compare_runs(
    a: ScoredRun, b: ScoredRun, score: str = "ood", *, copies: bool = False
) -> RunDifference:
    """Compare two runs of one slide tile by tile.

    Scores of different bundles, or different scores behind one role, have units of their own.
    Unless the score has bounds that hold for any bundle, they are then brought to
    (s − q50) / (q95 − q50) of each bundle's in-distribution tiles, as ``max(a,b)`` does it.

    Parameters
    ----------
    a, b : ScoredRun
    score : a role (``uncertainty``, ``ood``, …), resolved by each run's own card, or a score's name
    copies : whether the slides' files may differ if their size in pixels is the same: a stain-
        normalised copy, say

    Raises
    ------
    RunError
        If the slides differ, no tile meets another, or a run cannot give the score.
    """
    check_same_slide(a.run, b.run, copies=copies)
    match = match_tiles(a.run, b.run)
    names = (_resolve(a, score), _resolve(b, score))
    raw_a = np.asarray(a.score(names[0]))[match.tiles_a]
    raw_b = np.asarray(b.score(names[1]))[match.tiles_b]
    standardised = _need_standard(a, b, names)
    if standardised:
        raw_a, raw_b = (
            _standard(s, n, v) for s, n, v in zip((a, b), names, (raw_a, raw_b), strict=True)
        )
    with np.errstate(invalid="ignore"):
        delta = np.asarray(raw_b - raw_a, np.float32)
    classes = (*a.classes, *(c for c in b.classes if c not in a.classes))
    at = [np.array([classes.index(c) for c in s.classes], np.int64) for s in (a, b)]
    return RunDifference(
        a=a,
        b=b,
        score=score,
        names=names,
        match=match,
        values_a=raw_a,
        values_b=raw_b,
        delta=delta,
        scale=_scale(a, b, names, standardised, delta),
        classes=classes,
        predicted_a=at[0][a.prediction()[match.tiles_a]],
        predicted_b=at[1][b.prediction()[match.tiles_b]],
    )


def check_same_slide(a: Run, b: Run, *, copies: bool = False) -> None:
    """Make sure that two runs are of one slide.

    Raises
    ------
    RunError
        If they are not.
    """
    slides = [run.provenance["slide"] for run in (a, b)]
    if slides[0]["fingerprint"] == slides[1]["fingerprint"]:
        return
    if a.grid.shape != b.grid.shape:
        sizes = " and ".join(
            f"{s['name']} ({s['size'][1]:,} × {s['size'][0]:,} px)" for s in slides
        )
        raise RunError(f"these runs are of different slides, {sizes}: choose two of one slide")
    if not copies:
        raise RunError(
            f"these runs are of different files, {slides[0]['name']} and {slides[1]['name']}: "
            "choose two of one slide, or say that one is a changed copy of the other (--copies)"
        )


def kappa(table: NDArray[np.integer]) -> float | None:
    """Cohen's kappa of an agreement table [C, C]: (pₒ − pₑ) / (1 − pₑ).

    Cohen, *A coefficient of agreement for nominal scales*, Educ. Psychol. Meas. 20, 1960. None
    where chance alone agrees always (one class on both sides), and without tiles.
    """
    n = float(table.sum())
    if not n:
        return None
    observed = np.trace(table) / n
    by_chance = float((table.sum(axis=0) / n) @ (table.sum(axis=1) / n))
    return None if by_chance >= 1 else float((observed - by_chance) / (1 - by_chance))


def _resolve(scored: ScoredRun, score: str) -> str:
    """Name of the score that a run of this bundle can give; RunError when it cannot."""
    if score in ROLES and score not in scored.roles:
        if score in scored.card.scores and not scored.run.has_features:
            scored.run.require_features()  # says why it is not there
        has = ", ".join(scored.roles) or "none"
        raise RunError(
            f"{scored.run.path.name} has no {score!r} at hand (it has: {has}): choose another "
            "score, or put its bundle back"
        )
    return scored.score_name(score)


def _need_standard(a: ScoredRun, b: ScoredRun, names: tuple[str, str]) -> bool:
    """Whether bare scores of the two runs mean different things."""
    hashes = [s.run.provenance["bundle"]["hashes"] for s in (a, b)]
    if names[0] == names[1] and (
        hashes[0] == hashes[1]
        or (_bounded(a, names[0]) and _bounds(a, names[0]) == _bounds(b, names[0]))
    ):
        return False
    lacking = [s.run.path.name for s, n in zip((a, b), names, strict=True) if s.familiar(n) is None]
    if lacking:
        raise RunError(
            f"{lacking[0]} has no reference at hand, and scores of different bundles can only be "
            "compared by their references: choose a score such as entropy"
        )
    return True


def _standard(scored: ScoredRun, name: str, values: Floats) -> Floats:
    familiar = scored.familiar(name)
    assert familiar is not None
    middle, high = np.quantile(familiar, (MIDDLE, HIGH))
    if not high > middle:
        raise RunError(
            f"{name} of {scored.run.path.name} is the same for all known tiles: choose another "
            "score"
        )
    return np.asarray((values - middle) / (high - middle), np.float32)


def _bounds(scored: ScoredRun, name: str) -> tuple[float, float]:
    return score_bounds(name, scored.card.n_classes, scored.card.n_heads)


def _bounded(scored: ScoredRun, name: str) -> bool:
    return bool(np.isfinite(_bounds(scored, name)).all())


def _scale(
    a: ScoredRun, b: ScoredRun, names: tuple[str, str], standardised: bool, delta: Floats
) -> DeltaScale:
    if standardised:
        return DeltaScale(STANDARD_LIMIT, standardised=True, fixed=True)
    spreads = []
    for scored, name in zip((a, b), names, strict=True):
        familiar = scored.familiar(name)
        if familiar is not None:
            low, high = np.quantile(familiar, (LOW, HIGH))
            spreads.append(float(high - low))
    low, high = _bounds(a, names[0])
    if max(spreads, default=0.0) > 0:
        return DeltaScale(min(max(spreads), high - low), standardised=False, fixed=True)
    if np.isfinite(high - low):
        return DeltaScale(high - low, standardised=False, fixed=True)
    found = np.abs(delta[np.isfinite(delta)])
    limit = float(np.quantile(found, LOOSE_QUANTILE)) if len(found) else 0.0
    return DeltaScale(limit or 1.0, standardised=False, fixed=False)
