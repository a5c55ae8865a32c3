"""Why: saliency, heads, prototypes, named causes, and maps finer than a tile.

Names are resolved on first use; importing this package loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ood._lazy import lazy_names

if TYPE_CHECKING:
    from napari_ood.explain.cause_rules import Evidence
    from napari_ood.explain.causes import Cause, Standing, cause_at, probable_cause
    from napari_ood.explain.explainer import Explainer, Saliency
    from napari_ood.explain.heads import HeadsAtTile, look_at_heads
    from napari_ood.explain.heatmap import DecoderMap
    from napari_ood.explain.locations import LocationMap
    from napari_ood.explain.methods import METHODS, Method
    from napari_ood.explain.prototypes import Prototype, nearest_tiles, prototypes_of
    from napari_ood.explain.sanity import (
        Curves,
        Sanity,
        perturbation_curves,
        randomisation_check,
    )
    from napari_ood.explain.target import Target
    from napari_ood.explain.thumbnails import ReferenceTiles, pack_tiles

_HOME = {
    "DecoderMap": "heatmap",
    "LocationMap": "locations",
    "Cause": "causes",
    "Evidence": "cause_rules",
    "Standing": "causes",
    "cause_at": "causes",
    "probable_cause": "causes",
    "HeadsAtTile": "heads",
    "look_at_heads": "heads",
    "Prototype": "prototypes",
    "nearest_tiles": "prototypes",
    "prototypes_of": "prototypes",
    "ReferenceTiles": "thumbnails",
    "pack_tiles": "thumbnails",
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
    "Cause",
    "Curves",
    "DecoderMap",
    "Evidence",
    "Explainer",
    "HeadsAtTile",
    "LocationMap",
    "Method",
    "Prototype",
    "ReferenceTiles",
    "Saliency",
    "Sanity",
    "Standing",
    "Target",
    "cause_at",
    "look_at_heads",
    "nearest_tiles",
    "pack_tiles",
    "perturbation_curves",
    "probable_cause",
    "prototypes_of",
    "randomisation_check",
]

__getattr__ = lazy_names(__name__, _HOME)


def __dir__() -> list[str]:
    return list(__all__)
