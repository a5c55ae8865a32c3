"""Results that leave napari, and what comes back: GeoJSON, tables, OME-Zarr, OME-TIFF, report.

Names are resolved on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ood._lazy import lazy_names

if TYPE_CHECKING:
    from napari_ood.export.exporter import FORMATS, export_run
    from napari_ood.export.files import ExportProgress
    from napari_ood.export.geojson_import import GeoJson, read_geojson, roi_mask
    from napari_ood.export.maps_import import read_maps
    from napari_ood.export.results import qupath_origin
    from napari_ood.export.verdict_import import ImportedVerdicts, as_verdicts

_HOME = {
    "FORMATS": "exporter",
    "export_run": "exporter",
    "ExportProgress": "files",
    "GeoJson": "geojson_import",
    "read_geojson": "geojson_import",
    "roi_mask": "geojson_import",
    "read_maps": "maps_import",
    "qupath_origin": "results",
    "ImportedVerdicts": "verdict_import",
    "as_verdicts": "verdict_import",
}

__all__ = [
    "FORMATS",
    "ExportProgress",
    "GeoJson",
    "ImportedVerdicts",
    "as_verdicts",
    "export_run",
    "qupath_origin",
    "read_geojson",
    "read_maps",
    "roi_mask",
]

__getattr__ = lazy_names(__name__, _HOME)


def __dir__() -> list[str]:
    return list(__all__)
