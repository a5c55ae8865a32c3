"""Thresholds that mean something: where a score says that a tile is not to be trusted (numpy).

A tile is *flagged* when its score is above the threshold, and *kept* otherwise. A tile without a
score (NaN) is neither. Every meaning puts the threshold on a score that occurs in the data it was
chosen from, so that exactly what was counted is what is kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ood.errors import ThresholdError

DEFAULT_KEEP = 0.95
"""Share of in-distribution tiles that a threshold keeps unless the user says otherwise."""

MIN_KEPT = 30
"""Held-out tiles that a target risk must keep: of fewer, an error rate says next to nothing.
(No error among 30 tiles still leaves room for 10 %, at 95 % confidence.)"""

_SLACK = 1e-9
"""Relative slack in counts of tiles: 0.55 × 100 must give 55, not 56."""


class Meaning(StrEnum):
    """What a threshold was chosen for."""

    KEEP = "keep"
    RISK = "risk"
    COVERAGE = "coverage"
    VALUE = "value"


@dataclass(frozen=True)
class Threshold:
    """A value of a score and what it means.

    Attributes
    ----------
    score : name of the score, e.g. ``entropy``
    value : tiles with a score above it are flagged
    meaning : Meaning
    parameter : what was asked for, as a share of 1: tiles to keep, or errors to allow; None for
        ``Meaning.VALUE``

    Raises
    ------
    ThresholdError
        If the value is not finite, or the parameter is missing or no share.
    """

    score: str
    value: float
    meaning: Meaning = Meaning.VALUE
    parameter: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ThresholdError(f"a threshold must be a finite number, not {self.value}")
        if self.meaning is Meaning.VALUE:
            if self.parameter is not None:
                raise ThresholdError("a plain value has no share to keep: give it without one")
        elif self.parameter is None or not 0 <= self.parameter <= 1:
            raise ThresholdError(
                f"a threshold for {self.meaning.value!r} needs a share from 0 to 1, "
                f"not {self.parameter}"
            )

    def flags(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """Which tiles are flagged; [N] bool, False where the score is NaN."""
        return np.asarray(np.asarray(scores, np.float32) > self.value32)

    @property
    def value32(self) -> np.float32:
        """The value in the precision of scores: what every comparison uses."""
        with np.errstate(over="ignore"):  # beyond float32 nothing is flagged, or everything
            return np.float32(self.value)

    def words(self) -> str:
        """One line that tells the user what the threshold means."""
        share = "" if self.parameter is None else percent(self.parameter)
        return {
            Meaning.KEEP: f"keeps {share} of in-distribution tiles",
            Meaning.RISK: f"at most {share} errors among kept tiles (on held-out tiles)",
            Meaning.COVERAGE: f"keeps {share} of this slide's tiles",
            Meaning.VALUE: "value set by hand",
        }[self.meaning]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready form; the words are for people and are not read back."""
        return {
            "score": self.score,
            "value": self.value,
            "meaning": self.meaning.value,
            "parameter": self.parameter,
            "words": self.words(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`as_dict`; ThresholdError for anything else."""
        try:
            parameter = data.get("parameter")
            return cls(
                str(data["score"]),
                float(data["value"]),
                Meaning(data.get("meaning", Meaning.VALUE)),
                None if parameter is None else float(parameter),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ThresholdError(f"not a threshold as napari-ood writes them: {error}") from None


def percent(share: float) -> str:
    """A share in words, with as many decimals as it needs: ``95 %``, ``99.5 %``."""
    return f"{100 * share:.6g} %"


def value_threshold(score: str, value: float) -> Threshold:
    """Flag tiles above a plain value; ThresholdError if it is not finite."""
    return Threshold(score, float(value))


def keep_threshold(score: str, familiar: ArrayLike | None, share: float) -> Threshold:
    """Keep at least a share of in-distribution tiles.

    The lowest score of an in-distribution tile up to which that share of them lies.

    Parameters
    ----------
    score : name
    familiar : [V] float, scores of held-out in-distribution tiles; None without a reference
    share : above 0, up to 1

    Raises
    ------
    ThresholdError
        Without a reference, or for a share that is out of reach.
    """
    _check_share(share, "of in-distribution tiles to keep")
    values = _known(familiar)
    if not len(values):
        raise ThresholdError(
            f"no in-distribution tiles to compare {score!r} with: take a bundle with a reference, "
            "or choose coverage or a plain value"
        )
    return Threshold(score, _lowest_keeping(values, share * len(values)), Meaning.KEEP, share)


def coverage_threshold(score: str, values: ArrayLike, coverage: float) -> Threshold:
    """Keep at least a share of this slide's tiles.

    Parameters
    ----------
    score : name
    values : [N] float, scores of the slide's tiles; tiles with NaN count as tiles, not as kept
    coverage : above 0, up to 1

    Raises
    ------
    ThresholdError
        If there are no tiles, or too few that have a score.
    """
    _check_share(coverage, "of this slide's tiles to keep")
    n_tiles, known = np.asarray(values).size, _known(values)
    if not n_tiles:
        raise ThresholdError("the run has no finished tile yet: run it, or choose another meaning")
    if _whole(coverage * n_tiles) > len(known):
        raise ThresholdError(
            f"only {len(known):,} of {n_tiles:,} tiles have a score {score!r}: ask for a coverage "
            f"of at most {math.floor(1000 * len(known) / n_tiles) / 10} %, or choose another score"
        )
    return Threshold(score, _lowest_keeping(known, coverage * n_tiles), Meaning.COVERAGE, coverage)


def risk_threshold(
    score: str,
    validation_scores: ArrayLike | None,
    errors: ArrayLike | None,
    target: float,
    min_kept: int = MIN_KEPT,
) -> Threshold:
    """Keep as many tiles as a target error among the kept ones allows, judged on held-out tiles.

    The largest score t of a held-out tile such that, of the held-out tiles with a score ≤ t, at
    most a share ``target`` is wrong. All of the risk–coverage curve is looked at: the risk may rise
    and fall again. Selective risk as in Geifman & El-Yaniv, *Selective classification for deep
    neural networks*, NeurIPS 2017, without their bound: the target holds on these tiles.

    Parameters
    ----------
    score : name
    validation_scores : [V] float; None without a reference
    errors : [V] bool, whether the model is wrong about the same tiles
    target : 0 up to 1, errors among kept tiles
    min_kept : held-out tiles that must be kept

    Raises
    ------
    ThresholdError
        Without a reference, with too few held-out tiles, or if no threshold reaches the target;
        the message says what can be reached.
    ValueError
        If scores and errors differ in number.
    """
    if not 0 <= target < 1:
        raise ThresholdError(f"a target error must be from 0 to below 1, not {target}")
    if validation_scores is None or errors is None:
        raise ThresholdError(
            "a target error needs held-out tiles with labels: take a bundle with a reference, or "
            "choose coverage or a plain value"
        )
    values, kept, risk = cumulative_risk(validation_scores, errors)
    enough = kept >= min_kept
    if not enough.any():
        n_known = int(kept[-1]) if len(kept) else 0
        raise ThresholdError(
            f"a target error needs at least {min_kept} held-out tiles with a score {score!r}, the "
            f"bundle has {n_known}: keep a share of in-distribution tiles instead"
        )
    reached = np.flatnonzero(enough & (risk <= target * (1 + _SLACK)))
    if not len(reached):
        best = int(np.flatnonzero(enough)[risk[enough].argmin()])
        raise ThresholdError(
            f"no threshold on {score!r} keeps errors at {percent(target)} or below: the least that "
            f"can be reached is {math.ceil(10_000 * risk[best]) / 100} % ({kept[best]:,} of "
            f"{kept[-1]:,} held-out tiles kept); ask for that, or choose another score"
        )
    return Threshold(score, float(values[reached[-1]]), Meaning.RISK, target)


def cumulative_risk(
    scores: ArrayLike, errors: ArrayLike
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float64]]:
    """What is kept at each distinct score, and how much of it is wrong.

    Parameters
    ----------
    scores : [V] float; tiles that are not finite are left out
    errors : [V] bool

    Returns
    -------
    values : [K] float32, distinct scores, ascending
    kept : [K] int64, tiles with a score ≤ values
    risk : [K] float64, share of them that is wrong
    """
    s, wrong = np.asarray(scores, np.float32), np.asarray(errors, bool)
    if s.shape != wrong.shape or s.ndim != 1:
        raise ValueError(f"need one error flag per score, got {s.shape} and {wrong.shape}")
    s, wrong = s[np.isfinite(s)], wrong[np.isfinite(s)]
    order = np.argsort(s, kind="stable")
    s = s[order]
    # Tiles of one score can't be told apart by a threshold: they are kept together.
    last = np.flatnonzero(np.r_[s[1:] != s[:-1], True]) if len(s) else np.empty(0, np.int64)
    kept = last + 1
    return s[last], kept, np.cumsum(wrong[order])[last] / np.maximum(kept, 1)


def _check_share(share: float, what: str) -> None:
    if not 0 < share <= 1:
        raise ThresholdError(f"the share {what} must be above 0 and at most 1, not {share}")


def _known(values: ArrayLike | None) -> NDArray[np.float32]:
    found = np.empty(0, np.float32) if values is None else np.asarray(values, np.float32).ravel()
    return found[np.isfinite(found)]


def _whole(count: float) -> int:
    """The count as a whole number of tiles, at least one, rounded up."""
    return max(1, math.ceil(count * (1 - _SLACK)))


def _lowest_keeping(values: NDArray[np.float32], count: float) -> float:
    """Lowest of the values such that at least ``count`` of them are not above it."""
    n = min(_whole(count), len(values))
    return float(np.partition(values, n - 1)[n - 1])
