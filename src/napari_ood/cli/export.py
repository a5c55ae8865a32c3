"""``napari-ood export``: a run's results as files for other programs and people."""

from __future__ import annotations

import sys
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from napari_ood.cli.interrupt import interrupt_sets_event
from napari_ood.cli.progress import StatusLine
from napari_ood.cli.report import CANCELLED, check_folder, complain, write_record
from napari_ood.cli.thresholds import asked_thresholds
from napari_ood.errors import ExportCancelled

if TYPE_CHECKING:
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.export import ExportProgress
    from napari_ood.scores.thresholds import Threshold


def export(args: Namespace) -> int:
    """Export a run; print what was written."""
    from napari_ood import open_run, open_slide
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.export import export_run

    check_folder(args.json)
    scored = ScoredRun(open_run(args.run))
    thresholds = asked_thresholds(scored, args.threshold)
    with ExitStack() as stack:
        slide = stack.enter_context(open_slide(args.slide)) if args.slide is not None else None
        cancelled = stack.enter_context(interrupt_sets_event())
        line = stack.enter_context(StatusLine())

        def show(progress: ExportProgress) -> None:
            if progress.total > 1:
                line.show(f"{progress.format}: {progress.done:,}/{progress.total:,}")

        try:
            written = export_run(
                scored,
                args.out,
                args.formats,
                thresholds,
                args.review,
                slide,
                show,
                cancelled.is_set,
                on_note=lambda note: print(f"napari-ood: {note}", file=sys.stderr),
                crop=args.crop,
            )
        except ExportCancelled as error:
            complain(error)
            return CANCELLED
    _tell(args, scored, thresholds, written)
    return 0


def _tell(
    args: Namespace, scored: ScoredRun, thresholds: dict[str, Threshold], written: tuple[Path, ...]
) -> None:
    flagged = {role: int(scored.flagged(t).sum()) for role, t in thresholds.items()}
    record = {
        "run": str(args.run),
        "n_tiles": len(scored.index),
        "thresholds": {
            role: {**t.as_dict(), "n_flagged": flagged[role]} for role, t in thresholds.items()
        },
        "files": [str(path) for path in written],
    }
    if write_record(record, args.json):
        return
    for role, threshold in thresholds.items():
        share = f"{flagged[role]:,} of {len(scored.index):,} tiles flagged"
        print(f"{role}: {share}, above {threshold.value:.4g}: {threshold.words()}")
    for path in written:
        print(path)
