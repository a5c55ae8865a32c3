"""``napari-ood board``: a cohort slide by slide, as one HTML file or as JSON."""

from __future__ import annotations

from argparse import Namespace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ood.cli.interrupt import interrupt_sets_event
from napari_ood.cli.progress import StatusLine
from napari_ood.cli.report import CANCELLED, check_folder, complain, print_json
from napari_ood.doctor.libraries import has_display
from napari_ood.errors import OodError

if TYPE_CHECKING:
    from napari_ood.board import Board, Drift


def board(args: Namespace) -> int:
    """Write the board, or open a slide of it. Returns 0, or 130 when cancelled."""
    if args.open is not None:
        return open_slide(args.folder, args.open)
    from napari_ood.board import Baseline, drift_of, read_board
    from napari_ood.export.board_html import write_board

    out: Path = args.out or args.folder / "board.html"
    if args.out is not None or args.folder.is_dir():
        check_folder(out)
    with interrupt_sets_event() as cancelled, StatusLine() as line:
        found = read_board(
            args.folder,
            on_progress=lambda done, total: line.show(f"{done:,} of {total:,} runs read"),
            cancel=cancelled.is_set,
        )
        if cancelled.is_set():
            complain("cancelled: what was read is kept; run the same command to go on")
            return CANCELLED
        drift = drift_of(found.rows, baseline=Baseline(*args.baseline) if args.baseline else None)
        if not args.json:
            write_board(
                found,
                drift,
                out,
                thumbnails=args.pictures,
                on_progress=lambda done, total: line.show(f"{done:,} of {total:,} pictures"),
                cancel=cancelled.is_set,
            )
    if args.json:
        print_json({**found.as_dict(), "drift": drift_facts(drift)}, indent=1)
    else:
        print(sentence(found, drift, out), flush=True)
    return 0


def open_slide(folder: Path, name: str) -> int:
    """Open napari with the board of a cohort, and one slide of it at its worst region.

    Raises
    ------
    OodError
        If there is no display, or no such slide.
    """
    from napari_ood.board.reading import list_entries
    from napari_ood.naming import run_name

    if not has_display():
        raise OodError("there is no display here to open napari on; board FILE.html needs none")
    names = [run_name(entry.run) for entry in list_entries(folder.absolute())[1]]
    if name not in names:
        near = get_close_matches(name, names, 1)
        raise OodError(f"{folder} has no slide {name!r}{f'; {near[0]}?' if near else ''}")
    from napari_ood.viewer.app import open_cohort

    open_cohort(folder, name)
    return 0


def drift_facts(drift: Drift) -> dict[str, Any]:
    """The drift as JSON."""
    tracks = [
        {
            "scanner": track.scanner,
            "slides": len(track.rows),
            "drifting": track.drifting,
            "since": track.since,
            "words": track.words(),
        }
        for track in drift.tracks
    ]
    return {"measure": drift.measure, "words": drift.words, "undated": drift.n_undated,
            "scanners": tracks}  # fmt: skip


def sentence(board: Board, drift: Drift, out: Path) -> str:
    """What was written, and what stands out."""
    known = [row for row in board.rows if row.ood is not None]
    worst = max(known, key=lambda row: row.ood or 0.0, default=None)
    n = len(board.rows)
    parts = [f"{out}: {n:,} slide{'s' * (n != 1)}, {len(known):,} with an OOD share"]
    if worst is not None and worst.ood is not None:
        parts.append(f"highest {100 * worst.ood:.1f} % in {worst.name}")
    return f"{'; '.join(parts)}. {drift.words}"
