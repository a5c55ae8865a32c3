"""The learned OOD heatmap of a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from napari_ood.errors import BundleError
from napari_ood.explain.place_map import PlaceMap
from napari_ood.models.card import HEATMAP
from napari_ood.models.heatmap import StoredDecoder, tile_scores
from napari_ood.models.spatial import Seen

if TYPE_CHECKING:
    from napari_ood.models import Bundle


class DecoderMap(PlaceMap):
    """Difference of each pixel to what is known, as a decoder learned it; a TileMapper.

    Raises
    ------
    BundleError
        If the bundle has no decoder, or one of another network.
    """

    name: ClassVar[str] = "heatmap"
    title: ClassVar[str] = "OOD heatmap (learned)"
    unit: ClassVar[str] = "difference"

    def __init__(self, bundle: Bundle, device: str = "auto") -> None:
        arrays = bundle.arrays(HEATMAP)
        if arrays is None:
            raise BundleError(
                f"bundle {bundle.name!r} has no {HEATMAP}: make it with napari-ood train-heatmap "
                f"{bundle.name} --id DATA --ood synthetic --out BUNDLE"
            )
        stored = StoredDecoder.from_arrays(arrays, str(bundle.path / HEATMAP))
        if stored.decoder.n_classes != bundle.card.n_classes:
            raise BundleError(
                f"the decoder of {bundle.name!r} knows {stored.decoder.n_classes} classes, the "
                f"bundle has {bundle.card.n_classes}: make it anew with napari-ood train-heatmap"
            )
        self._decoder = stored.decoder
        layers = self._decoder.layers
        super().__init__(bundle, stored.held_places, stored.held_tiles, layers, device)

    def heat(self, seen: Seen) -> Tensor:
        """Largest difference over the colours, 0…1; [B, H, W]."""
        return self._decoder.to(seen.logits.device).heat(seen)

    def scores(self, heat: Tensor) -> Tensor:
        """Mean heat of a tile; [B]."""
        return tile_scores(heat)
