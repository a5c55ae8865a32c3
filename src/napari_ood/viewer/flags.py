"""Which tiles are above their threshold, as layers: an outline, and a mask over the rest. No Qt.

A moved threshold costs one pass over the scores and one upload of a byte per tile; nothing is
computed anew and no layer is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, ref

import numpy as np
from napari.layers import Layer

from napari_ood.viewer import layers as ood_layers
from napari_ood.viewer.geometry import map_placement
from napari_ood.viewer.maps import SCORED, Floats, Maps, Overlay
from napari_ood.viewer.sets import Sets

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.utils.events import Event

    from napari_ood.viewer.session import Session
    from napari_ood.viewer.state import State

WHAT_FLAGS_SHOW = (
    "results", "slide", "overlay", "thresholds", "scales", "outlined", "flagged_only",
    "sets", "sets_outlined",
)  # fmt: skip
"""Fields of the state that they depend on."""

LINE_PX = 3.0
"""Width of the outline on the screen; narrower where tiles are hardly larger than that."""
FINEST = 8
FINE_CELLS = 1 << 22
FINE_SIDE = 8192
"""A tile of the outline's map is up to 8 × 8 cells, of at most 4 million, 8,192 in a row. Linear
interpolation rounds corners by half a cell: with one cell per tile, one tile looks like a lens."""
WIDTH_STEP = 1.15
"""The outline is set anew when its width is off by more than this factor."""


class Flags:
    """Keeps outline and mask of every shown run in step with its thresholds."""

    def __init__(self, viewer: ViewerModel, session: Session) -> None:
        self._viewer = ref(viewer)
        self._session = ref(session)
        self._filled: WeakKeyDictionary[Maps, tuple[object, ...] | None] = WeakKeyDictionary()
        self._masked: WeakKeyDictionary[Maps, Floats] = WeakKeyDictionary()
        viewer.scene.camera.events.zoom.connect(self._on_zoom)

    def show(self, state: State) -> None:
        """Draw what the state says."""
        for result in state.results:
            self._show_run(result.maps, state)

    def fill(self, maps: Maps, state: State) -> None:
        """Flag what a run has added; the caller redraws the layers."""
        self._filled.pop(maps, None)
        self._flag(maps, state)
        for layer in self._layers_of(maps):
            if ood_layers.is_flags(layer):
                _copy_flags(layer, maps)
        if maps in self._masked and state.flagged_only and state.overlay in SCORED:
            self._mask(maps, state.overlay)

    def _show_run(self, maps: Maps, state: State) -> None:
        changed = self._flag(maps, state)
        for layer in self._layers_of(maps):
            if ood_layers.is_flags(layer):
                shown = state.outlined and self._filled[maps] is not None
                if changed:
                    _copy_flags(layer, maps)
                if shown:
                    self._fit(layer, maps)
                    if changed or not layer.visible:
                        ood_layers.refresh_layer(layer)
                if layer.visible != shown:
                    layer.visible = shown
            else:
                self._show_scores(layer, maps, state, changed)

    def _show_scores(self, layer: Layer, maps: Maps, state: State, changed: bool) -> None:
        """Hide the tiles of the visible overlay that are not flagged, if that is wanted."""
        overlay = ood_layers.overlay_of(layer)
        if overlay not in SCORED:
            return
        hiding = state.flagged_only and overlay is state.overlay and overlay in maps.scales
        own = maps in self._masked and layer.data is self._masked[maps]
        if not hiding:
            if own:
                layer.data = maps.array(overlay)
            return
        if changed or not own:
            masked = self._mask(maps, overlay)
            if own:
                ood_layers.refresh_layer(layer)
            else:
                layer.data = masked

    def _flag(self, maps: Maps, state: State) -> bool:
        """Fill the map of flags; whether it was filled anew."""
        wanted = self._wanted(maps, state)
        # Scores may have changed under the same threshold.
        if maps in self._filled and self._filled[maps] == wanted and not maps.rescored:
            return False
        if wanted is not None:
            kind, what = wanted
            if isinstance(what, Sets):
                maps.flag_tiles(what.index, what.unclear)
            else:
                maps.flag(kind, what)
        maps.rescored = False
        self._filled[maps] = wanted
        return True

    def _wanted(self, maps: Maps, state: State) -> tuple[Overlay, float | Sets] | None:
        """What flags the tiles of maps: sets that are not one class, or a score's threshold."""
        session = self._session()
        if state.sets_outlined and state.sets is not None and maps is state.maps:
            return (state.overlay, state.sets) if state.overlay is not None else None
        flagging = state.flagging
        if session is None or flagging is None or flagging not in maps.scales:
            return None
        threshold = session.threshold_of(maps, flagging)
        return None if threshold is None else (flagging, threshold.value)

    def _mask(self, maps: Maps, overlay: Overlay) -> Floats:
        """The scores of flagged tiles, NaN elsewhere, in an array of their own."""
        masked = self._masked.setdefault(maps, np.empty(maps.shape, np.float32))
        np.copyto(masked, np.nan)
        np.copyto(masked, maps.scores[overlay], where=maps.flagged.astype(bool))
        return masked

    # ---------------------------------------------------------------- width and cells of the line

    def _on_zoom(self, event: Event) -> None:
        viewer = self._viewer()
        for layer in list(viewer.layers) if viewer is not None else []:
            maps = ood_layers.maps_of(layer)
            if maps is not None and ood_layers.is_flags(layer) and layer.visible:
                self._fit(layer, maps)

    def _fit(self, layer: Layer, maps: Maps) -> None:
        """Let the line be as wide, and its corners as sharp, as the zoom allows."""
        viewer = self._viewer()
        if viewer is None:
            return
        tile = min(map_placement(maps.grid, maps.mpp).scale) * viewer.scene.camera.zoom
        n = cells_per_tile(tile, maps.shape)
        if layer.data.shape != (n * maps.shape[0], n * maps.shape[1]):
            _set_cells(layer, maps, n)
        low, high = ood_layers.outline_limits(LINE_PX * n / tile)
        before = layer.contrast_limits[1] - layer.contrast_limits[0]
        if not 1 / WIDTH_STEP < (high - low) / before < WIDTH_STEP:
            layer.contrast_limits = (low, high)

    def _layers_of(self, maps: Maps) -> list[Layer]:
        viewer = self._viewer()
        layers = list(viewer.layers) if viewer is not None else []
        return [x for x in layers if ood_layers.maps_of(x) is maps]


def cells_per_tile(tile_px: float, shape: tuple[int, int]) -> int:
    """Cells along each side of a tile that is so large on screen: no smaller than the line."""
    n = FINEST
    while n > 1 and (
        tile_px / n < LINE_PX
        or n * n * shape[0] * shape[1] > FINE_CELLS
        or n * max(shape) > FINE_SIDE
    ):
        n //= 2
    return n


def _set_cells(layer: Layer, maps: Maps, n: int) -> None:
    place = map_placement(maps.grid, maps.mpp)
    layer.data = maps.flagged if n == 1 else maps.flagged.repeat(n, axis=0).repeat(n, axis=1)
    scale, middle = np.asarray(place.scale), np.asarray(place.translate)
    layer.scale, layer.translate = scale / n, middle + scale * (1 / n - 1) / 2


def _copy_flags(layer: Layer, maps: Maps) -> None:
    """Fill the cells of all tiles; a layer with one cell per tile has the map of flags itself."""
    if layer.data is not maps.flagged:
        rows, cols = maps.shape
        cells = layer.data.reshape(rows, len(layer.data) // rows, cols, -1)
        cells[:] = maps.flagged[:, None, :, None]
