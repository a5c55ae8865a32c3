"""Which part of a slide the user means: what the window shows, or a shape that was drawn. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Shapes
from numpy.typing import NDArray

from napari_ood.viewer.geometry import clip_region, region_of_points, region_of_view

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_ood.slides import Slide
    from napari_ood.viewer.job import Box

WHITE = np.ones(4, np.float32)


def view_region(viewer: ViewerModel, slide: Slide) -> Box | None:
    """Level-0 box of the slide that the canvas shows; None when the slide is out of view."""
    camera = viewer.scene.camera
    box = region_of_view(camera.center, viewer.canvas.size, camera.zoom, slide.mpp)
    return clip_region(box, slide.shape)


def shape_region(viewer: ViewerModel, slide: Slide) -> Box | None:
    """Level-0 bounding box of the chosen shape; None without a shape that touches the slide."""
    points = shape_points(viewer)
    return None if points is None else clip_region(region_of_points(points, slide.mpp), slide.shape)


def shape_points(viewer: ViewerModel) -> NDArray[np.float64] | None:
    """World corners of the chosen shape, [n, ndim]; None without a Shapes layer that has one.

    The active Shapes layer counts, else the topmost; in it the selected shape, else the last.
    """
    layer = shape_layer(viewer)
    if layer is None:
        return None
    chosen = max(layer.selected_data, default=len(layer.data) - 1)
    return np.array([layer.data_to_world(point) for point in layer.data[chosen]])


def shape_layer(viewer: ViewerModel) -> Shapes | None:
    """The active Shapes layer, else the topmost, that has a shape."""
    candidates = [viewer.layers.selection.active, *reversed(viewer.layers)]
    return next((x for x in candidates if isinstance(x, Shapes) and len(x.data)), None)


def see_through(layer: Shapes) -> None:
    """Leave shapes in napari's own white with their edges only: a map in them can be seen."""
    if (layer.face_color == WHITE).all():
        layer.face_color = layer.current_face_color = "transparent"
