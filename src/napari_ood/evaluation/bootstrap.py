"""Bootstrap intervals of AUROC and FPR95 (Efron & Tibshirani 1993, percentile method; numpy).

A resample is a count per tile: how often it was drawn. Scores are sorted once and each resample
only re-weights them, so a thousand resamples cost cumulative sums, not a thousand sorts.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Weights = NDArray[np.float32]
Floats = NDArray[np.float64]
Interval = tuple[float, float]
BLOCK_CELLS = 4_000_000
"""Weights handled at a time (16 MB), so that memory does not grow with the number of tiles."""


@dataclass(frozen=True)
class Intervals:
    """95 % intervals; None where the data can't give one (all tiles are of one group)."""

    auroc: Interval | None
    fpr95: Interval | None


class Resampler:
    """Draws tiles, or whole groups of tiles, with replacement, ``n`` times.

    The same seed and name give the same draws, whatever was drawn before, so that scores are
    compared on the same resamples.

    Parameters
    ----------
    n_tiles : int
    groups : sequence of str, one per tile, or None
        Slide or patient. Tiles of one group are drawn together; an empty name is a group of its
        own. Tiles of a slide are alike: to resample them one by one gives too narrow intervals.
    n : int
        Number of resamples.
    seed : int
    name : str
        Of the set, mixed into the seed.
    """

    def __init__(
        self, n_tiles: int, groups: Sequence[str] | None, n: int, seed: int = 0, name: str = ""
    ) -> None:
        keys = [
            ("group", group) if group else ("tile", str(i))
            for i, group in enumerate(groups if groups is not None else [""] * n_tiles)
        ]
        if len(keys) != n_tiles:
            raise ValueError(f"need one group per tile: {len(keys)} groups, {n_tiles} tiles")
        index = {key: i for i, key in enumerate(dict.fromkeys(keys))}
        self._group = np.array([index[key] for key in keys], np.int64)
        self.n_tiles, self.n_groups, self.n = n_tiles, len(index), n
        self._seed = [seed, zlib.crc32(name.encode())]

    def weights(self, rows: slice) -> Weights:
        """How often each tile was drawn in these resamples; [rows, N] float32."""
        n = rows.stop - rows.start
        # A generator per block of rows would tie results to the block size: one per row does not.
        drawn = np.stack(
            [
                np.random.default_rng([*self._seed, row]).integers(
                    self.n_groups, size=self.n_groups
                )
                for row in range(rows.start, rows.stop)
            ]
        )
        offset = np.arange(n)[:, None] * self.n_groups
        counts = np.bincount((drawn + offset).ravel(), minlength=n * self.n_groups)
        by_group: Weights = counts.reshape(n, self.n_groups).astype(np.float32)
        return by_group[:, self._group]


def separation_intervals(
    inside: Resampler,
    id_scores: Sequence[ArrayLike],
    sets: Sequence[tuple[Resampler, Sequence[ArrayLike]]],
    tpr: float = 0.95,
    level: float = 0.95,
) -> list[list[Intervals]]:
    """Intervals of how well scores tell the tiles of foreign sets from in-distribution tiles.

    Parameters
    ----------
    inside : Resampler
        Of the in-distribution tiles.
    id_scores : one array [N] per score, without NaN
    sets : per foreign set, its resampler and one array [K] per score, in the order of ``id_scores``
    tpr : float
        Share of in-distribution tiles that FPR keeps.
    level : float
        Share of the resamples inside an interval.

    Returns
    -------
    Intervals per set, then per score.
    """
    values = np.full((len(sets), len(id_scores), 2, inside.n), np.nan)
    usable = [inside.n > 0 and min(inside.n_groups, draw.n_groups) > 1 for draw, _ in sets]
    if any(usable):
        ascending = [_Ascending.of(scores) for scores in id_scores]
        ranks = [[a.rank(s) for a, s in zip(ascending, s_set, strict=True)] for _, s_set in sets]
        step = max(1, BLOCK_CELLS // inside.n_tiles)
        for start in range(0, inside.n, step):
            rows = slice(start, min(start + step, inside.n))
            outside = [
                draw.weights(rows) if ok else None
                for (draw, _), ok in zip(sets, usable, strict=True)
            ]
            drawn = inside.weights(rows)
            for j, scores in enumerate(ascending):
                resampled = scores.resample(drawn, tpr)
                for i, weights in enumerate(outside):
                    if weights is not None:
                        values[i, j, :, rows] = resampled.separate(ranks[i][j], weights)
    return [[_percentiles(value, level) for value in of_set] for of_set in values]


def _percentiles(values: Floats, level: float) -> Intervals:
    if not values.size or np.isnan(values).any():
        return Intervals(None, None)
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail], axis=1)
    return Intervals((float(low[0]), float(high[0])), (float(low[1]), float(high[1])))


@dataclass(frozen=True)
class _Ranks:
    """Where the tiles of a foreign set (ascending) fall among the in-distribution tiles."""

    order: NDArray[np.int64]
    below: NDArray[np.int64]  # per foreign tile: in-distribution tiles with lower scores
    up_to: NDArray[np.int64]  # …with lower or equal scores
    kept: NDArray[np.int64]  # per in-distribution tile: foreign tiles with lower or equal scores


@dataclass(frozen=True)
class _Ascending:
    """One score of the in-distribution tiles, sorted once for all resamples."""

    scores: Floats
    order: NDArray[np.int64]

    @classmethod
    def of(cls, scores: ArrayLike) -> _Ascending:
        s = np.asarray(scores, np.float64)
        order = np.argsort(s, kind="stable")
        return cls(s[order], order)

    def rank(self, foreign: ArrayLike) -> _Ranks:
        s = np.asarray(foreign, np.float64)
        order = np.argsort(s, kind="stable")
        s = s[order]
        return _Ranks(
            order,
            np.searchsorted(self.scores, s, "left"),
            np.searchsorted(self.scores, s, "right"),
            np.searchsorted(s, self.scores, "right"),
        )

    def resample(self, weights: Weights, tpr: float) -> _Resampled:
        cumulative = _cumulative(weights[:, self.order])
        total = cumulative[:, -1].astype(np.float64)
        # As in ``fpr_at_tpr``: the lowest score at which enough tiles are kept.
        needed = np.maximum(1, np.ceil(tpr * total - 1e-9))
        threshold = (cumulative[:, 1:] >= needed[:, None]).argmax(axis=1)
        return _Resampled(cumulative, total, threshold)


@dataclass(frozen=True)
class _Resampled:
    """In-distribution tiles as drawn: cumulative counts [B, N + 1] and thresholds [B]."""

    cumulative: Weights
    total: Floats
    threshold: NDArray[np.int64]

    def separate(self, ranks: _Ranks, weights: Weights) -> Floats:
        """AUROC and FPR of the foreign tiles as drawn; [2, B] float64."""
        w = weights[:, ranks.order]
        n = w.sum(axis=1, dtype=np.float64)
        beaten = self.cumulative[:, ranks.below] + self.cumulative[:, ranks.up_to]
        auroc = np.einsum("ij,ij->i", w, beaten, dtype=np.float64) / (2 * self.total * n)
        kept = _cumulative(w)[np.arange(len(w)), ranks.kept[self.threshold]]
        return np.stack([auroc, kept / n])


def _cumulative(weights: Weights) -> Weights:
    """Row-wise cumulative sums with a leading zero: [B, N + 1]; exact up to 2²⁴ tiles."""
    out = np.zeros((weights.shape[0], weights.shape[1] + 1), np.float32)
    np.cumsum(weights, axis=1, out=out[:, 1:])
    return out


def bootstrap_interval(
    id_scores: ArrayLike, ood_scores: ArrayLike, n: int = 1000, seed: int = 0
) -> Interval:
    """95 % interval of ``ood_auroc``, resampling tiles of both groups ``n`` times.

    Raises
    ------
    ValueError
        If one of the groups has fewer than two tiles.
    """
    inside, outside = np.asarray(id_scores), np.asarray(ood_scores)
    draws = [Resampler(len(s), None, n, seed, k) for s, k in ((inside, "id"), (outside, "ood"))]
    interval = separation_intervals(draws[0], [inside], [(draws[1], [outside])])[0][0].auroc
    if interval is None:
        raise ValueError("an interval needs at least two tiles of each group")
    return interval
