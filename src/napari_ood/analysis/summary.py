"""What a threshold does to a run, in numbers: the live read-out and the report's first lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.scores.thresholds import Threshold


class ClassCount(NamedTuple):
    """Tiles predicted to be of a class, and how many of them are flagged."""

    label: str
    n_tiles: int
    n_flagged: int


@dataclass(frozen=True)
class Summary:
    """A threshold's effect on a run.

    Kept, flagged and unscored tiles add up to all finished tiles.

    Attributes
    ----------
    n_tiles : finished tiles of the run
    n_flagged : tiles above the threshold: those deferred to a person
    n_unscored : tiles whose score is NaN: neither kept nor flagged
    n_unfinished : tiles with tissue that the run has not reached yet
    mm2 : area of the finished tiles, mm2_flagged that of the flagged; None without mpp
    per_class : in the order of the classes; tiles whose logits are NaN belong to none
    n_held_out_kept : held-out tiles of the bundle that the threshold keeps; None without reference
    expected_risk : share of wrong ones among those; None without a reference, or if none is kept
    """

    n_tiles: int
    n_flagged: int
    n_unscored: int
    n_unfinished: int
    mm2: float | None
    mm2_flagged: float | None
    per_class: tuple[ClassCount, ...]
    n_held_out_kept: int | None
    expected_risk: float | None

    @property
    def n_kept(self) -> int:
        """Tiles at or below the threshold."""
        return self.n_tiles - self.n_flagged - self.n_unscored

    @property
    def share_flagged(self) -> float:
        """Share of the tissue that is deferred, 0 to 1; 0 for a run without tiles."""
        return self.n_flagged / self.n_tiles if self.n_tiles else 0.0

    @property
    def coverage(self) -> float:
        """Share of the tissue that is kept, 0 to 1; 0 for a run without tiles."""
        return self.n_kept / self.n_tiles if self.n_tiles else 0.0

    def words(self) -> str:
        """One line: tiles, area, share of the tissue."""
        if not self.n_tiles:
            return "no tiles yet"
        area = ""
        if self.mm2 is not None and self.mm2_flagged is not None:
            area = f", {self.mm2_flagged:,.2f} of {self.mm2:,.2f} mm²"
        return (
            f"{self.n_flagged:,} of {self.n_tiles:,} tiles{area} deferred "
            f"({100 * self.share_flagged:.1f} % of the tissue)"
        )


def summarise(scored: ScoredRun, threshold: Threshold) -> Summary:
    """Count what a threshold flags; below a millisecond at a million tiles, after the first time.

    Errors as of ``ScoredRun.score``.
    """
    ranked = scored.ranked(threshold.score)
    flagged = ranked.n_above(threshold)
    n_tiles, n_flagged = len(scored.score(threshold.score)), sum(flagged)
    area = scored.mm2_per_tile
    held_out = scored.held_out(threshold)
    return Summary(
        n_tiles=n_tiles,
        n_flagged=n_flagged,
        n_unscored=n_tiles - ranked.n_scored,
        n_unfinished=scored.n_unfinished,
        mm2=None if area is None else n_tiles * area,
        mm2_flagged=None if area is None else n_flagged * area,
        per_class=tuple(
            ClassCount(*counts)
            for counts in zip(scored.classes, scored.class_counts(), flagged[:-1], strict=True)
        ),
        n_held_out_kept=None if held_out is None else held_out.n_kept,
        expected_risk=None if held_out is None else held_out.risk,
    )


def summarise_part(
    scored: ScoredRun, threshold: Threshold, tiles: NDArray[np.int64], n_unfinished: int = 0
) -> Summary:
    """Count what a threshold flags among some of the tiles, those of a region of interest say.

    Parameters
    ----------
    scored : ScoredRun
    threshold : Threshold
    tiles : [K] int64, positions in ``scored.index``
    n_unfinished : tiles with tissue there that the run has not reached

    Errors as of ``ScoredRun.score``.
    """
    flagged = scored.flagged(threshold)[tiles]
    n_flagged, area, held_out = int(flagged.sum()), scored.mm2_per_tile, scored.held_out(threshold)
    all_counts = class_counts(scored, tiles)
    flagged_counts = class_counts(scored, tiles[flagged])
    return Summary(
        n_tiles=len(tiles),
        n_flagged=n_flagged,
        n_unscored=int(np.isnan(scored.score(threshold.score)[tiles]).sum()),
        n_unfinished=n_unfinished,
        mm2=None if area is None else len(tiles) * area,
        mm2_flagged=None if area is None else n_flagged * area,
        per_class=tuple(
            ClassCount(*counts)
            for counts in zip(scored.classes, all_counts, flagged_counts, strict=True)
        ),
        n_held_out_kept=None if held_out is None else held_out.n_kept,
        expected_risk=None if held_out is None else held_out.risk,
    )


def class_counts(scored: ScoredRun, tiles: NDArray[np.int64]) -> tuple[int, ...]:
    """Number of tiles [K] per predicted class, C; those with NaN probabilities aren't counted."""
    tiles = tiles[~np.isnan(scored.confidence()[tiles])]
    return tuple(np.bincount(scored.prediction()[tiles], minlength=len(scored.classes)).tolist())
