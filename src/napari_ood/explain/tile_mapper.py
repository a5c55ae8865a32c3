"""Maps of tiles at the tiles' own resolution, of which a mosaic is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import NothingToExplain

if TYPE_CHECKING:
    from napari_ood.explain.explainer import Explainer
    from napari_ood.explain.target import Target

Floats = NDArray[np.float32]

INSIDE = 0.999
"""Share of the display's range that signed maps are clipped to: what lies beyond may be drawn as
nothing."""


class TileMapper(Protocol):
    """A map of each tile at the tile's resolution, on one scale for all tiles."""

    @property
    def name(self) -> str:
        """What code calls it."""

    @property
    def title(self) -> str:
        """What people call it."""

    @property
    def unit(self) -> str:
        """Of the values."""

    @property
    def signed(self) -> bool:
        """Whether values below 0 mean something."""

    @property
    def limit(self) -> float:
        """Where the display's scale ends, for all tiles of a slide."""

    def __call__(self, tiles: NDArray[np.uint8]) -> Floats:
        """Map tiles ``[B, t, t, 3]`` uint8 to ``[B, t, t]`` float32."""


class SaliencyMapper:
    """One saliency method for one target, as a map of tiles; signed ones end at the limit.

    Parameters
    ----------
    explainer : Explainer
    method : of ``METHODS``
    target : Target
    limit : where the display's scale ends, as ``Explainer.scale`` gives it
    """

    def __init__(self, explainer: Explainer, method: str, target: Target, limit: float) -> None:
        from napari_ood.explain.methods import METHODS

        self._explainer, self._target, self.limit = explainer, target, limit
        how = METHODS[method]
        self.name, self.title, self.signed = method, how.title, how.signed
        self.unit = how.unit_of(target)

    def __call__(self, tiles: NDArray[np.uint8]) -> Floats:
        """Map tiles ``[B, t, t, 3]`` uint8 to ``[B, t, t]`` float32; NaN where nothing is known."""
        try:
            saliency = self._explainer.explain(tiles, self.name, self._target)
        except NothingToExplain:  # here; the rest of the slide can be
            return np.full(tiles.shape[:3], np.nan, np.float32)
        values = np.asarray(saliency.values, np.float32)
        end = INSIDE * self.limit
        return np.clip(values, -end, end) if self.signed else values
