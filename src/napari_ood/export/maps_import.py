"""Exported maps come back, from OME-Zarr and OME-TIFF, with their place on the slide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr

from napari_ood.errors import ExportError
from napari_ood.export.maps import MapStack
from napari_ood.export.ome_tiff import ATTRIBUTE

TIFF_SUFFIXES = (".tif", ".tiff")


def is_maps(path: str | Path) -> bool:
    """Whether a file or folder holds maps that napari-ood exported; decodes no pixel."""
    return _about(Path(path)) is not None


def read_maps(path: str | Path) -> MapStack:
    """Read what ``write_ome_zarr`` or ``write_ome_tiff`` wrote.

    Raises
    ------
    ExportError
        If it is no export of maps, or damaged.
    """
    path = Path(path)
    about = _about(path)
    if about is None:
        raise ExportError(f"{path.name} holds no maps that napari-ood exported: open those")
    try:
        values = zarr.open_group(path, mode="r")["0"] if path.is_dir() else tifffile.imread(path)
        return MapStack.from_dict(about, np.asarray(values[...], np.float32))  # type: ignore[index]
    except Exception as error:  # codecs raise their own types; the user gets one line
        raise ExportError(f"{path.name} is damaged ({error}): export the run again") from error


def _about(path: Path) -> dict[str, Any] | None:
    """What our own metadata say of the maps; None for any other file."""
    try:
        found: Any = (
            zarr.open_group(path, mode="r").attrs[ATTRIBUTE]
            if path.is_dir()
            else _in_tiff(path)[ATTRIBUTE]
        )
        maps = found["maps"]
    except (OSError, KeyError, TypeError, ValueError):
        return None
    return maps if isinstance(maps, dict) else None


def _in_tiff(path: Path) -> dict[str, Any]:
    if path.suffix.lower() not in TIFF_SUFFIXES:
        raise ValueError("not a TIFF by its name")
    with tifffile.TiffFile(path) as tif:
        xml = tif.ome_metadata
    if xml is None or ATTRIBUTE not in xml:
        raise ValueError("no maps of ours")
    image = tifffile.xml2dict(xml)["OME"]["Image"]
    content: dict[str, Any] = json.loads(image["Description"])
    return content
