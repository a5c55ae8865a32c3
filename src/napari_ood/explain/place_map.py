"""Maps finer than a tile, computed from pixels: what decoder and locations have in common (torch).

Each is a *TileMapper*: ``name``, ``title``, ``unit``, ``signed``, ``limit``, and a call that maps
tiles ``[B, t, t, 3]`` uint8 to ``[B, t, t]`` float32.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from napari_ood.errors import ExplainError
from napari_ood.models import resolve_device
from napari_ood.models.spatial import Seen, SpatialNet

if TYPE_CHECKING:
    from napari_ood.models import Bundle

Floats = NDArray[np.float32]
Tiles = NDArray[np.uint8]
BATCH = 64
FLAG_QUANTILE, PLACE_QUANTILE = 0.95, 0.99
"""Of held-out in-distribution tiles: what lies above is flagged; of their places: what lies above
is in the upper half of the colours."""


class PlaceMap(ABC):
    """How foreign each place of a tile is, on one scale for all slides.

    Parameters
    ----------
    bundle : Bundle
    held_places, held_tiles : heat at places, and scores, of held-out in-distribution tiles
    layers : of the trunk, whose maps ``heat`` needs
    device : as ``napari_ood.models.resolve_device`` takes it

    Attributes
    ----------
    limit : the display runs from 0 to this; the middle is exceeded by 1 % of in-distribution places
    threshold : of ``tile_score``; 5 % of held-out in-distribution tiles exceed it
    """

    name: ClassVar[str]
    title: ClassVar[str]
    unit: ClassVar[str]
    signed: ClassVar[bool] = False

    def __init__(
        self,
        bundle: Bundle,
        held_places: Floats,
        held_tiles: Floats,
        layers: tuple[str, ...],
        device: str,
    ) -> None:
        self._bundle, self._device_name = bundle, device
        self.layers = layers
        self.limit = max(2 * float(np.quantile(held_places, PLACE_QUANTILE)), 1e-6)
        self.threshold = float(np.quantile(held_tiles, FLAG_QUANTILE))
        self._net: SpatialNet | None = None

    @abstractmethod
    def heat(self, seen: Seen) -> Tensor:
        """Heat on the grid of the maps; [B, h, w] float32, not negative."""

    @abstractmethod
    def scores(self, heat: Tensor) -> Tensor:
        """One score per tile; [B] of [B, h, w]."""

    def __call__(self, tiles: Tiles) -> Floats:
        """Heat at the tiles' own resolution (bilinear); [B, t, t] float32 of [B, t, t, 3] uint8.

        Raises
        ------
        ExplainError
            If the tiles are not of the bundle's size, or the network overflows.
        """
        parts = [
            interpolate(h[:, None], size=tiles.shape[1:3], mode="bilinear", align_corners=False)
            for h in self._heats(tiles)
        ]
        return self._joined([part[:, 0] for part in parts], tiles.shape[:3])

    def tile_score(self, tiles: Tiles) -> Floats:
        """One score per tile, higher = more foreign; [B] float32 of [B, t, t, 3] uint8."""
        return self._joined([self.scores(h) for h in self._heats(tiles)], tiles.shape[:1])

    def _heats(self, tiles: Tiles) -> list[Tensor]:
        side = self._bundle.card.tile_size
        if tiles.dtype != np.uint8 or tiles.ndim != 4 or tiles.shape[1:] != (side, side, 3):
            raise ExplainError(
                f"{self._bundle.name!r} maps uint8 tiles [B, {side}, {side}, 3], not {tiles.dtype} "
                f"{list(tiles.shape)}"
            )
        net = self._network()
        with torch.inference_mode():
            return [
                self.heat(net(torch.from_numpy(tiles[i : i + BATCH]).to(net.device)))
                for i in range(0, len(tiles), BATCH)
            ]

    def _network(self) -> SpatialNet:
        if self._net is None:
            network = self._bundle.network(resolve_device(self._device_name))
            self._net = SpatialNet(network, self.layers)
        return self._net

    def _joined(self, parts: list[Tensor], empty: tuple[int, ...]) -> Floats:
        if not parts:
            return np.zeros(empty, np.float32)
        values = torch.cat(parts).float().cpu().numpy()
        if not np.isfinite(values).all():
            raise ExplainError(
                f"{self.title}: not finite for {self._bundle.name!r}; try --device cpu"
            )
        return values
