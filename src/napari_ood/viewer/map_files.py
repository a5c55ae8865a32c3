"""Exported maps as layers: each channel an image, where it belongs on the slide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils import Colormap

from napari_ood.export.maps_import import read_maps
from napari_ood.viewer.colors import TRANSPARENT, hex_to_rgb

if TYPE_CHECKING:
    from napari.types import LayerData

SHOWN = ("uncertainty", "ood")
"""Channels that are visible at first."""


def maps_layer_data(path: str | Path) -> list[LayerData]:
    """Layers of exported maps, in µm if they are; ExportError if they cannot be read."""
    maps = read_maps(path)
    unit = "um" if maps.unit == "micrometer" else "pixel"
    layers: list[LayerData] = []
    for channel, values in zip(maps.channels, maps.values, strict=True):
        low, high = channel.limits
        rgb = hex_to_rgb(channel.color)
        options = {
            "name": f"{channel.name} ({maps.name})",
            "scale": maps.pixel,
            "translate": maps.centre,
            "units": (unit, unit),
            "contrast_limits": (low, high if high > low else low + 1),
            "colormap": Colormap(
                [(*rgb, 0.0), (*rgb, 1.0)],
                name=f"ood-{channel.color}",
                nan_color=TRANSPARENT,
                low_color=TRANSPARENT,
            ),
            "interpolation2d": "nearest",
            "visible": channel.name in SHOWN,
        }
        layers.append((values, options, "image"))
    return layers
