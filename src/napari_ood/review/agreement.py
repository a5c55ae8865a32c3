"""How far reviewers agree, and how often the model is wrong where they have looked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_ood.analysis.difference import kappa as kappa_of_table
from napari_ood.review.matching import match_verdicts
from napari_ood.review.verdicts import Kind, Verdict

if TYPE_CHECKING:
    from napari_ood.analysis.regions import Region
    from napari_ood.analysis.scored import ScoredRun

Z95 = 1.959963984540054
"""97.5 % quantile of the normal distribution."""


FEW = 30
"""With fewer regions the interval of kappa is too narrow to be told (see ``cohens_kappa``)."""


@dataclass(frozen=True, eq=False)
class Kappa:
    """Cohen's kappa of two reviewers.

    Attributes
    ----------
    value : kappa; None where it is not defined (nothing judged by both, or both always said one
        and the same thing, which chance alone would give)
    low, high : 95 % interval; None where ``value`` is
    n : regions judged by both
    n_agreed : those with one verdict
    categories : C names
    counts : [C, C] int64, first reviewer × second reviewer
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    n_agreed: int
    categories: tuple[str, ...]
    counts: NDArray[np.int64]

    def words(self) -> str:
        """One line for the user."""
        if not self.n:
            return "no region was judged by both"
        same = f"same verdict on {self.n_agreed} of {self.n} regions"
        if self.value is None or self.low is None or self.high is None:
            return f"{same}; kappa is not defined, as only one kind of verdict was given"
        if self.n < FEW:
            return f"{same}; kappa {self.value:.2f} (of fewer than {FEW} regions: no interval)"
        return f"{same}; kappa {self.value:.2f} (95 % interval {self.low:.2f} to {self.high:.2f})"


def cohens_kappa(a: Sequence[str], b: Sequence[str]) -> Kappa:
    """Agreement of two reviewers beyond what chance gives (Cohen 1960), with a 95 % interval.

    The interval is κ ± 1.96 standard errors, cut to −1…1, by the large-sample variance of Fleiss,
    Cohen & Everitt, *Large sample standard errors of kappa and weighted kappa*, Psychol. Bull. 72,
    1969. With few regions (below about 30) it is too narrow; with full agreement it has no width.

    Parameters
    ----------
    a, b : sequences of str
        What each said of the same regions, in the same order.

    Raises
    ------
    ValueError
        If the two are not equally long.
    """
    if len(a) != len(b):
        raise ValueError(f"kappa compares verdicts on the same regions: {len(a)} and {len(b)}")
    categories = tuple(sorted({*a, *b}))
    place = {name: i for i, name in enumerate(categories)}
    counts = np.zeros((len(categories), len(categories)), np.int64)
    np.add.at(counts, ([place[x] for x in a], [place[x] for x in b]), 1)
    value, low, high = kappa_of_table(counts), None, None
    if value is not None:
        reach = Z95 * math.sqrt(_kappa_variance(counts))
        low, high = max(-1.0, value - reach), min(1.0, value + reach)
    return Kappa(value, low, high, len(a), int(np.trace(counts)), categories, counts)


def _kappa_variance(counts: NDArray[np.int64]) -> float:
    """Large-sample variance of kappa; eq. 13 of Fleiss, Cohen & Everitt 1969, unweighted."""
    n = counts.sum()
    p = counts / n
    rows, cols = p.sum(axis=1), p.sum(axis=0)
    observed, chance = np.trace(p), float(rows @ cols)
    on = (np.diag(p) * ((1 - chance) - (rows + cols) * (1 - observed)) ** 2).sum()
    # Row i, column j: the share of j among the first's verdicts and of i among the second's.
    cross = p * (cols[:, None] + rows[None, :]) ** 2
    off = (1 - observed) ** 2 * (cross.sum() - np.trace(cross))
    rest = (observed * chance - 2 * chance + observed) ** 2
    return max(0.0, float((on + off - rest) / (n * (1 - chance) ** 4)))


@dataclass(frozen=True, eq=False)
class PairAgreement:
    """Two reviewers and how far they agree.

    ``kinds`` compares what kind of verdict they gave; ``details`` also which class or artefact.
    """

    first: str
    second: str
    kinds: Kappa
    details: Kappa


def agreement(
    verdicts: Mapping[str, Sequence[Verdict]], regions: Sequence[Region]
) -> tuple[PairAgreement, ...]:
    """Agreement of every two reviewers on the regions that both have judged.

    Verdicts find their regions by :func:`~napari_ood.review.match_verdicts`, so reviewers may have
    worked with other thresholds. A skipped region is not judged. Two verdicts that meet on several
    regions (pieces of one that has fallen apart) count once.

    Parameters
    ----------
    verdicts : reviewer → verdicts, as ``ReviewStore.all_verdicts`` gives them
    regions : sequence of Region
    """
    given = {name: _by_region(regions, of_one) for name, of_one in verdicts.items()}
    return tuple(_pair(a, b, given[a], given[b]) for a, b in combinations(sorted(given), 2))


def _by_region(regions: Sequence[Region], verdicts: Iterable[Verdict]) -> dict[str, Verdict]:
    judged = match_verdicts(regions, [v for v in verdicts if v.kind is not Kind.SKIP])
    return {key: matches[0].verdict for key, matches in judged.by_key.items()}


def _pair(
    first: str, second: str, a: Mapping[str, Verdict], b: Mapping[str, Verdict]
) -> PairAgreement:
    pairs = list({(id(a[k]), id(b[k])): (a[k], b[k]) for k in a if k in b}.values())
    return PairAgreement(
        first,
        second,
        cohens_kappa([x.kind for x, _ in pairs], [y.kind for _, y in pairs]),
        cohens_kappa([x.category for x, _ in pairs], [y.category for _, y in pairs]),
    )


@dataclass(frozen=True)
class Proportion:
    """``k`` of ``n``, with the 95 % interval of Wilson (J. Am. Stat. Assoc. 22, 1927)."""

    k: int
    n: int

    @property
    def value(self) -> float | None:
        """k ÷ n; None of nothing."""
        return self.k / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval; None of nothing."""
        if not self.n:
            return None
        share, z2 = self.k / self.n, Z95**2
        middle = (share + z2 / (2 * self.n)) / (1 + z2 / self.n)
        variance = share * (1 - share) / self.n + z2 / (4 * self.n**2)
        reach = Z95 * math.sqrt(variance) / (1 + z2 / self.n)
        return max(0.0, middle - reach), min(1.0, middle + reach)


@dataclass(frozen=True)
class ErrorRate:
    """How often the model is wrong, by the verdicts, at one threshold.

    Regions count, not tiles: tiles of a region are alike. A region is flagged when its highest
    score is above the threshold.

    Attributes
    ----------
    threshold : value
    flagged : wrong ÷ judged right or wrong, among regions that this threshold flags
    kept : the same among those that it doesn't
    n_artefact, n_unknown, n_skipped : flagged regions with these verdicts, in none of the rates
    """

    threshold: float
    flagged: Proportion
    kept: Proportion
    n_artefact: int
    n_unknown: int
    n_skipped: int


def error_rate(
    verdicts: Iterable[Verdict], scored: ScoredRun, score: str, thresholds: Sequence[float]
) -> tuple[ErrorRate, ...]:
    """The model's error rate against verdicts, per threshold.

    "Wrong class" is an error, "agree" is none; artefacts, unknown tissue and skipped regions are
    counted apart. What was judged are places that were flagged, so the rates hold for such places,
    not for the slide.

    Parameters
    ----------
    verdicts : iterable of Verdict
        Of one reviewer; of several, each verdict counts.
    scored : ScoredRun
    score : name or role
    thresholds : sequence of float
    """
    verdicts = tuple(verdicts)
    peaks = _peaks(verdicts, scored, score)
    kinds = np.array([verdict.kind.value for verdict in verdicts], object)
    wrong, right = kinds == Kind.WRONG_CLASS, kinds == Kind.AGREE

    def at(threshold: float) -> ErrorRate:
        value = np.float32(threshold)  # scores are compared in their own precision, everywhere
        flagged = peaks > value
        kept = peaks <= value  # NaN, of tiles that the run lacks, is neither
        return ErrorRate(
            threshold,
            Proportion(int((wrong & flagged).sum()), int(((wrong | right) & flagged).sum())),
            Proportion(int((wrong & kept).sum()), int(((wrong | right) & kept).sum())),
            int((flagged & (kinds == Kind.ARTEFACT)).sum()),
            int((flagged & (kinds == Kind.UNKNOWN_TISSUE)).sum()),
            int((flagged & (kinds == Kind.SKIP)).sum()),
        )

    return tuple(at(float(threshold)) for threshold in thresholds)


def _peaks(verdicts: Sequence[Verdict], scored: ScoredRun, score: str) -> NDArray[np.float32]:
    """Highest score, as it is now, of each verdict's tiles; [V] float32, NaN where none has one."""
    scores = scored.on_grid(scored.score(score), np.float32(np.nan))
    peaks = np.full(len(verdicts), np.nan, np.float32)
    for i, verdict in enumerate(verdicts):
        inside = ((verdict.cells >= 0) & (verdict.cells < scores.shape)).all(axis=1)
        values = scores[tuple(verdict.cells[inside].T)]
        if len(values := values[~np.isnan(values)]):
            peaks[i] = values.max()
    return peaks
