"""An outline on the canvas around one region. No Qt: works on a bare ``ViewerModel``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol
from weakref import ref

import numpy as np
from napari.layers import Vectors
from numpy.typing import ArrayLike, NDArray

from napari_ood.viewer.geometry import Placement, map_placement
from napari_ood.viewer.layers import selection_kept

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_ood.slides import TileGrid
    from napari_ood.viewer.steps import Steps

Edges = NDArray[np.float64]

NAME = "Review: region"
WIDTH_PX = 2.5
DASH_PX = 8.0
MAX_DASHES = 4000
COLORS = np.array([[0, 0, 0, 1], [1, 1, 1, 1]], np.float32)
"""Black and white in turn: one of them is seen on tissue, on ink and on every overlay."""
REDRAW_FACTOR = 1.25
"""Change of the zoom at which the outline is drawn anew, to be as thick on screen as before."""


def edges_around(cells: ArrayLike) -> Edges:
    """Edges between cells and what is not among them, straight runs joined.

    Cell (r, c) covers [r − ½, r + ½) × [c − ½, c + ½), as napari's pixels do.

    Parameters
    ----------
    cells : [K, 2] int, row and column, K ≥ 1

    Returns
    -------
    [n, 2, 2] float64, both ends of each edge as row, column
    """
    cells = np.asarray(cells, np.int64)
    low = cells.min(axis=0)
    inside = np.zeros(cells.max(axis=0) - low + 3, bool)
    inside[tuple((cells - low + 1).T)] = True
    across = _runs(inside[1:] != inside[:-1])
    down = _runs((inside[:, 1:] != inside[:, :-1]).T)[:, :, ::-1]
    return np.asarray(np.concatenate([across, down]) + low - 1, np.float64)


def _runs(edge: NDArray[np.bool_]) -> Edges:
    """Runs of True in each line as (line + ½, start − ½), (line + ½, end − ½); [n, 2, 2]."""
    padded = np.pad(edge, ((0, 0), (1, 1))).astype(np.int8)
    change = np.diff(padded, axis=1)
    line, start = np.nonzero(change == 1)
    _, end = np.nonzero(change == -1)
    return np.stack([np.stack([line + 0.5, at - 0.5], axis=1) for at in (start, end)], axis=1)


def dashes(edges: Edges, length: float) -> tuple[Edges, NDArray[np.int64]]:
    """Cut edges into an even number of dashes each.

    Parameters
    ----------
    edges : [n, 2, 2]
    length : of a dash, nearly; longer where there would be too many

    Returns
    -------
    [m, 2, 2] float64 start and direction, as napari's vectors; [m] int64, 0 and 1 in turn
    """
    extent = np.abs(edges[:, 1] - edges[:, 0]).sum(axis=1)
    length = max(length, float(extent.sum()) / MAX_DASHES)
    counts = 2 * np.maximum(1, np.round(extent / (2 * length))).astype(np.int64)
    which = np.repeat(np.arange(len(edges)), counts)
    place = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    step = (edges[:, 1] - edges[:, 0]) / counts[:, None]
    start = edges[which, 0] + step[which] * place[:, None]
    return np.stack([start, step[which]], axis=1), place % 2


class OnGrid(Protocol):
    """What tells where cells lie: maps, say."""

    @property
    def grid(self) -> TileGrid:
        """The grid whose cells they are."""

    @property
    def mpp(self) -> tuple[float, float] | None:
        """µm per level-0 pixel (y, x)."""


@dataclass(frozen=True)
class GridOnSlide:
    """A grid of tiles and the µm per level-0 pixel (y, x) of its slide."""

    grid: TileGrid
    mpp: tuple[float, float] | None


class Outline:
    """The outline of one region in one viewer, as a layer of its own.

    Parameters
    ----------
    viewer : ViewerModel
    name : of the layer
    steps : with them the first outline, which makes the layer, is drawn in a turn of its own
    """

    def __init__(self, viewer: ViewerModel, name: str = NAME, steps: Steps | None = None) -> None:
        self._viewer = ref(viewer)
        self._name, self._steps = name, steps
        self._wanted: Callable[[], None] | None = None
        self._layer: Vectors | None = None
        self._edges: Edges | None = None
        self._units_per_cell = 1.0
        self._placed: Placement | None = None
        self._zoom = 0.0
        viewer.scene.camera.events.zoom.connect(self._on_zoom)

    def show(self, cells: NDArray[np.int64], on: OnGrid, zoom: float) -> None:
        """Draw the outline of a region's cells, for a zoom (screen pixels per world unit)."""
        self._wanted = partial(self._show, cells, on, zoom)
        viewer = self._viewer()
        if viewer is None:
            return
        if self._steps is None or (self._layer is not None and self._layer in viewer.layers):
            self._show_wanted()
        else:  # by then the camera may be elsewhere
            self._wanted = partial(self._show, cells, on, None)
            self._steps.add(self._show_wanted)

    def _show_wanted(self) -> None:
        if self._wanted is not None:
            self._wanted()

    def _show(self, cells: NDArray[np.int64], on: OnGrid, zoom: float | None) -> None:
        place = map_placement(on.grid, on.mpp)
        layer, viewer = self._layer_in_viewer(place), self._viewer()
        if layer is not None and viewer is not None:
            self._edges, self._units_per_cell = edges_around(cells), min(place.scale)
            if place != self._placed:  # napari takes 10 ms for each, also where nothing changes
                layer.scale, layer.translate = place.scale, place.translate
                layer.units, self._placed = place.units, place
            if not layer.visible:  # first: napari looks at new data of visible layers only
                layer.visible = True
            self._draw(viewer.scene.camera.zoom if zoom is None else zoom)

    def hide(self) -> None:
        """Show no outline; the layer stays, as napari takes long to remove one."""
        self._edges = self._wanted = None
        if self._layer is not None:
            self._layer.visible = False

    def remove(self) -> None:
        """Take the layer away and follow the camera no more. May be called more than once."""
        viewer, self._edges, self._wanted = self._viewer(), None, None
        if viewer is not None:
            viewer.scene.camera.events.zoom.disconnect(self._on_zoom)
            if self._layer is not None and self._steps is not None:
                self._steps.add(partial(_remove, self._viewer, self._layer))
            elif self._layer is not None:
                _remove(self._viewer, self._layer)
        self._layer = None

    def _on_zoom(self) -> None:
        viewer = self._viewer()
        shown = self._layer is not None and self._layer.visible  # or hidden by its eye
        if viewer is not None and self._edges is not None and shown:
            zoom = viewer.scene.camera.zoom
            if not 1 / REDRAW_FACTOR < zoom / self._zoom < REDRAW_FACTOR:
                self._draw(zoom)

    def _draw(self, zoom: float) -> None:
        assert self._edges is not None and self._layer is not None
        self._zoom = zoom
        per_cell = zoom * self._units_per_cell
        data, color = dashes(self._edges, DASH_PX / per_cell)
        self._layer.data = data
        self._layer.edge_width = WIDTH_PX / per_cell
        self._layer.edge_color = COLORS[color]

    def _layer_in_viewer(self, place: Placement) -> Vectors | None:
        """The layer, above all others; a new one when the user has deleted it."""
        viewer = self._viewer()
        if viewer is None:
            return None
        layers = viewer.layers
        if self._layer is None or self._layer not in layers:
            self._layer = Vectors(
                ndim=2, name=self._name, vector_style="line", blending="translucent_no_depth",
                opacity=1.0, units=place.units, scale=place.scale, translate=place.translate,
            )  # fmt: skip
            self._placed = place
            with selection_kept(viewer):
                layers.append(self._layer)
        elif layers[-1] is not self._layer:
            layers.move(layers.index(self._layer), len(layers))
        return self._layer


def _remove(viewer: ref[ViewerModel], layer: Vectors) -> None:
    shown = viewer()
    if shown is not None and layer in shown.layers:
        shown.layers.remove(layer)
