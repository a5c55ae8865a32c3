"""The grammar of ``napari-ood cohort``."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_ood.cli.arguments import Parser, add_command, add_mpp, positive_int, whole_number


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
    add("slides", metavar="SLIDE", type=Path, nargs="+")
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
    add("--batch-size", metavar="N", type=positive_int, help="tiles per forward pass")
    add(
        "--stride",
        metavar="PX",
        type=positive_int,
        help="tile spacing at the bundle's mpp; default: the tile size, so without overlap",
    )
    add("--no-tissue", dest="tissue", action="store_false", help="run on glass too")
    add_mpp(cohort)
    add("--json", metavar="FILE", type=Path, help="the manifest, also here; - for stdout")
