"""Parts of a training's summary, JSON-ready (no torch)."""

from __future__ import annotations

import math
import platform
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_ood import __version__
from napari_ood.evaluation.metrics import (
    expected_calibration_error,
    mean_auroc,
    negative_log_likelihood,
)
from napari_ood.scores import mean_probability
from napari_ood.training.dataset import TileDataset


def quality(
    logits: NDArray[np.float32], labels: NDArray[np.int64], temperature: float
) -> dict[str, Any]:
    """Accuracy, AUROC, NLL, ECE of the calibrated mean over heads of logits ``[N, M, C]``."""
    p = mean_probability(logits, temperature)
    return {
        "n": len(labels),
        "accuracy": float((p.argmax(axis=1) == labels).mean()),
        "auroc": float(mean_auroc(p, labels)),
        "nll": float(negative_log_likelihood(p, labels)),
        "ece": float(expected_calibration_error(p, labels)),
    }


def describe_data(train: TileDataset, held_out: TileDataset) -> dict[str, Any]:
    """Images per class, number of groups and sha256 of the list of files, of each side."""
    sides = {"train": train, "held_out": held_out}
    counts = {
        side: {name: int((data.labels == i).sum()) for i, name in enumerate(data.classes)}
        for side, data in sides.items()
    }
    both = {side: data.summary() for side, data in sides.items()}
    return {
        **counts,
        "n_groups": {side: s["n_groups"] for side, s in both.items()},
        "files_sha256": {side: s["files_sha256"] for side, s in both.items()},
    }


def versions() -> dict[str, str]:
    """What the result depends on."""
    libraries = ("torch", "torchvision", "timm", "numpy", "pillow")
    return {
        "napari-ood": __version__,
        "python": platform.python_version(),
        **{library: version(library) for library in libraries},
    }


def finite(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record with null for NaN and infinity, which JSON has not."""
    bad = {k for k, v in record.items() if isinstance(v, float) and not math.isfinite(v)}
    return {k: None if k in bad else v for k, v in record.items()}
