"""Outlines of a GeoJSON file as a Shapes layer on the slide, which the scope *Shape* can run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ood.errors import ExportError
from napari_ood.viewer.geometry import slide_placement

if TYPE_CHECKING:
    from napari.types import LayerData
    from numpy.typing import NDArray

    from napari_ood.export.geojson_import import Annotation
    from napari_ood.slides import Slide

MOST_OUTLINES = 2000
"""napari takes 0.1 ms for each point of a shape, and minutes for a slide full of cells."""
EDGE = "#ffd400"
EDGE_PX = 3.0
"""Width of the line on the screen when all outlines are seen at once."""
CANVAS_PX = 1000.0


def outline_layer_data(path: Path, slide: Slide | None) -> LayerData:
    """The outlines of a file where they belong on the slide that is shown.

    Holes are filled, as napari's shapes have none; the scope runs bounding boxes anyway.

    Raises
    ------
    ExportError
        If no slide is open, the file cannot be read or is of another slide, or has too many
        outlines for napari.
    """
    from napari_ood.export.geojson_import import read_geojson
    from napari_ood.export.results import origin_of_slide

    if slide is None:
        raise ExportError(f"open the slide that {path.name} was drawn on first: it gives the scale")
    found = read_geojson(path, origin_of_slide(slide))
    own = found.record.get("slide")
    if isinstance(own, dict) and own.get("fingerprint") != slide.fingerprint():
        raise ExportError(f"{path.name} is of another slide, {own.get('name')}: open that one")
    parts = [(a, ring) for a in found.annotations for ring in _shells(a)]
    if len(parts) > MOST_OUTLINES:
        raise ExportError(
            f"{path.name} has {len(parts):,} outlines, napari can draw {MOST_OUTLINES:,}: export "
            "only the annotations, not the detections, from QuPath"
        )
    place = slide_placement(slide.mpp)
    rings = [ring * np.array(place.scale) for _, ring in parts]
    options: dict[str, Any] = {
        "name": f"Outlines · {path.name.split('.')[0]}",
        "shape_type": "polygon",
        "edge_color": EDGE,
        "edge_width": EDGE_PX * _extent(rings) / CANVAS_PX,
        "face_color": "transparent",
        "opacity": 1.0,
        "units": place.units,
        "features": {
            "name": [a.name for a, _ in parts],
            "class": [": ".join(a.names) for a, _ in parts],
        },
    }
    return rings, options, "shapes"


def _shells(annotation: Annotation) -> list[NDArray[np.float64]]:
    """Outer rings in napari's order and place: (y, x), pixel centres on integers; [n, 2] each."""
    import shapely

    shells = (part.exterior for part in shapely.get_parts(annotation.outline))
    return [shapely.get_coordinates(shell)[:-1, ::-1] - 0.5 for shell in shells]


def _extent(rings: list[NDArray[np.float64]]) -> float:
    """Longer side of what holds all rings."""
    points = np.concatenate(rings)
    return float(np.ptp(points, axis=0).max())
