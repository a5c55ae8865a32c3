"""The maps as pyramidal OME-TIFF: levels in SubIFDs, as Bio-Formats and QuPath read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tifffile

from napari_ood.export.files import Step, new_file, unwatched
from napari_ood.export.maps import MapStack

ATTRIBUTE = "napari_ood"
TILE_PX = 256
_OPAQUE = 0xFF


def write_ome_tiff(
    maps: MapStack, path: Path, provenance: dict[str, Any], step: Step = unwatched
) -> Path:
    """Write channels × y × x float32, NaN where no tile was run, with sizes and place in µm.

    Raises
    ------
    ExportError
        If it cannot be written, or the export was cancelled.
    """
    levels = maps.levels()
    with new_file(path) as partial, tifffile.TiffWriter(partial, ome=True) as tif:
        for i, values in enumerate(levels):
            step(i, len(levels))
            tif.write(
                values,
                photometric="minisblack",
                tile=(TILE_PX, TILE_PX),
                compression="zlib",
                subifds=len(levels) - 1 if i == 0 else None,
                subfiletype=int(i > 0),
                metadata=_metadata(maps, provenance) if i == 0 else None,
            )
    step(len(levels), len(levels))
    return path


def _metadata(maps: MapStack, provenance: dict[str, Any]) -> dict[str, Any]:
    unit = "µm" if maps.unit == "micrometer" else "pixel"
    (height, width), (y, x), n = maps.pixel, maps.centre, len(maps.channels)
    # OME counts positions from the edge of a pixel or its middle, it does not say; the middle here.
    return {
        "axes": "CYX",
        "Name": maps.name,
        "Description": json.dumps(
            {ATTRIBUTE: {**provenance, "maps": maps.as_dict()}}, ensure_ascii=False, allow_nan=False
        ),
        "PhysicalSizeX": width,
        "PhysicalSizeY": height,
        "PhysicalSizeXUnit": unit,
        "PhysicalSizeYUnit": unit,
        "Channel": {
            "Name": [channel.name for channel in maps.channels],
            "Color": [_signed(channel.color) for channel in maps.channels],
        },
        "Plane": {
            "PositionX": [x] * n,
            "PositionY": [y] * n,
            "PositionXUnit": [unit] * n,
            "PositionYUnit": [unit] * n,
        },
    }


def _signed(color: str) -> int:
    """``RRGGBB`` as OME's colour, a signed 32-bit RGBA."""
    rgba = (int(color, 16) << 8) | _OPAQUE
    return rgba - (1 << 32) if rgba >= 1 << 31 else rgba
