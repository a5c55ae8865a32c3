"""How good a bundle's predictions are on labelled in-distribution tiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.evaluation.metrics import (
    auroc,
    expected_calibration_error,
    mean_auroc,
    negative_log_likelihood,
)
from napari_ood.evaluation.selective import augrc, aurc
from napari_ood.scores import mean_probability

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Quality:
    """Quality of p̄, the mean over heads of the calibrated softmax; None without labels.

    Attributes
    ----------
    n : in-distribution tiles
    n_labelled : those with a label, from which all that follows is computed
    accuracy, ece, nll : share, share, nats
    auroc : of class 1 for two classes, else the mean of one against the rest; None if a class is
        absent
    aurc, augrc : area under the (generalised) risk–coverage curve, per score
    error_auroc : AUROC of telling wrong from right predictions, per score
    errors : [n_labelled] bool, whether the prediction is wrong
    rows : [n_labelled] int, which tiles are labelled
    """

    n: int
    n_labelled: int
    accuracy: float | None
    auroc: float | None
    ece: float | None
    nll: float | None
    aurc: Mapping[str, float | None]
    augrc: Mapping[str, float | None]
    error_auroc: Mapping[str, float | None]
    errors: NDArray[np.bool_] = field(repr=False)
    rows: NDArray[np.int64] = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """The object ``id`` of ``napari-ood evaluate --json``."""
        names = ("n", "accuracy", "auroc", "ece", "nll")
        record: dict[str, Any] = {name: getattr(self, name) for name in names}
        return {**record, "aurc": dict(self.aurc), "augrc": dict(self.augrc)}


def id_quality(
    logits: Floats, labels: NDArray[np.int64], scores: Mapping[str, Floats], temperature: float
) -> Quality:
    """Measure predictions from logits ``[N, M, C]`` and labels ``[N]`` (−1: none).

    ``scores`` are those of the same tiles, by name.
    """
    rows = np.flatnonzero(labels >= 0)
    nothing = dict.fromkeys(scores)
    if not len(rows):
        none = np.zeros(0, bool)
        return Quality(
            len(labels), 0, None, None, None, None, nothing, nothing, nothing, none, rows
        )
    p, truth = mean_probability(logits[rows], temperature), labels[rows]
    errors = p.argmax(axis=1) != truth
    known = {name: v[rows] for name, v in scores.items() if not np.isnan(v[rows]).any()}
    both = bool(errors.any() and not errors.all())
    everywhere = len(np.unique(truth)) == p.shape[1]
    return Quality(
        n=len(labels),
        n_labelled=len(rows),
        accuracy=float(1 - errors.mean()),
        auroc=mean_auroc(p, truth) if everywhere and p.shape[1] > 1 else None,
        ece=expected_calibration_error(p, truth),
        nll=negative_log_likelihood(p, truth),
        aurc=nothing | {name: aurc(v, errors) for name, v in known.items()},
        augrc=nothing | {name: augrc(v, errors) for name, v in known.items()},
        error_auroc=nothing
        | ({name: auroc(v, errors) for name, v in known.items()} if both else {}),
        errors=errors,
        rows=rows,
    )
