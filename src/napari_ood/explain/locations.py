"""Foreign places by their distance to in-distribution places; no foreign data is involved."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from napari_ood.errors import BundleError
from napari_ood.explain.place_map import PLACE_QUANTILE, PlaceMap
from napari_ood.models.card import LOCATIONS
from napari_ood.models.locations import LocationDistance, LocationSample, tile_scores
from napari_ood.models.spatial import Seen

if TYPE_CHECKING:
    from napari_ood.models import Bundle

LOW_QUANTILE = 0.05


class LocationMap(PlaceMap):
    """Mahalanobis++ distance of each place of a tile, a TileMapper.

    Distances in many dimensions are all alike, but for little: of in-distribution places none is
    near 0. So the map has 0 at their 5th percentile and 1 at their 99th.

    Raises
    ------
    BundleError
        If the bundle has no vectors of places.
    """

    name: ClassVar[str] = "locations"
    title: ClassVar[str] = "Foreign places (distance)"
    unit: ClassVar[str] = "of the in-distribution range"

    def __init__(self, bundle: Bundle, device: str = "auto") -> None:
        arrays = bundle.arrays(LOCATIONS)
        if arrays is None:
            raise BundleError(
                f"bundle {bundle.name!r} has no {LOCATIONS}: make it with napari-ood train-heatmap "
                f"{bundle.name} --id DATA --locations-only --out BUNDLE"
            )
        sample = LocationSample.from_arrays(arrays, str(bundle.path / LOCATIONS))
        low, high = np.quantile(sample.held_places, [LOW_QUANTILE, PLACE_QUANTILE])
        self._low, self._unit = float(low), max(float(high - low), 1e-6)
        places, tiles = (
            self.scaled(torch.from_numpy(x)).numpy()
            for x in (sample.held_places, sample.held_tiles)
        )
        super().__init__(bundle, places, tiles, sample.layers, device)
        self._distance = LocationDistance(sample.layers, sample.grid, sample.vectors, sample.labels)

    def heat(self, seen: Seen) -> Tensor:
        """Distance, 0 to 1 in distribution; [B, grid, grid]."""
        return self.scaled(self._distance.heat(seen))

    def scaled(self, distance: Tensor) -> Tensor:
        """Distances in standard deviations on the map's scale; not negative."""
        return ((distance - self._low) / self._unit).clamp_min(0)

    def scores(self, heat: Tensor) -> Tensor:
        """What a tenth of a tile's places exceed; [B]."""
        return tile_scores(heat)
