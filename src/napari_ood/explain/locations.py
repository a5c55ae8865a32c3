"""Foreign places by their distance to in-distribution places; no foreign data is involved."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from napari_ood.errors import BundleError
from napari_ood.explain.place_map import PlaceMap
from napari_ood.models.card import LOCATIONS
from napari_ood.models.locations import LocationDistance, LocationSample, tile_scores
from napari_ood.models.spatial import Seen

if TYPE_CHECKING:
    from napari_ood.models import Bundle


class LocationMap(PlaceMap):
    """Mahalanobis++ distance of each place of a tile, a TileMapper.

    Raises
    ------
    BundleError
        If the bundle has no vectors of places.
    """

    name: ClassVar[str] = "locations"
    title: ClassVar[str] = "Foreign places (distance)"
    unit: ClassVar[str] = "standard deviations"

    def __init__(self, bundle: Bundle, device: str = "auto") -> None:
        arrays = bundle.arrays(LOCATIONS)
        if arrays is None:
            raise BundleError(
                f"bundle {bundle.name!r} has no {LOCATIONS}: make it with napari-ood train-heatmap "
                f"{bundle.name} --id DATA --locations-only --out BUNDLE"
            )
        sample = LocationSample.from_arrays(arrays, str(bundle.path / LOCATIONS))
        super().__init__(bundle, sample.held_places, sample.held_tiles, sample.layers, device)
        self._distance = LocationDistance(sample.layers, sample.grid, sample.vectors, sample.labels)

    def heat(self, seen: Seen) -> Tensor:
        """Distance in standard deviations; [B, grid, grid]."""
        return self._distance.heat(seen)

    def scores(self, heat: Tensor) -> Tensor:
        """The distance that a tenth of a tile's places exceed; [B]."""
        return tile_scores(heat)
