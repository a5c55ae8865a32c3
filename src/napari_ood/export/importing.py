"""What both ways of importing GeoJSON share: the run, where the file counts from, whose it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_ood.errors import ExportError
from napari_ood.export.geojson_import import GeoJson, read_geojson
from napari_ood.export.results import qupath_origin

if TYPE_CHECKING:
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.slides import Slide


def scored_run(run: str | Path | ScoredRun) -> ScoredRun:
    """Open a run where only its folder is given; RunError where there is none."""
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.inference import open_run

    return run if isinstance(run, ScoredRun) else ScoredRun(open_run(run))


def read_for_run(
    path: str | Path, scored: ScoredRun, slide: Slide | None = None, crop: bool = True
) -> tuple[GeoJson, tuple[str, ...]]:
    """Read a file's outlines in level-0 pixels of a run's slide.

    Parameters
    ----------
    path : GeoJSON
    scored : ScoredRun
    slide : asked where QuPath counts from, should an older run not know it
    crop : whether the file counts from the scanned part of the slide, as QuPath does unless it
        opened the slide with ``--no-crop``; files of ours say it themselves

    Returns
    -------
    What the file holds, and notes for the user.

    Raises
    ------
    ExportError
        If it cannot be read, or says that it is of another slide.
    """
    origin, note = qupath_origin(scored, slide) if crop else ((0, 0), None)
    found = read_geojson(path, origin)
    own, ours = found.record.get("slide"), scored.run.provenance["slide"]
    if isinstance(own, dict) and own.get("fingerprint") != ours["fingerprint"]:
        raise ExportError(
            f"{Path(path).name} is of another slide, {own.get('name')}, and the run is of "
            f"{ours['name']}: choose the run of that slide"
        )
    return found, () if note is None or found.record else (note,)
