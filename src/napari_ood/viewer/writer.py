"""napari's *Save selected layers* for overlays: what the run behind one says, in one file.

Each function is a writer of ``napari.yaml``: ``(path, [(data, options, type)]) -> [path]``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ood.errors import ExportError
from napari_ood.viewer.layers import MAPS_KEY, OVERLAY_KEY
from napari_ood.viewer.maps import Maps, Overlay

if TYPE_CHECKING:
    from napari.types import FullLayerData

    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.export.results import Results
    from napari_ood.scores.thresholds import Threshold

NAPARI = "napari."
"""Beginning of the commands of napari's own writers, and of no other plugin's."""
ONE_ONLY = (
    "{n} layers are selected, but a {suffix} is of one overlay: select one (OOD, Uncertainty, "
    "Prediction …), or write everything in the dock OOD export"
)
NOT_OURS = (
    "{name} cannot be saved as {suffix}: only overlays of napari-ood can (OOD, Uncertainty, "
    "Prediction …). Select one of them, or choose another file type."
)


def write_geojson(path: str, layers: list[FullLayerData]) -> list[str]:
    """Regions above the overlay's threshold; of the prediction, where each class is."""
    from napari_ood.export.geojson import write_prediction, write_regions

    results, overlay = _results(path, layers)
    if overlay is Overlay.PREDICTION:
        return [str(write_prediction(results, Path(path)))]
    if not results.thresholds:
        raise ExportError(
            "this overlay has no threshold, so there are no regions: set one in the dock "
            "OOD thresholds, or save the table (.csv)"
        )
    return [str(write_regions(results, Path(path)))]


def write_csv(path: str, layers: list[FullLayerData]) -> list[str]:
    """One row per tile."""
    from napari_ood.export import tables

    return [str(tables.write_csv(_results(path, layers)[0], Path(path)))]


def write_parquet(path: str, layers: list[FullLayerData]) -> list[str]:
    """One row per tile, with types."""
    from napari_ood.export import tables

    return [str(tables.write_parquet(_results(path, layers)[0], Path(path)))]


def write_ome_zarr(path: str, layers: list[FullLayerData]) -> list[str]:
    """All maps of the run as channels of one image."""
    from napari_ood.export import ome_zarr
    from napari_ood.export.maps import MapStack

    results, _ = _results(path, layers)
    maps, record = MapStack.of(results), results.provenance()
    return [str(ome_zarr.write_ome_zarr(maps, Path(path), record))]


def write_ome_tiff(path: str, layers: list[FullLayerData]) -> list[str]:
    """All maps of the run as channels of one pyramid; other layers are left to napari."""
    from napari_ood.export import ome_tiff
    from napari_ood.export.maps import MapStack

    if not any(MAPS_KEY in options.get("metadata", {}) for _, options, _ in layers):
        # The longest ending wins a file: without this nobody could save any image as .ome.tif.
        import npe2

        return list(npe2.write(path, layers, plugin_name=NAPARI))
    results, _ = _results(path, layers)
    maps, record = MapStack.of(results), results.provenance()
    return [str(ome_tiff.write_ome_tiff(maps, Path(path), record))]


def _results(path: str, layers: list[FullLayerData]) -> tuple[Results, Overlay]:
    """What is known about the run of an overlay, with the threshold of that overlay."""
    from napari_ood.export.exporter import read_verdicts
    from napari_ood.export.results import Results, qupath_origin

    maps, overlay = _overlay_of(path, layers)
    scored, thresholds = _scored(maps)
    if overlay.value in scored.roles:
        thresholds = {role: t for role, t in thresholds.items() if role == overlay.value}
    origin, _ = qupath_origin(scored)
    return Results(scored, thresholds, read_verdicts(scored), origin), overlay


def _overlay_of(path: str, layers: list[FullLayerData]) -> tuple[Maps, Overlay]:
    if len(layers) > 1:
        raise ExportError(ONE_ONLY.format(n=len(layers), suffix=_suffix(path)))
    options: dict[str, Any] = dict(layers[0][1])
    metadata = options.get("metadata", {})
    maps, overlay = metadata.get(MAPS_KEY), metadata.get(OVERLAY_KEY)
    if maps is None or overlay is None:
        raise ExportError(NOT_OURS.format(name=options.get("name"), suffix=_suffix(path)))
    return maps, overlay


def _suffix(path: str) -> str:
    return "".join(Path(path).suffixes[-2:]) if ".ome." in path else Path(path).suffix


def _scored(maps: Maps) -> tuple[ScoredRun, dict[str, Threshold]]:
    """The run at the temperature, and the thresholds, that its viewer shows it with."""
    import napari

    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.export.results import default_thresholds
    from napari_ood.inference import open_run
    from napari_ood.viewer.bridge import bridge_of
    from napari_ood.viewer.exporting import thresholds_of

    if maps.path is None:
        raise ExportError("this result is not stored yet: wait for the run, then save it")
    viewer = napari.current_viewer()
    session = bridge_of(viewer).session if viewer is not None else None
    scored = session.scored(maps) if session is not None else None
    scored = scored or ScoredRun(open_run(maps.path))
    shown = thresholds_of(session.state) if session and session.state.maps is maps else None
    return scored, default_thresholds(scored) if shown is None else shown
