"""``napari-ood export``: a run's results as files for other programs and people."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from napari_ood.cli.interrupt import interrupt_sets_event
from napari_ood.cli.progress import StatusLine
from napari_ood.cli.report import CANCELLED, STDOUT, check_folder, complain
from napari_ood.errors import ExportCancelled, ExportError, OodError

if TYPE_CHECKING:
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.cli.arguments import AskedThreshold
    from napari_ood.export import ExportProgress
    from napari_ood.scores.thresholds import Threshold


def export(args: Namespace) -> int:
    """Export a run; print what was written."""
    from napari_ood import open_run, open_slide
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.export import export_run

    check_folder(args.json)
    scored = ScoredRun(open_run(args.run))
    thresholds = _thresholds(scored, args.threshold)
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


def _thresholds(scored: ScoredRun, asked: list[tuple[str, AskedThreshold]]) -> dict[str, Threshold]:
    """Keep 95 % of in-distribution tiles for every role, but for those that were asked for."""
    from napari_ood.export.results import default_thresholds
    from napari_ood.scores.thresholds import Meaning

    found = default_thresholds(scored)
    seen = set()
    for role, threshold in asked:
        if role in seen:
            raise OodError(f"--threshold names {role!r} twice: give each role one")
        if role not in scored.roles:
            raise OodError(
                f"--threshold {role}: this run has no such score; it has {', '.join(scored.roles)}"
            )
        seen.add(role)
        found[role] = scored.threshold(role, Meaning(threshold.meaning), threshold.parameter)
    return found


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
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    if args.json == STDOUT:
        print(text, flush=True)
        return
    for role, threshold in thresholds.items():
        share = f"{flagged[role]:,} of {len(scored.index):,} tiles flagged"
        print(f"{role}: {share}, above {threshold.value:.4g}: {threshold.words()}")
    for path in written:
        print(path)
    if args.json is not None:
        try:
            args.json.write_text(text + "\n", "utf-8")
        except OSError as error:
            raise ExportError(f"cannot write {args.json}: {error.strerror or error}") from error
