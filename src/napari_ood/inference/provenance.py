"""Where a run comes from: enough to say what it is, and to refuse to mix it with another."""

from __future__ import annotations

import hashlib
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.inference.plan import check_slide
from napari_ood.slides.acquisition import acquisition_of
from napari_ood.slides.bounds import scanned_bounds

if TYPE_CHECKING:
    from napari_ood.models import Bundle
    from napari_ood.slides import Slide
    from napari_ood.slides.grid import TileGrid

PACKAGES = ("napari-ood", "torch", "timm", "torchvision", "numpy", "tifffile", "imagecodecs",
            "openslide-python", "zarr")  # fmt: skip
"""Packages whose version can change what a run holds."""


def identity(
    slide: Slide,
    bundle: Bundle,
    grid: TileGrid,
    tissue: bool,
    roi: NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """What must be equal for a run to be resumed; the keys are words for the error message."""
    found = {
        "slide": slide.fingerprint(),
        "bundle": dict(bundle.hashes),
        "region or resolution": grid.to_dict(),
        # On whole images it changes nothing.
        "tissue setting": tissue and not bundle.card.whole_image,
    }
    if roi is None:
        return found
    return {**found, "region of interest": hashlib.sha256(np.packbits(roi).tobytes()).hexdigest()}


def provenance(slide: Slide, bundle: Bundle, identity: dict[str, Any]) -> dict[str, Any]:
    """JSON-ready record of slide, bundle and versions."""
    height, width = slide.shape
    scale = check_slide(slide, bundle.card)
    bounds = scanned_bounds(slide.metadata)
    return {
        "identity": identity,
        "slide": {
            "name": slide.name,
            "path": str(slide.path.absolute()),
            "size": [height, width],
            "mpp": list(slide.mpp) if slide.mpp else None,
            "bounds": list(bounds) if bounds else None,
            "vendor": slide.vendor,
            "objective": slide.objective,
            "acquisition": acquisition_of(slide).as_dict(),
            "fingerprint": identity["slide"],
        },
        "bundle": {
            "name": bundle.name,
            "path": str(bundle.path.absolute()),
            "hashes": dict(bundle.hashes),
            "card": bundle.card.to_config(),
        },
        "warnings": [*slide.warnings, *([scale] if scale else [])],
        "versions": {"python": platform.python_version(), **package_versions()},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "sessions": [],
    }


def session_record(
    started: float, report: dict[str, Any], arguments: dict[str, Any]
) -> dict[str, Any]:
    """JSON-ready record of one call of the engine."""
    began = datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds")
    ended = datetime.now(UTC).isoformat(timespec="seconds")
    return {"started": began, "ended": ended, **arguments, **report, "machine": platform.platform()}


def package_versions() -> dict[str, str]:
    """Versions of ``PACKAGES`` that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
