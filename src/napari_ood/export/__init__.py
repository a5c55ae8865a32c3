"""Results that leave napari: GeoJSON, tables, OME-Zarr, OME-TIFF, a report; and back in."""
