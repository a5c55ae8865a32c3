"""napari-ood: prediction, uncertainty and out-of-distribution maps on slides.

Public names are resolved on first use, so that ``import napari_ood`` loads neither torch nor
napari nor Qt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ood._lazy import lazy_names

if TYPE_CHECKING:
    from napari_ood.errors import (
        BundleError,
        DeviceError,
        DownloadError,
        OodError,
        RunError,
        SlideError,
    )
    from napari_ood.inference import Progress, Run, open_run, run_slide
    from napari_ood.models import Bundle, list_bundles, load_bundle
    from napari_ood.slides import Slide, TileGrid, open_slide

__version__ = "0.1.0"

_HOME = {
    "BundleError": "errors",
    "DeviceError": "errors",
    "DownloadError": "errors",
    "OodError": "errors",
    "RunError": "errors",
    "SlideError": "errors",
    "Progress": "inference",
    "Run": "inference",
    "open_run": "inference",
    "run_slide": "inference",
    "Bundle": "models",
    "list_bundles": "models",
    "load_bundle": "models",
    "Slide": "slides",
    "TileGrid": "slides",
    "open_slide": "slides",
}

__all__ = [
    "Bundle",
    "BundleError",
    "DeviceError",
    "DownloadError",
    "OodError",
    "Progress",
    "Run",
    "RunError",
    "Slide",
    "SlideError",
    "TileGrid",
    "list_bundles",
    "load_bundle",
    "open_run",
    "open_slide",
    "run_slide",
]


__getattr__ = lazy_names(__name__, _HOME)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
