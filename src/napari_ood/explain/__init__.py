"""Why: saliency, heads, prototypes, named causes, and maps finer than a tile.

Names are resolved on first use; importing this package loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ood._lazy import lazy_names

if TYPE_CHECKING:
    from napari_ood.explain.explainer import Explainer, Saliency
    from napari_ood.explain.methods import METHODS, Method
    from napari_ood.explain.sanity import (
        Curves,
        Sanity,
        perturbation_curves,
        randomisation_check,
    )
    from napari_ood.explain.target import Target

_HOME = {
    "METHODS": "methods",
    "Method": "methods",
    "Explainer": "explainer",
    "Saliency": "explainer",
    "Target": "target",
    "Curves": "sanity",
    "Sanity": "sanity",
    "perturbation_curves": "sanity",
    "randomisation_check": "sanity",
}

__all__ = [
    "METHODS",
    "Curves",
    "Explainer",
    "Method",
    "Saliency",
    "Sanity",
    "Target",
    "perturbation_curves",
    "randomisation_check",
]

__getattr__ = lazy_names(__name__, _HOME)


def __dir__() -> list[str]:
    return list(__all__)
