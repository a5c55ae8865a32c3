"""A stored run as layers: its slide, if it is where it was, and its overlays. No Qt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_warning

from napari_ood.errors import RunError, SlideError
from napari_ood.inference import open_run
from napari_ood.samples import load_truth, truth_path
from napari_ood.slides import open_slide
from napari_ood.viewer.layers import overlay_layer_data, slide_layer_data, truth_layer_data
from napari_ood.viewer.maps import Maps

if TYPE_CHECKING:
    from napari.types import LayerData

    from napari_ood.inference import Run
    from napari_ood.models import Bundle
    from napari_ood.slides import Slide


def run_layer_data(path: Path) -> list[LayerData]:
    """Layers of a run, bottom first; what is missing is told in one warning.

    Raises
    ------
    RunError
        If there is no run at ``path``.
    """
    run = open_run(path)
    missing: list[str] = []
    bundle, slide = _bundle_of(run, missing), _slide_of(run, missing)
    maps = Maps.of_run(run, bundle)
    if missing:
        show_warning(" ".join(missing))
    overlays = overlay_layer_data(maps, slide, slide.name if slide else maps.name)
    if slide is None:
        return overlays
    return [slide_layer_data(slide), *overlays, *truth_of(slide)]


def truth_of(slide: Slide) -> list[LayerData]:
    """The truth that lies beside a procedural slide, as a hidden layer; none beside others."""
    if not truth_path(slide.path).is_file():
        return []
    return [truth_layer_data(load_truth(slide.path), slide)]


def _bundle_of(run: Run, missing: list[str]) -> Bundle | None:
    try:
        return run.bundle()
    except RunError as error:
        missing.append(f"{error}. OOD cannot be shown without it.")
        return None


def _slide_of(run: Run, missing: list[str]) -> Slide | None:
    """The slide where the run recorded it, else beside the run."""
    record = run.provenance["slide"]
    recorded = Path(record["path"])
    mpp = record["mpp"] and (record["mpp"][0], record["mpp"][1])
    for path in (recorded, run.path.absolute().parent / recorded.name):
        try:
            slide = open_slide(path, mpp=mpp)
        except SlideError:
            continue
        if slide.fingerprint() == record["fingerprint"]:
            return slide
        missing.append(f"{path} is not the slide of this run any more: its contents differ.")
        return None
    missing.append(
        f"The slide of {run.path.name} was not found at {recorded}. "
        "Put it beside the run, or locate it in the OOD dock."
    )
    return None
