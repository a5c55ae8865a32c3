"""The grammar of ``napari-ood cohort``."""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path

from napari_ood.cli.arguments import (
    Parser,
    add_batch_size,
    add_command,
    add_features,
    add_json,
    add_mpp,
    positive_int,
    whole_number,
)


def add_cohort(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add ``cohort``."""
    cohort = add_command(
        commands,
        "cohort",
        "cohort:cohort",
        "run a bundle on many slides with many processes or machines; the same command again does "
        "only what is missing",
    )
    cohort.epilog = (
        "Slides, bundle and DIR need the same paths on all machines. DIR also gets cohort.json, "
        "which says what became of every slide. docs/scale.md: SSH, Slurm, Kubernetes."
    )
    add = cohort.add_argument
    add(
        "slides",
        metavar="SLIDES",
        type=Path,
        nargs="+",
        help="slides, folders that hold slides, and lists: .txt with a path per line, .csv with a "
        "column slide and optionally scanner, date, group",
    )
    add("--model", metavar="BUNDLE", required=True, help="a name (see models) or folder")
    add("--out", metavar="DIR", type=Path, required=True, help="gets <slide name>.ood.zarr")
    where = cohort.add_mutually_exclusive_group()
    where.add_argument(
        "--workers",
        metavar="N",
        type=positive_int,
        help="processes on this machine; default: one per core, or one on a GPU",
    )
    where.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="of a dask scheduler whose workers do it, such as tcp://head:8786",
    )
    add(
        "--retries",
        metavar="N",
        type=whole_number,
        default=2,
        help="how often to try again what failed, or whose worker died (default: %(default)s)",
    )
    add(
        "--device",
        metavar="auto|cpu|cuda|mps",
        default="auto",
        help="cuda: only workers that were started with --resources GPU=1",
    )
    add_batch_size(cohort)
    add(
        "--stride",
        metavar="PX",
        type=positive_int,
        help="tile spacing at the bundle's mpp; default: the tile size, so without overlap",
    )
    add("--no-tissue", dest="tissue", action="store_false", help="run on glass too")
    add(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="the same for all slides, whatever the workers are (default: %(default)s)",
    )
    add_features(cohort)
    add_mpp(cohort)
    add("--json", metavar="FILE", type=Path, help="the manifest, also here; - for stdout")


def add_board(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add ``board``."""
    board = add_command(
        commands,
        "board",
        "board:board",
        "the slides of a cohort in one HTML file: OOD share, uncertainty, scanner, date, and "
        "whether shares drift over time",
    )
    add = board.add_argument
    add("folder", metavar="DIR", type=Path, help="the --out folder of cohort or run")
    add("--out", metavar="FILE.html", type=Path, help="default: DIR/board.html")
    add(
        "--baseline",
        metavar="N|FROM..TO",
        type=baseline,
        default=(),
        help="slides of each scanner that say what is usual there: the first N (default: 10), or "
        "those between two days, such as 2026-01-01..2026-03-31",
    )
    add(
        "--pictures",
        metavar="N",
        type=whole_number,
        default=200,
        help="slides whose worst region gets a picture, those of the highest OOD shares "
        "(default: %(default)s)",
    )
    add("--open", metavar="NAME", help="open this slide in napari at its worst region instead")
    add_json(board, "the rows and the drift as JSON on stdout, no HTML")


def baseline(text: str) -> tuple[int, str | None, str | None]:
    """Read ``N`` or ``FROM..TO``, days in ISO 8601 of which one may be left out."""
    start, separator, end = (part.strip() for part in text.partition(".."))
    try:
        if not separator:
            return positive_int(text), None, None
        for day in filter(None, (start, end)):
            date.fromisoformat(day)
        if not (start or end):
            raise ValueError
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a number of slides nor two days such as 2026-01-01..2026-03-31"
        ) from None
    return 0, start or None, end or None
