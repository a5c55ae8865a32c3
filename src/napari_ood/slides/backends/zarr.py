"""OME-Zarr (OME-NGFF 0.4 in zarr v2, 0.5 in zarr v3), as a folder or one ``.zip``."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import LocalStore, ZipStore

from napari_ood.errors import SlideError
from napari_ood.slides.backends.base import RGB, ZARR_MARKERS, LazyImages, Level, SlideInfo
from napari_ood.slides.backends.pixels import float_scale, to_rgb, white_value_note
from napari_ood.slides.backends.tiff_layout import same_field
from napari_ood.slides.backends.tiff_meta import MPP, physical, to_um

_MAX_SCALE_PIXELS = 64_000_000
_MAX_FINGERPRINT_CHUNKS = 256
_UNITS = {
    "micrometer": "um", "nanometer": "nm", "millimeter": "mm", "centimeter": "cm", "meter": "m",
    "picometer": "pm", "angstrom": "Å", "inch": "in",
}  # fmt: skip
_RGB_COLOURS = ("FF0000", "00FF00", "0000FF")


class ZarrBackend:
    """Reads the multiscale image of an OME-Zarr."""

    def __init__(self, path: Path, prefix: str | None = None) -> None:
        self._store = LocalStore(path, read_only=True) if prefix is None else ZipStore(path)
        root = zarr.open(self._store, path=prefix or "", mode="r")
        if not isinstance(root, zarr.Group):
            raise SlideError("it is one level of an OME-Zarr; open the folder above it")
        group, image = _image_group(root)
        axes = _axes(image)
        self._arrays = _arrays(group, image, axes)
        self._axes = axes
        first = self._arrays[0]
        self._n_samples = _samples(first, axes, _ome_attributes(group))
        levels = tuple(self._level(array) for array in self._arrays)
        self._top = self._white(first.dtype)
        self.info = SlideInfo(
            format=f"OME-Zarr (zarr v{first.metadata.zarr_format})",
            reader="zarr",
            levels=levels,
            mpp=_mpp(image, axes),
            files=_fingerprint_files(path, group, image),
            vendor="generic",
            metadata={"ome.name": str(image.get("name", "")), "zarr.dtype": str(first.dtype)},
            warnings=_notes(first.dtype, self._top),
        )
        self.associated = LazyImages({})

    def read(self, level: int, y: int, x: int, h: int, w: int) -> RGB:
        """Return the (h, w, 3) uint8 window of a level."""
        return to_rgb(self._samples(level, y, x, h, w), self._top)

    def _samples(self, level: int, y: int, x: int, h: int, w: int) -> Any:
        windows = {"y": slice(y, y + h), "x": slice(x, x + w), "c": slice(None)}
        values = np.asarray(self._arrays[level][tuple(windows.get(a, 0) for a in self._axes)])
        kept = [axis for axis in self._axes if axis in windows]
        order = [kept.index(axis) for axis in ("y", "x", "c") if axis in kept]
        values = values.transpose(order)
        return values if values.ndim == 3 else values[..., None]

    def _level(self, array: Any) -> Level:
        sides = dict(zip(self._axes, array.shape, strict=True))
        chunks = dict(zip(self._axes, array.chunks, strict=True))
        return Level(
            (sides["y"], sides["x"]),
            (max(1, min(chunks["y"], sides["y"])), max(1, min(chunks["x"], sides["x"]))),
        )

    def _white(self, dtype: np.dtype[Any]) -> float:
        if dtype.kind == "b":
            return 1.0
        if dtype.kind == "u" and dtype.itemsize <= 2:
            return float(np.iinfo(dtype).max)
        if dtype.kind != "f":
            raise SlideError(f"its pixels are {dtype}, which has no fixed display range")
        last = len(self._arrays) - 1
        h, w = self._level(self._arrays[last]).shape
        if h * w > _MAX_SCALE_PIXELS:
            raise SlideError("its float pixels have no small level that shows their range")
        values = self._samples(last, 0, 0, h, w)
        return float_scale(float(np.nanmin(values)), float(np.nanmax(values)))

    def close(self) -> None:
        """Close the store."""
        self._store.close()


def open_zarr(path: Path, prefix: str | None = None) -> ZarrBackend:
    """Open an OME-Zarr folder, or the group at ``prefix`` inside a zip."""
    try:
        return ZarrBackend(path, prefix)
    except SlideError:
        raise
    except Exception as error:
        raise SlideError(f"its OME-Zarr metadata is damaged ({error!r})") from error


def _ome_attributes(group: zarr.Group) -> Mapping[str, Any]:
    """Return the OME attributes: under ``ome`` since 0.5, at the top before."""
    attributes = group.attrs.asdict()
    inner = attributes.get("ome")
    return inner if isinstance(inner, dict) else attributes


def _image_group(root: zarr.Group) -> tuple[zarr.Group, dict[str, Any]]:
    """Return the group with ``multiscales`` and its first entry; follows bioformats2raw."""
    for group in (root, root.get("0")):
        if isinstance(group, zarr.Group):
            attributes = _ome_attributes(group)
            if "plate" in attributes:
                raise SlideError("it is a plate of many images; open one of its wells' images")
            if attributes.get("multiscales"):
                return group, attributes["multiscales"][0]
    raise SlideError("it is zarr, but no OME-Zarr image (no multiscales metadata)")


def _axes(image: Mapping[str, Any]) -> tuple[str, ...]:
    stated = image.get("axes") or list("tczyx")  # the default before 0.3
    names = [str(axis["name"] if isinstance(axis, dict) else axis).lower() for axis in stated]
    kinds = [axis.get("type") if isinstance(axis, dict) else None for axis in stated]
    return tuple(
        "c" if kind == "channel" or name in "cs" else name
        for name, kind in zip(names, kinds, strict=True)
    )


def _arrays(group: zarr.Group, image: Mapping[str, Any], axes: tuple[str, ...]) -> list[Any]:
    """Return the arrays of the levels, finest first, without those of another shape."""
    arrays: list[Any] = [group[str(dataset["path"])] for dataset in image["datasets"]]
    if not {"y", "x"} <= set(axes) or any(len(a.shape) != len(axes) for a in arrays):
        raise SlideError(f"its axes are {''.join(axes)}; a slide needs y and x")
    names = {"z": "focal planes", "t": "time points"}
    for axis, size in zip(axes, arrays[0].shape, strict=True):
        if axis not in "yxc" and size > 1:
            raise SlideError(f"it holds {size} {names.get(axis, axis)}; export one plane")
    y, x = axes.index("y"), axes.index("x")
    if min(arrays[0].shape[y], arrays[0].shape[x]) < 1:
        raise SlideError("its image is empty")
    base = (arrays[0].shape[y], arrays[0].shape[x])
    fitting = [a for a in arrays[1:] if same_field(base, (a.shape[y], a.shape[x]))]
    return [arrays[0], *fitting]


def _samples(array: Any, axes: tuple[str, ...], attributes: Mapping[str, Any]) -> int:
    n = int(array.shape[axes.index("c")]) if "c" in axes else 1
    if n == 1 or (n in (3, 4) and axes[-1] == "c"):
        return n
    channels = (attributes.get("omero") or {}).get("channels") or []
    colours = tuple(str(channel.get("color", "")).upper() for channel in channels)
    if n == 3 and (not colours or colours == _RGB_COLOURS):
        return n
    raise SlideError(
        f"it holds {n} channels that are not red, green and blue (fluorescence?); "
        "export an RGB merge"
    )


def _mpp(image: Mapping[str, Any], axes: tuple[str, ...]) -> MPP | None:
    """µm/px (y, x) of the finest level: its scale x the image's scale, in the axes' units."""
    stated = image.get("axes") or []
    scale = np.ones(len(axes))
    for holder in (image["datasets"][0], image):
        for step in holder.get("coordinateTransformations") or ():
            if step.get("type") == "scale" and len(step.get("scale", ())) == len(axes):
                scale = scale * np.asarray(step["scale"], float)
    sides = []
    for name in "yx":
        i = axes.index(name)
        unit = stated[i].get("unit") if i < len(stated) and isinstance(stated[i], dict) else None
        um = to_um(float(scale[i]), _UNITS.get(unit, unit)) if unit else None
        if um is None:
            return None
        sides.append(um)
    return physical((sides[0], sides[1]))


def _notes(dtype: np.dtype[Any], top: float) -> tuple[str, ...]:
    return () if dtype.itemsize == 1 else (white_value_note(dtype, top),)


def _fingerprint_files(path: Path, group: zarr.Group, image: Mapping[str, Any]) -> tuple[Path, ...]:
    """Return the metadata files and some of the coarsest level's chunks.

    A folder may hold a million chunks: listing them all would take minutes.
    """
    if path.is_file():
        return (path,)
    home = path / group.path
    levels = [home / str(dataset["path"]) for dataset in image["datasets"]]
    metadata = [f / marker for f in (path, home, *levels) for marker in ZARR_MARKERS]
    chunks = islice((f for f in levels[-1].rglob("*") if f.is_file()), _MAX_FINGERPRINT_CHUNKS)
    found = {f for f in (*metadata, *chunks) if f.is_file()}
    return tuple(sorted(found))
