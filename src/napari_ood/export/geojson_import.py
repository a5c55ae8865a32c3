"""GeoJSON that QuPath wrote, as outlines of a region of interest or as a reviewer's verdicts.

Read as QuPath reads it: a FeatureCollection, a bare list of features, a single feature, geometries.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import shapely
from numpy.typing import NDArray

from napari_ood.errors import ExportError
from napari_ood.export.outline import Lattice

if TYPE_CHECKING:
    from napari_ood.slides.grid import TileGrid

Origin = tuple[float, float]
_AREAS = ("Polygon", "MultiPolygon", "GeometryCollection")
_FOUND_NOT_DRAWN = {
    name: kind
    for kind in ("detection", "cell", "tile")
    for name in (kind, f"Path{kind.title()}Object")
}
"""QuPath's types, since 0.3 and before, of what an algorithm found in thousands."""


@dataclass(frozen=True, eq=False)
class Annotation:
    """An outlined object.

    Attributes
    ----------
    outline : shapely Polygon or MultiPolygon in level-0 pixels of the whole canvas, x before y
    names : parts of its classification; none if it has none
    name : its own name, or ""
    measurements : name → number
    metadata : texts
    id : str or None
    """

    outline: Any
    names: tuple[str, ...] = ()
    name: str = ""
    measurements: Mapping[str, float] | None = None
    metadata: Mapping[str, str] | None = None
    id: str | None = None

    @property
    def title(self) -> str:
        """How to speak of it to the user."""
        return self.name or ": ".join(self.names) or self.id or "an unnamed object"


@dataclass(frozen=True)
class GeoJson:
    """What a file holds.

    Attributes
    ----------
    annotations : outlined objects
    passed_over : what else there was, in words
    record : what a file of ours says of its run; empty for files of others
    """

    annotations: tuple[Annotation, ...]
    passed_over: tuple[str, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)


def read_geojson(path: str | Path, origin: Origin = (0, 0)) -> GeoJson:
    """Read outlines.

    Parameters
    ----------
    path : a ``.geojson`` or ``.json`` file, also as ``.gz`` or ``.zip``
    origin : y, x in level-0 pixels of the point that the file counts from, see
        ``results.qupath_origin``; files of ours say it themselves and it is not used

    Raises
    ------
    ExportError
        If the file cannot be read or is no GeoJSON, a geometry is damaged, or nothing in it has an
        area.
    """
    path = Path(path)
    content = _parse(path)
    record = _own_record(content)
    origin = _own_origin(record) or origin
    annotations, passed_over, detected = [], [], Counter[str]()
    for number, item in enumerate(_features(path, content), start=1):
        if found := _FOUND_NOT_DRAWN.get(_object_type(item)):
            detected[found] += 1
            continue
        geometry = item.get("geometry")
        kind = geometry.get("type") if isinstance(geometry, dict) else None
        if not isinstance(geometry, dict) or kind not in _AREAS:
            passed_over.append(f"feature {number} is a {kind or 'thing without geometry'}")
            continue
        try:
            outline = _moved(_area(geometry), origin)
            annotation = _annotation(item, outline)
        except (AttributeError, KeyError, TypeError, ValueError, shapely.GEOSException) as error:
            raise ExportError(f"{path.name}: feature {number} is damaged ({error})") from error
        if annotation.outline.is_empty:
            passed_over.append(f"feature {number} has no area")
        else:
            annotations.append(annotation)
    passed_over += [f"{n:,} {kind}{'s' * (n > 1)}, not annotations" for kind, n in detected.items()]
    if not annotations:
        raise ExportError(f"{path.name} outlines nothing: export annotations with an area")
    return GeoJson(tuple(annotations), tuple(passed_over), record)


def _parse(path: Path) -> Any:
    try:
        return json.loads(_unpacked(path).decode("utf-8-sig"))
    except (OSError, BadZipFile, EOFError, zlib.error) as error:
        raise ExportError(f"cannot read {path} ({error})") from error
    except (ValueError, RecursionError) as error:
        raise ExportError(
            f"{path.name} is no GeoJSON ({error}): in QuPath, export objects as GeoJSON"
        ) from error


def _unpacked(path: Path) -> bytes:
    """The file's content; QuPath also writes ``.gz``, and ``.zip`` with one file in it."""
    content = path.read_bytes()
    if path.suffix.lower() == ".gz":
        return gzip.decompress(content)
    if path.suffix.lower() != ".zip":
        return content
    with ZipFile(BytesIO(content)) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        if len(names) != 1:
            raise ExportError(f"{path.name} holds {len(names)} files: unpack it and take one")
        return archive.read(names[0])


def _own_record(content: Any) -> Mapping[str, Any]:
    """What our own files say of the run that they are from."""
    record = content.get("napari_ood") if isinstance(content, dict) else None
    return record if isinstance(record, dict) else {}


def _own_origin(record: Mapping[str, Any]) -> Origin | None:
    """Where our own files say that they count from."""
    try:
        x, y = record["qupath_origin_xy"]
        return float(y), float(x)
    except (KeyError, TypeError, ValueError):
        return None


def _features(path: Path, content: Any) -> list[dict[str, Any]]:
    found = list(_flattened(content))
    if not found:
        raise ExportError(
            f"{path.name} is JSON but no GeoJSON with objects: in QuPath, export objects as GeoJSON"
        )
    return found


def _flattened(content: Any) -> Iterator[dict[str, Any]]:
    """Features of a collection, of a bare list, or alone; bare geometries as features."""
    if isinstance(content, list):
        for item in content:
            yield from _flattened(item)
    elif isinstance(content, dict) and content.get("type") == "FeatureCollection":
        yield from _flattened(content.get("features"))
    elif isinstance(content, dict) and content.get("type") == "Feature":
        yield content
        properties = content.get("properties")
        if isinstance(properties, dict):  # objects inside of this one, where QuPath keeps them so
            yield from _flattened(properties.get("childObjects"))
    elif isinstance(content, dict) and content.get("type") in _AREAS:
        yield {"type": "Feature", "geometry": content}


def _object_type(item: Mapping[str, Any]) -> str:
    """QuPath's word for what a feature is; before 0.3 it stood in the id."""
    properties = item.get("properties")
    found = properties.get("objectType") if isinstance(properties, dict) else None
    return str(found or item.get("id"))


def _annotation(item: Mapping[str, Any], outline: Any) -> Annotation:
    properties = item.get("properties") or {}
    metadata = properties.get("metadata") or {}
    return Annotation(
        outline,
        _class_names(properties.get("classification")),
        str(properties.get("name") or ""),
        dict(_measurements(properties.get("measurements"))),
        {str(key): str(value) for key, value in metadata.items()},
        str(item["id"]) if item.get("id") else None,
    )


def _class_names(classification: Any) -> tuple[str, ...]:
    """Parts of a classification: ``name`` or ``names``, or the text that other tools write."""
    if isinstance(classification, dict):
        if names := classification.get("names"):
            return tuple(map(str, names))
        classification = classification.get("name")
    text = str(classification or "")
    return tuple(part.strip() for part in text.split(": ") if part.strip())


def _measurements(found: Any) -> Iterable[tuple[str, float]]:
    """Measurements as a mapping, or as the list of QuPath 0.3; QuPath may write NaN."""
    pairs: Iterable[tuple[Any, Any]] = ()
    if isinstance(found, dict):
        pairs = found.items()
    elif isinstance(found, list):
        pairs = ((entry["name"], entry["value"]) for entry in found)
    for name, value in pairs:
        if isinstance(value, int | float) and np.isfinite(value):
            yield str(name), float(value)


def _area(geometry: Mapping[str, Any]) -> Any:
    """The geometry's polygons, repaired where they cross themselves; raises ValueError."""
    kind = geometry["type"]
    if kind == "GeometryCollection":
        parts = [_area(part) for part in geometry["geometries"] if part["type"] in _AREAS]
        return shapely.union_all(parts)
    several = [geometry["coordinates"]] if kind == "Polygon" else geometry["coordinates"]
    polygons = [_polygon(rings) for rings in several if rings]
    outline = polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)
    return outline if outline.is_valid else _repaired(outline)


def _polygon(rings: Any) -> Any:
    shell, *holes = (_ring(ring) for ring in rings)
    return shapely.Polygon(shell, holes)


def _ring(ring: Any) -> NDArray[np.float64]:
    points = np.asarray([point[:2] for point in ring], np.float64)
    if points.ndim != 2 or points.shape[1:] != (2,) or len(points) < 3:
        raise ValueError("a ring needs at least three points of x and y")
    if not np.isfinite(points).all():
        raise ValueError("a coordinate is not a number")
    return points


def _repaired(outline: Any) -> Any:
    parts = shapely.get_parts(shapely.make_valid(outline))
    areas = [part for part in parts if shapely.get_dimensions(part) == 2]
    return shapely.union_all(areas)


def _moved(outline: Any, origin: Origin) -> Any:
    if not any(origin):
        return outline
    shift = np.array([origin[1], origin[0]])
    return shapely.transform(outline, lambda points: points + shift)


def tiles_inside(outline: Any, lattice: Lattice) -> NDArray[np.int64]:
    """Tiles whose cell has its middle inside an outline, row by row; [K, 2] int64, row and col."""
    y, x = lattice.centres()
    left, low, right, high = outline.bounds
    top, bottom = np.searchsorted(y, [low, high])
    first, end = np.searchsorted(x, [left, right])
    shapely.prepare(outline)
    inside = shapely.contains_xy(outline, x[None, first:end], y[top:bottom, None])
    return np.asarray(np.argwhere(inside) + np.array([top, first]))


def roi_mask(
    annotations: Iterable[Annotation],
    grid: TileGrid,
    wanted: Callable[[Annotation], bool] | None = None,
) -> NDArray[np.bool_]:
    """Tiles whose middle lies in any of the outlines.

    Parameters
    ----------
    annotations : iterable of Annotation
    grid : TileGrid
    wanted : which annotations count; all by default

    Returns
    -------
    (rows, cols) bool
    """
    lattice = Lattice.of(grid)
    mask = np.zeros(lattice.shape, bool)
    for annotation in annotations:
        if wanted is None or wanted(annotation):
            mask[tuple(tiles_inside(annotation.outline, lattice).T)] = True
    return mask
