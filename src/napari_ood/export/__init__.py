"""Results that leave napari, and what comes back: GeoJSON, tables, OME-Zarr, OME-TIFF, report.

Names are resolved on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ood._lazy import lazy_names

if TYPE_CHECKING:
    from napari_ood.export.exporter import FORMATS, export_run
    from napari_ood.export.files import ExportProgress

_HOME = {
    "FORMATS": "exporter",
    "export_run": "exporter",
    "ExportProgress": "files",
}

__all__ = ["FORMATS", "ExportProgress", "export_run"]

__getattr__ = lazy_names(__name__, _HOME)


def __dir__() -> list[str]:
    return list(__all__)
