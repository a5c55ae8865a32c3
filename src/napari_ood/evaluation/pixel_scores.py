"""Scores that are computed from pixels while the network runs, not from what a run stores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_ood.errors import BundleError
from napari_ood.models import Card
from napari_ood.models.card import HEATMAP, LOCATIONS

if TYPE_CHECKING:
    from napari_ood.explain.place_map import PlaceMap
    from napari_ood.models import Bundle

PIXEL_SCORES = {"heatmap": HEATMAP, "locations": LOCATIONS}
"""Name of the score → the file of the bundle that it needs."""


def offered(card: Card) -> list[str]:
    """Those that the bundle has the file for."""
    return [name for name, file in PIXEL_SCORES.items() if file in card.files]


def place_maps(
    bundle: Bundle, names: Sequence[str], device: str
) -> tuple[dict[str, PlaceMap], dict[str, str]]:
    """What computes these scores, by name; and why it can't be had, for the others.

    Names that are none of ``PIXEL_SCORES`` are left out of both.
    """
    from napari_ood.explain.heatmap import DecoderMap
    from napari_ood.explain.locations import LocationMap

    made: dict[str, PlaceMap] = {}
    reasons: dict[str, str] = {}
    for kind in (DecoderMap, LocationMap):
        if kind.name in names:
            try:
                made[kind.name] = kind(bundle, device)
            except BundleError as error:
                reasons[kind.name] = str(error)
    return made, reasons
