"""Evaluation: how good a bundle is on data that it knows, and on data that it should not trust.

Names are resolved on first use; importing this package loads no torch and no matplotlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ood._lazy import lazy_names

if TYPE_CHECKING:
    from napari_ood.evaluation.bootstrap import (
        Resampler,
        bootstrap_interval,
        separation_intervals,
    )
    from napari_ood.evaluation.measure import Evaluation, evaluate
    from napari_ood.evaluation.metrics import (
        auroc,
        expected_calibration_error,
        fpr_at_tpr,
        mean_auroc,
        negative_log_likelihood,
        ood_auroc,
        roc_curve,
    )
    from napari_ood.evaluation.selective import augrc, aurc, risk_coverage
    from napari_ood.evaluation.table import Row

_HOME = {
    "Resampler": "bootstrap",
    "bootstrap_interval": "bootstrap",
    "separation_intervals": "bootstrap",
    "Evaluation": "measure",
    "evaluate": "measure",
    "auroc": "metrics",
    "expected_calibration_error": "metrics",
    "fpr_at_tpr": "metrics",
    "mean_auroc": "metrics",
    "negative_log_likelihood": "metrics",
    "ood_auroc": "metrics",
    "roc_curve": "metrics",
    "augrc": "selective",
    "aurc": "selective",
    "risk_coverage": "selective",
    "Row": "table",
}

__all__ = [
    "Evaluation",
    "Resampler",
    "Row",
    "augrc",
    "aurc",
    "auroc",
    "bootstrap_interval",
    "evaluate",
    "expected_calibration_error",
    "fpr_at_tpr",
    "mean_auroc",
    "negative_log_likelihood",
    "ood_auroc",
    "risk_coverage",
    "roc_curve",
    "separation_intervals",
]

__getattr__ = lazy_names(__name__, _HOME)


def __dir__() -> list[str]:
    return list(__all__)
