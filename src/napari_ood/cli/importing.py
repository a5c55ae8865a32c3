"""``napari-ood import``: outlines from QuPath as a review or as a region of interest."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from napari_ood.cli.report import check_folder, complain, print_table, write_record
from napari_ood.cli.thresholds import asked_thresholds
from napari_ood.errors import ExportError

if TYPE_CHECKING:
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.export import Roi
    from napari_ood.slides import Slide

_ONLY = {
    "review": {"--out": "out", "--threshold": "threshold", "--class": "classes"},
    "roi": {"--reviewer": "reviewer", "--review": "review"},
}
"""Options that mean nothing for each way, with their attribute."""


def import_geojson(args: Namespace) -> int:
    """Import a file; print what was found and done."""
    from napari_ood import open_run, open_slide
    from napari_ood.analysis.scored import ScoredRun

    check_folder(args.json)
    for option, name in _ONLY[args.meaning].items():
        if getattr(args, name):
            raise ExportError(f"{option} means nothing with --as {args.meaning}: leave it out")
    with ExitStack() as stack:
        slide = stack.enter_context(open_slide(args.slide)) if args.slide is not None else None
        scored = ScoredRun(open_run(args.run))
        work = _review if args.meaning == "review" else _roi
        work(args, scored, slide)
    return 0


def _review(args: Namespace, scored: ScoredRun, slide: Slide | None) -> None:
    from napari_ood.export import import_review

    summary = import_review(
        args.geojson, scored, args.reviewer, review=args.review, slide=slide, crop=args.crop
    )
    _mention((*summary.notes, *summary.passed_over))
    if write_record({"run": str(args.run), **summary.as_dict()}, args.json):
        return
    print(f"{summary.folder}: {summary.words}")
    for conflict in summary.conflicts:
        print(f"  {conflict.words}")
    for reviewer, n in summary.per_reviewer.items():
        print(f"  {reviewer}: {n:,} added")


def _roi(args: Namespace, scored: ScoredRun, slide: Slide | None) -> None:
    from napari_ood.export import import_roi, write_roi
    from napari_ood.export.roi_import import check_table

    if args.out is not None:
        check_table(args.out)
        check_folder(args.out)
    roi = import_roi(
        args.geojson,
        scored,
        asked_thresholds(scored, args.threshold),
        classes=args.classes,
        slide=slide,
        crop=args.crop,
    )
    _mention((*roi.notes, *roi.passed_over))
    if args.out is not None:
        write_roi(roi, args.out)
    if write_record(roi.as_dict(), args.json):
        return
    print_table(_rows(roi))
    if args.out is not None:
        print(args.out)


def _rows(roi: Roi) -> list[tuple[str, str]]:
    n = len(roi.annotations)
    drawn = "" if roi.outline_mm2 is None else f", {roi.outline_mm2:,.3g} mm²"
    area = "" if roi.mm2 is None else f", {roi.mm2:,.3g} mm²"
    unfinished = f", {roi.n_unfinished:,} not run yet" if roi.n_unfinished else ""
    rows = [
        ("outlines", f"{n:,}{drawn}"),
        ("tiles inside", f"{roi.n_tiles:,}{area}{unfinished}"),
    ]
    if not roi.n_tiles:
        return rows
    rows += [
        (label, f"{count:,} tiles ({100 * count / roi.n_tiles:.1f} %)")
        for label, count in roi.per_class
    ]
    for role, summary in roi.summaries.items():
        threshold = roi.thresholds[role]
        rows.append((role, f"{summary.words()}: {threshold.words()}"))
    return rows


def _mention(lines: Iterable[str]) -> None:
    for line in lines:
        complain(line)
