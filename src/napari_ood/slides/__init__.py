"""Slides: readers, pyramid, tissue, tile grid. Names are resolved on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_ood.slides.grid import TileGrid
    from napari_ood.slides.resample import SlideView
    from napari_ood.slides.slide import Slide, open_slide
    from napari_ood.slides.tissue import TissueMask, tissue_mask

_HOME = {
    "Slide": "slide",
    "SlideView": "resample",
    "TileGrid": "grid",
    "TissueMask": "tissue",
    "open_slide": "slide",
    "tissue_mask": "tissue",
}

__all__ = ["Slide", "SlideView", "TileGrid", "TissueMask", "open_slide", "tissue_mask"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
