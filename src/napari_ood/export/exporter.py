"""Export a run in several formats at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_ood.errors import ExportError
from napari_ood.export.files import Listener, Step, new_file, watched
from napari_ood.export.importing import scored_run
from napari_ood.export.results import Results, default_thresholds, qupath_origin

if TYPE_CHECKING:
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.review.verdicts import Verdict
    from napari_ood.scores.thresholds import Threshold
    from napari_ood.slides import Slide

FORMATS = ("geojson", "csv", "parquet", "ome-zarr", "ome-tiff", "report")


def export_run(
    run: str | Path | ScoredRun,
    out: str | Path,
    formats: Sequence[str],
    thresholds: Mapping[str, Threshold] | None = None,
    review: str | Path | None = None,
    slide: Slide | None = None,
    on_progress: Listener | None = None,
    cancel: Callable[[], bool] | None = None,
    on_note: Callable[[str], None] | None = None,
    crop: bool = True,
) -> tuple[Path, ...]:
    """Write what is known about a run's tiles for other programs and people.

    Each file appears whole or not at all, in place of the one of an earlier export.

    Parameters
    ----------
    run : a run's folder, or a ScoredRun with the temperature of choice
    out : folder, made if it is not there
    formats : of ``FORMATS``
    thresholds : role → Threshold; by default those that keep 95 % of in-distribution tiles
    review : folder with verdicts; by default the one beside the run, if there is one
    slide : where pictures for the report come from; by default where the run found it
    on_progress : called with ``ExportProgress``
    cancel : asked between pieces of work whether to stop
    on_note : called with what the user should know, one line each
    crop : whether GeoJSON counts from the scanned part of the slide, as QuPath does unless it
        opened the slide with ``--no-crop``

    Returns
    -------
    Paths of what was written, provenance last.

    Raises
    ------
    ExportError
        For an unknown format; if something cannot be written; ExportCancelled when cancelled.
    RunError, ReviewError, ThresholdError
        If run or review cannot be read, or a threshold is on a score that can't be computed.
    """
    chosen = _checked(formats)
    scored = scored_run(run)
    _check_slide(scored, slide)
    origin, note = qupath_origin(scored, slide) if crop else ((0, 0), None)
    if note and on_note is not None and "geojson" in chosen:
        on_note(note)
    results = Results(
        scored,
        default_thresholds(scored) if thresholds is None else dict(thresholds),
        read_verdicts(scored, review),
        origin,
        None if review is None else Path(review),
    )
    written: list[Path] = []
    for name in chosen:
        step = watched(name, on_progress, cancel)
        step(0, 1)
        written += _WRITERS[name](results, Path(out), step, slide)
    written.append(_write_provenance(results, Path(out), written))
    return tuple(written)


def _checked(formats: Sequence[str]) -> tuple[str, ...]:
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        asked = f"no format {unknown[0]!r}" if unknown else "no format given"
        raise ExportError(f"{asked}: take of {', '.join(FORMATS)}")
    return tuple(dict.fromkeys(formats))


def _check_slide(scored: ScoredRun, slide: Slide | None) -> None:
    record = scored.run.provenance["slide"]
    if slide is not None and slide.fingerprint() != record["fingerprint"]:
        raise ExportError(
            f"{slide.path} is not the slide of this run ({record['name']}): give that one, or none"
        )


def read_verdicts(
    scored: ScoredRun, review: str | Path | None = None
) -> dict[str, tuple[Verdict, ...]]:
    """Verdicts of all reviewers of a run; none where nobody has reviewed it.

    Raises
    ------
    ReviewError
        If the folder cannot be read or has the review of another run.
    ExportError
        If a folder was named and there is none.
    """
    from napari_ood.review import ReviewStore, review_folder, run_identity

    folder = review_folder(scored.run.path) if review is None else Path(review)
    if not folder.is_dir():
        if review is not None:
            raise ExportError(f"{folder} is no review folder: name one, or leave it out")
        return {}
    store = ReviewStore(folder, run_identity(scored.run), "export")  # reads; writes nothing
    return dict(store.all_verdicts())


def _geojson(results: Results, out: Path, step: Step, slide: Slide | None) -> list[Path]:
    from napari_ood.export.geojson import write_prediction, write_regions, write_verdicts

    written = [write_prediction(results, out / f"{results.name}.prediction.geojson", step)]
    if results.thresholds:
        written.append(write_regions(results, out / f"{results.name}.regions.geojson", step))
    if results.verdicts:
        written.append(write_verdicts(results, out / f"{results.name}.review.geojson", step))
    return written


def _csv(results: Results, out: Path, step: Step, slide: Slide | None) -> list[Path]:
    from napari_ood.export.tables import write_csv

    return [write_csv(results, out / f"{results.name}.tiles.csv", step)]


def _parquet(results: Results, out: Path, step: Step, slide: Slide | None) -> list[Path]:
    from napari_ood.export.tables import write_parquet

    return [write_parquet(results, out / f"{results.name}.tiles.parquet", step)]


def _ome_zarr(results: Results, out: Path, step: Step, slide: Slide | None) -> list[Path]:
    from napari_ood.export.maps import MapStack
    from napari_ood.export.ome_zarr import write_ome_zarr

    path = out / f"{results.name}.maps.ome.zarr"
    return [write_ome_zarr(MapStack.of(results), path, results.provenance(), step)]


def _ome_tiff(results: Results, out: Path, step: Step, slide: Slide | None) -> list[Path]:
    from napari_ood.export.maps import MapStack
    from napari_ood.export.ome_tiff import write_ome_tiff

    path = out / f"{results.name}.maps.ome.tif"
    return [write_ome_tiff(MapStack.of(results), path, results.provenance(), step)]


def _report(results: Results, out: Path, step: Step, slide: Slide | None) -> list[Path]:
    from napari_ood.export.report import write_report

    return list(
        write_report(
            results.scored,
            out,
            results.thresholds,
            slide,
            verdicts=results.verdicts,
            review=results.review,
            step=step,
        )
    )


_WRITERS = {
    "geojson": _geojson,
    "csv": _csv,
    "parquet": _parquet,
    "ome-zarr": _ome_zarr,
    "ome-tiff": _ome_tiff,
    "report": _report,
}


def _write_provenance(results: Results, out: Path, written: Sequence[Path]) -> Path:
    path = out / f"{results.name}.export.json"
    record = {"files": [file.name for file in written], **results.provenance()}
    with new_file(path) as partial:
        partial.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return path
