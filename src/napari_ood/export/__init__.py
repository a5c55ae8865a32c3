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
    from napari_ood.export.review_import import Conflict, ImportSummary, import_review
    from napari_ood.export.roi_import import Roi, import_roi, roi_for_slide, write_roi
    from napari_ood.export.verdict_import import ImportedVerdicts, as_verdicts

_HOME = {
    "FORMATS": "exporter",
    "export_run": "exporter",
    "ExportProgress": "files",
    "GeoJson": "geojson_import",
    "read_geojson": "geojson_import",
    "roi_mask": "geojson_import",
    "Conflict": "review_import",
    "ImportSummary": "review_import",
    "import_review": "review_import",
    "Roi": "roi_import",
    "import_roi": "roi_import",
    "roi_for_slide": "roi_import",
    "write_roi": "roi_import",
    "read_maps": "maps_import",
    "qupath_origin": "results",
    "ImportedVerdicts": "verdict_import",
    "as_verdicts": "verdict_import",
}

__all__ = [
    "FORMATS",
    "Conflict",
    "ExportProgress",
    "GeoJson",
    "ImportSummary",
    "ImportedVerdicts",
    "Roi",
    "as_verdicts",
    "export_run",
    "import_review",
    "import_roi",
    "qupath_origin",
    "read_geojson",
    "read_maps",
    "roi_for_slide",
    "roi_mask",
    "write_roi",
]

__getattr__ = lazy_names(__name__, _HOME)


def __dir__() -> list[str]:
    return list(__all__)
