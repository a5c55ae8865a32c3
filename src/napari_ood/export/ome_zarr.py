"""The maps as OME-Zarr.

OME-NGFF 0.4 on zarr v2 with zlib: the version that QuPath writes itself, and that every reader of
OME-Zarr knows; 0.5 on zarr v3 is still new to the Bio-Formats family, which QuPath reads with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zarr

from napari_ood.export.files import Step, new_folder, unwatched
from napari_ood.export.maps import MapStack

VERSION = "0.4"
CHUNK_PX = 256
ATTRIBUTE = "napari_ood"
_ZLIB: dict[str, Any] = {"id": "zlib", "level": 5}


def write_ome_zarr(
    maps: MapStack, path: Path, provenance: dict[str, Any], step: Step = unwatched
) -> Path:
    """Write a folder with one multiscale image: axes c, y, x; float32, NaN where no tile was run.

    Raises
    ------
    ExportError
        If it cannot be written, something else lies there, or the export was cancelled.
    """
    levels = maps.levels()
    with new_folder(path, ours=_is_export) as partial:
        group = zarr.open_group(partial, mode="w", zarr_format=2)
        for i, values in enumerate(levels):
            step(i, len(levels))
            chunks = (1, *(min(CHUNK_PX, side) for side in values.shape[1:]))
            array = group.create_array(
                str(i), shape=values.shape, chunks=chunks, dtype="float32", fill_value="NaN",
                compressors=_ZLIB,
                chunk_key_encoding={"name": "v2", "separator": "/"},
            )  # fmt: skip
            array[:] = values
        group.attrs.update(
            {
                "multiscales": [_multiscale(maps, len(levels))],
                "omero": _omero(maps),
                ATTRIBUTE: {**provenance, "maps": maps.as_dict()},
            }
        )
    step(len(levels), len(levels))
    return path


def _is_export(path: Path) -> bool:
    try:
        return ATTRIBUTE in zarr.open_group(path, mode="r").attrs
    except (OSError, ValueError, KeyError):
        return False


def _multiscale(maps: MapStack, n_levels: int) -> dict[str, Any]:
    unit = {"unit": maps.unit} if maps.unit == "micrometer" else {}
    datasets = []
    for level in range(n_levels):
        pixel, centre = maps.place(level)
        transforms = [
            {"type": "scale", "scale": [1.0, *pixel]},
            {"type": "translation", "translation": [0.0, *centre]},
        ]
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    return {
        "version": VERSION,
        "name": maps.name,
        "axes": [
            {"name": "c", "type": "channel"},
            {"name": "y", "type": "space", **unit},
            {"name": "x", "type": "space", **unit},
        ],
        "datasets": datasets,
        "type": "mean",
    }


def _omero(maps: MapStack) -> dict[str, Any]:
    channels = []
    for number, channel in enumerate(maps.channels):
        low, high = channel.limits
        channels.append(
            {
                "label": channel.name, "color": channel.color, "active": number == 0,
                "coefficient": 1.0, "family": "linear", "inverted": False,
                "window": {"min": low, "max": high, "start": low, "end": high},
            }
        )  # fmt: skip
    return {
        "name": maps.name,
        "version": VERSION,
        "channels": channels,
        "rdefs": {"model": "color", "defaultZ": 0, "defaultT": 0},
    }
