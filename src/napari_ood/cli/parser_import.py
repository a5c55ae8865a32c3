"""The grammar of ``napari-ood import``, and of options that it shares with other commands."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_ood.cli.arguments import Parser, add_command, add_threshold


def add_import(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add ``import``."""
    importing = add_command(
        commands,
        "import",
        "importing:import_geojson",
        "take outlines from QuPath as verdicts of a reviewer, or as a region of interest",
    )
    importing.add_argument("geojson", metavar="GEOJSON", type=Path, help="also as .gz or .zip")
    importing.add_argument(
        "--run", metavar="RUN", type=Path, required=True, help="a folder that ends in .ood.zarr"
    )
    importing.add_argument(
        "--as",
        dest="meaning",
        choices=("review", "roi"),
        default="review",
        help="review: what the outlines' classes say, into the run's review; roi: sum up what the "
        "run says inside (default: %(default)s)",
    )
    importing.add_argument(
        "--reviewer", metavar="NAME", help="who drew or changed the outlines in QuPath"
    )
    importing.add_argument(
        "--review", metavar="FOLDER", type=Path, help="default: the one beside the run"
    )
    importing.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help="of a region of interest: one row per tile, as .csv, .parquet or .json",
    )
    add_threshold(importing)
    importing.add_argument(
        "--slide", metavar="PATH", type=Path, help="if it is no longer where the run found it"
    )
    add_outlines(importing)
    importing.add_argument(
        "--json", metavar="FILE", type=Path, help="what was found and done, as JSON; - is stdout"
    )


def add_outlines(parser: argparse.ArgumentParser) -> None:
    """Add what says how outlines are read."""
    parser.add_argument(
        "--class",
        dest="classes",
        metavar="NAME",
        action="append",
        default=[],
        help="of a region of interest: only outlines of this class; may be repeated",
    )
    parser.add_argument(
        "--no-crop",
        dest="crop",
        action="store_false",
        help="outlines in px of the whole canvas, for slides that QuPath opened with --no-crop",
    )
