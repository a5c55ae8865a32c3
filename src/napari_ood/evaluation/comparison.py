"""What a comparison of methods measures, per seed, and its intervals over seeds (numpy)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from napari_ood.evaluation.metrics import (
    expected_calibration_error,
    fpr_at_tpr,
    mean_auroc,
    negative_log_likelihood,
    ood_auroc,
)
from napari_ood.evaluation.selective import aurc
from napari_ood.scores import disagreement, entropy, mean_probability

Floats = NDArray[np.float32]
Record = dict[str, Any]
Path = tuple[str, ...]

MEAN = "mean"
"""Name of the mean over the foreign sets."""
PAPER = {
    "single": (84.2, 45.2),
    "mcdropout": (88.3, 48.3),
    "ensemble": (86.8, 43.4),
    "mheads": (91.7, 28.9),
}
"""AUROC and FPR95 in %, Linmans et al., MIDL 2020: CAMELYON16 against lymphoma. Other tissue,
scale, networks and aggregation than ours; never to be mixed with our numbers."""


@dataclass(frozen=True)
class Interval:
    """Mean over seeds with its 95 % interval (Student's t); low and high are None for one seed."""

    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class SeedScores:
    """H(p̄) of one method and seed, for the figures.

    Attributes
    ----------
    inside : [N] float32, of the in-distribution test tiles
    wrong : [N] bool, whether their prediction is wrong
    outside : set → [K] float32
    """

    inside: Floats
    wrong: NDArray[np.bool_]
    outside: Mapping[str, Floats]


def t_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean ± t₍n−1₎ · s / √n of at least one value; one value has no interval.

    Raises
    ------
    ValueError
        If there are none.
    """
    x = np.asarray(values, np.float64)
    if not len(x):
        raise ValueError("a mean needs values")
    mean, n = float(x.mean()), len(x)
    if n == 1:
        return Interval(mean, None, None, 1)
    half = float(stdtrit(n - 1, (1 + level) / 2)) * float(x.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def measure(
    inside: Floats,
    labels: NDArray[np.int64],
    outside: Mapping[str, Floats],
    temperature: float,
) -> Record:
    """Quality in distribution and separation of foreign sets, for one method and seed.

    Parameters
    ----------
    inside : [N, M, C] logits of the in-distribution test tiles
    labels : [N] int
    outside : set → [K, M, C] logits
    temperature : fitted on other held-out tiles; for the figures that say *calibrated* only

    Returns
    -------
    dict
        ``id``: accuracy, auroc, nll, ece, aurc, temperature, nll and ece calibrated;
        ``entropy`` and, for M > 1, ``disagreement``: per set, and ``mean`` over them, auroc and
        fpr95 of the score at temperature 1
    """
    record: Record = {"id": _quality(inside, labels, temperature), "entropy": {}}
    scores = {"entropy": entropy}
    if inside.shape[1] > 1:
        scores["disagreement"] = disagreement
    for score, compute in scores.items():
        usual = compute(inside)
        found = {name: _separation(usual, compute(logits)) for name, logits in outside.items()}
        record[score] = found
        if found:
            record[score][MEAN] = {
                key: float(np.mean([values[key] for values in found.values()]))
                for key in ("auroc", "fpr95")
            }
    return record


def _quality(logits: Floats, labels: NDArray[np.int64], temperature: float) -> dict[str, float]:
    p, scaled = mean_probability(logits), mean_probability(logits, temperature)
    wrong = p.argmax(axis=1) != labels
    return {
        "accuracy": float(1 - wrong.mean()),
        "auroc": mean_auroc(p, labels),
        "nll": negative_log_likelihood(p, labels),
        "ece": expected_calibration_error(p, labels),
        "aurc": aurc(entropy(logits), wrong),
        "temperature": temperature,
        "nll_calibrated": negative_log_likelihood(scaled, labels),
        "ece_calibrated": expected_calibration_error(scaled, labels),
    }


def _separation(usual: Floats, foreign: Floats) -> dict[str, float]:
    return {"auroc": ood_auroc(usual, foreign), "fpr95": fpr_at_tpr(usual, foreign)}


def summarise(records: Sequence[Record]) -> dict[Path, Interval]:
    """Intervals over seeds of every number that all records of a method hold, by its path."""
    flat = [dict(_numbers(record)) for record in records]
    shared = [path for path in flat[0] if all(path in other for other in flat)] if flat else []
    return {path: t_interval([numbers[path] for numbers in flat]) for path in shared}


def paired(records: Sequence[Record], reference: Sequence[Record]) -> dict[Path, Interval]:
    """Intervals of the differences to another method, seed by seed.

    Seeds share tiles, so what varies between them is the training; a difference within a seed
    removes what both methods have of it.
    """
    ours = [dict(_numbers(record)) for record in records]
    theirs = [dict(_numbers(record)) for record in reference]
    if not ours or len(ours) != len(theirs):
        return {}
    shared = [path for path in ours[0] if all(path in numbers for numbers in [*ours, *theirs])]
    return {
        path: t_interval([a[path] - b[path] for a, b in zip(ours, theirs, strict=True)])
        for path in shared
    }


def _numbers(record: Mapping[str, Any], prefix: Path = ()) -> Iterator[tuple[Path, float]]:
    for key, value in record.items():
        path = (*prefix, key)
        if isinstance(value, Mapping):
            yield from _numbers(value, path)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield path, float(value)
