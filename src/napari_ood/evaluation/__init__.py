"""Evaluation: metrics and benchmark tables."""

from __future__ import annotations

from napari_ood.evaluation.metrics import (
    auroc,
    bootstrap_interval,
    expected_calibration_error,
    fpr_at_tpr,
    ood_auroc,
)

__all__ = [
    "auroc",
    "bootstrap_interval",
    "expected_calibration_error",
    "fpr_at_tpr",
    "ood_auroc",
]
