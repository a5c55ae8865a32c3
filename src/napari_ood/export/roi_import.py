"""A region of interest that was drawn in QuPath: what a run says inside of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from napari_ood.analysis.summary import Summary, class_counts, summarise_part
from napari_ood.errors import ExportError
from napari_ood.export.exporter import read_verdicts
from napari_ood.export.geojson_import import Annotation, GeoJson, read_geojson, roi_mask
from napari_ood.export.importing import read_for_run, scored_run
from napari_ood.export.results import Results, default_thresholds, origin_of_slide
from napari_ood.export.tables import write_csv, write_json, write_parquet

if TYPE_CHECKING:
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.scores.thresholds import Threshold
    from napari_ood.slides import Slide
    from napari_ood.slides.grid import TileGrid

Bools = NDArray[np.bool_]

TABLES = (".csv", ".parquet", ".json")
"""What a table of the tiles may be."""


@dataclass(frozen=True, eq=False)
class Roi:
    """The finished tiles of a run whose middle lies in a region of interest.

    Attributes
    ----------
    scored : ScoredRun
    annotations : the outlines
    mask : (rows, cols) bool, tiles of the grid inside, finished or not
    tiles : [K] int64, positions in ``run.index`` of the finished ones
    summaries : role → Summary of those tiles at the role's threshold
    thresholds : role → Threshold
    per_class : (class, tiles predicted to be of it), in the order of the classes
    outline_mm2 : area of the outlines, overlaps counted once; None where mpp isn't known
    passed_over : objects of the file that outline nothing, in words
    notes : what the user should know besides
    """

    scored: ScoredRun
    annotations: tuple[Annotation, ...]
    mask: Bools
    tiles: NDArray[np.int64]
    summaries: Mapping[str, Summary]
    thresholds: Mapping[str, Threshold]
    per_class: tuple[tuple[str, int], ...]
    outline_mm2: float | None
    passed_over: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def n_tiles(self) -> int:
        """Number of finished tiles inside, K."""
        return len(self.tiles)

    @property
    def n_unfinished(self) -> int:
        """Tiles with tissue inside that the run has not reached."""
        return _n_unfinished(self.scored, self.mask)

    @property
    def mm2(self) -> float | None:
        """Area of the finished tiles inside; None where mpp isn't known."""
        area = self.scored.mm2_per_tile
        return None if area is None else area * self.n_tiles

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready form, without the tiles."""
        return {
            "run": str(self.scored.run.path),
            "n_outlines": len(self.annotations),
            "outline_mm2": self.outline_mm2,
            "n_tiles": self.n_tiles,
            "n_unfinished": self.n_unfinished,
            "mm2": self.mm2,
            "per_class": dict(self.per_class),
            "roles": {role: self._of_role(role) for role in self.summaries},
            "passed_over": list(self.passed_over),
            "notes": list(self.notes),
        }

    def _of_role(self, role: str) -> dict[str, Any]:
        summary = self.summaries[role]
        return {
            "threshold": self.thresholds[role].as_dict(),
            "n_flagged": summary.n_flagged,
            "n_unscored": summary.n_unscored,
            "share_flagged": summary.share_flagged,
            "mm2_flagged": summary.mm2_flagged,
            "flagged_per_class": {c.label: c.n_flagged for c in summary.per_class},
        }


def import_roi(
    path: str | Path,
    run: ScoredRun | str | Path,
    thresholds: Mapping[str, Threshold] | None = None,
    *,
    classes: Sequence[str] = (),
    slide: Slide | None = None,
    crop: bool = True,
) -> Roi:
    """Read outlines as a region of interest of a run, and sum up what the run says inside.

    Parameters
    ----------
    path : GeoJSON that QuPath or we wrote
    run : ScoredRun, or the run's folder
    thresholds : role → Threshold; by default those that keep 95 % of in-distribution tiles
    classes : only annotations classified so count; by default all
    slide, crop : where the file counts from, see ``read_for_run``

    Raises
    ------
    ExportError
        If the file cannot be read or is of another slide, no annotation has one of the classes, or
        the middle of no tile lies inside.
    RunError, BundleError, ThresholdError
        If run or scores cannot be read.
    """
    scored = scored_run(run)
    found, notes = read_for_run(path, scored, slide, crop)
    annotations = _wanted(Path(path), found, classes)
    mask = _mask(Path(path), annotations, scored.run.grid)
    chosen = default_thresholds(scored) if thresholds is None else dict(thresholds)
    tiles = np.flatnonzero(mask[scored.run.done])
    n_unfinished = _n_unfinished(scored, mask)
    return Roi(
        scored,
        annotations,
        mask,
        tiles,
        {role: summarise_part(scored, t, tiles, n_unfinished) for role, t in chosen.items()},
        chosen,
        tuple(zip(scored.classes, class_counts(scored, tiles), strict=True)),
        _outline_mm2(scored, annotations),
        found.passed_over,
        notes,
    )


def write_roi(roi: Roi, path: str | Path) -> Path:
    """Write the tiles of a region of interest, one row each, as CSV, Parquet or JSON by the suffix.

    The columns are those of the export's tables, with everybody's verdicts; regions are those of
    the whole run. JSON has the summary beside the tiles.

    Raises
    ------
    ExportError
        For another suffix, or if the file cannot be written.
    """
    path = Path(path)
    check_table(path)
    results = Results(roi.scored, roi.thresholds, read_verdicts(roi.scored))
    if path.suffix.lower() == ".json":
        return write_json(results, path, roi.as_dict(), roi.tiles)
    write = write_csv if path.suffix.lower() == ".csv" else write_parquet
    return write(results, path, tiles=roi.tiles)


def check_table(path: Path) -> None:
    """Refuse a file name that says no kind of table; ExportError."""
    if path.suffix.lower() not in TABLES:
        raise ExportError(f"{path} is no table of tiles: end its name in {', '.join(TABLES)}")


def roi_for_slide(
    path: str | Path, slide: Slide, classes: Sequence[str] = (), crop: bool = True
) -> Callable[[TileGrid], Bools]:
    """Outlines as what ``run_slide`` takes as ``roi``: grid → tiles whose middle lies inside.

    Parameters
    ----------
    path : GeoJSON that QuPath or we wrote
    slide : Slide to run
    classes : only annotations classified so count; by default all
    crop : as :func:`import_roi`

    Raises
    ------
    ExportError
        If the file cannot be read, is of another slide, or no annotation has one of the classes;
        from the returned function, if the middle of no tile lies inside.
    """
    path = Path(path)
    found = read_geojson(path, origin_of_slide(slide) if crop else (0, 0))
    own = found.record.get("slide")
    if isinstance(own, dict) and own.get("fingerprint") != slide.fingerprint():
        raise ExportError(f"{path.name} is of another slide, {own.get('name')}: run that one")
    annotations = _wanted(path, found, classes)
    return lambda grid: _mask(path, annotations, grid)


def _wanted(path: Path, found: GeoJson, classes: Sequence[str]) -> tuple[Annotation, ...]:
    if not classes:
        return found.annotations
    asked = {_plain(name) for name in classes}
    wanted = tuple(a for a in found.annotations if _plain(": ".join(a.names)) in asked)
    if not wanted:
        there = sorted({": ".join(a.names) or "no class" for a in found.annotations})
        raise ExportError(
            f"{path.name} has no annotation of class {' or '.join(classes)}: it has "
            f"{', '.join(there)}"
        )
    return wanted


def _plain(name: str) -> str:
    return " ".join(name.rstrip("*").split()).casefold()


def _mask(path: Path, annotations: Sequence[Annotation], grid: TileGrid) -> Bools:
    mask = roi_mask(annotations, grid)
    if not mask.any():
        raise ExportError(
            f"the middle of no tile lies in the outlines of {path.name}: draw larger ones, or "
            "check that they are of this slide and this part of it"
        )
    return mask


def _n_unfinished(scored: ScoredRun, mask: Bools) -> int:
    run = scored.run
    return int((run.tissue & ~run.done & mask).sum())


def _outline_mm2(scored: ScoredRun, annotations: Sequence[Annotation]) -> float | None:
    mpp = scored.run.provenance["slide"]["mpp"]
    if not mpp:
        return None
    area = shapely.union_all([annotation.outline for annotation in annotations]).area
    return float(area * mpp[0] * mpp[1] * 1e-6)
