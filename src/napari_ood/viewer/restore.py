"""A stored run as layers: its slide, if it is where it was, and its overlays. No Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_warning

from napari_ood.errors import RunError, SlideError
from napari_ood.inference import open_run
from napari_ood.samples import load_truth, truth_path
from napari_ood.slides import open_slide
from napari_ood.viewer.layers import (
    overlay_layer_data,
    slide_layer_data,
    truth_layer_data,
)
from napari_ood.viewer.looking import open_scored
from napari_ood.viewer.maps import Maps

if TYPE_CHECKING:
    from napari.types import LayerData

    from napari_ood.inference import Run
    from napari_ood.models import Bundle
    from napari_ood.slides import Slide


@dataclass(frozen=True, eq=False)
class Found:
    """A stored run with what belongs to it.

    Attributes
    ----------
    maps : its maps
    slide : None where it was not found
    opened : whether the viewer shows the slide already
    missing : what was not found, in words
    """

    maps: Maps
    slide: Slide | None
    opened: bool
    missing: tuple[str, ...]

    def layer_data(self) -> list[LayerData]:
        """Layers, bottom first."""
        slide, maps = self.slide, self.maps
        overlays = overlay_layer_data(maps, slide, slide.name if slide else maps.name)
        if slide is None or self.opened:
            return overlays
        return [slide_layer_data(slide), *overlays, *truth_of(slide)]

    def tell_missing(self) -> None:
        """Tell in one warning what was not found."""
        if self.missing:
            show_warning(" ".join(self.missing))


def read(path: Path, opened: Sequence[Slide] = ()) -> Found:
    """Read a run, its bundle and its slide; may be called in a thread, as it takes a while.

    Parameters
    ----------
    path : the run's folder
    opened : slides that the viewer shows already; the run's is not opened twice

    Raises
    ------
    RunError
        If there is no run at ``path``.
    """
    run = open_run(path)
    missing: list[str] = []
    bundle, slide = _bundle_of(run, missing), _slide_of(run, opened, missing)
    maps = Maps.of_run(run, bundle)
    maps.stored = open_scored(maps)
    return Found(maps, slide, any(slide is s for s in opened), tuple(missing))


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


def _slide_of(run: Run, opened: Sequence[Slide], missing: list[str]) -> Slide | None:
    """The slide that is open, else where the run recorded it, else beside the run."""
    record = run.provenance["slide"]
    recorded = Path(record["path"])
    mpp = (record["mpp"][0], record["mpp"][1]) if record["mpp"] else None
    for slide in opened:
        if slide.mpp == mpp and _is_recorded(slide, record):
            return slide
    for path in (recorded, run.path.absolute().parent / recorded.name):
        try:
            slide = open_slide(path, mpp=mpp)
        except SlideError:
            continue
        if _is_recorded(slide, record):
            return slide
        missing.append(f"{path} is not the slide of this run any more: its contents differ.")
        return None
    missing.append(
        f"The slide of {run.path.name} was not found at {recorded}. "
        "Put it beside the run, or locate it in the OOD dock."
    )
    return None


def _is_recorded(slide: Slide, record: dict[str, Any]) -> bool:
    """Whether a slide's file is, byte for byte where it was sampled, the one that was run."""
    try:
        return bool(slide.fingerprint() == record["fingerprint"])
    except OSError:
        return False
