"""The command line's grammar. Commands are imported when they run, so that --help is instant."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_ood import __version__
from napari_ood.cli.arguments import (
    EXPORT_FORMATS,
    Parser,
    add_batch_size,
    add_command,
    add_device,
    add_features,
    add_json,
    add_mpp,
    add_threshold,
    export_formats,
    positive_int,
    region,
)
from napari_ood.cli.parser_cohort import add_board, add_cohort
from napari_ood.cli.parser_import import add_import, add_outlines
from napari_ood.cli.parser_models import (
    add_compare,
    add_evaluate,
    add_train,
    add_train_heatmap,
)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; ``args.command(args)`` of what it parses runs the command."""
    parser = Parser(
        prog="napari-ood",
        description="Prediction, uncertainty and out-of-distribution (OOD) maps on slides. "
        "For research; not a medical device.",
        epilog="Exit codes: 0 done, 1 unforeseen error, 2 error with advice, 130 cancelled.",
    )
    parser.add_argument("--version", action="version", version=f"napari-ood {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_info(commands)
    _add_run(commands)
    add_cohort(commands)
    add_board(commands)
    _add_open(commands)
    _add_export(commands)
    add_import(commands)
    _add_diff(commands)
    add_evaluate(commands)
    add_compare(commands)
    _add_models(commands)
    add_train(commands)
    add_train_heatmap(commands)
    _add_demo(commands)
    _add_doctor(commands)
    return parser


def _add_info(commands: argparse._SubParsersAction[Parser]) -> None:
    info = add_command(
        commands,
        "info",
        "slides:info",
        "a slide's size, levels, mpp, vendor, tissue, warnings; a run's tiles, precision, size",
    )
    info.add_argument(
        "slide", metavar="SLIDE", type=Path, help="or a run, a folder that ends in .ood.zarr"
    )
    add_mpp(info)
    add_json(info, "one JSON object instead of a table; pairs are in (y, x) order")


def _add_run(commands: argparse._SubParsersAction[Parser]) -> None:
    run = add_command(
        commands,
        "run",
        "run:run",
        "run a bundle on slides; the same command again goes on where it stopped",
    )
    run.add_argument("slides", metavar="SLIDE", type=Path, nargs="+")
    run.add_argument(
        "--model", metavar="BUNDLE", required=True, help="a name (see models) or folder"
    )
    run.add_argument(
        "--out", metavar="DIR", type=Path, required=True, help="gets <slide name>.ood.zarr"
    )
    add_device(run)
    add_batch_size(run)
    run.add_argument(
        "--region", metavar="X,Y,W,H", type=region, help="part of the slide, in level-0 pixels"
    )
    run.add_argument(
        "--roi",
        metavar="GEOJSON",
        type=Path,
        help="run only tiles whose middle lies in these outlines, drawn in QuPath; see import",
    )
    add_outlines(run)
    run.add_argument(
        "--stride",
        metavar="PX",
        type=positive_int,
        help="tile spacing at the bundle's mpp; default: the tile size, so without overlap",
    )
    run.add_argument(
        "--no-tissue", dest="tissue", action="store_false", help="run on glass too, not only tissue"
    )
    run.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="auto measures once what is fastest here, and takes bf16 only with bundles whose "
        "decisions it leaves as they are; a run that goes on keeps its own (default: auto)",
    )
    add_features(run)
    add_mpp(run)
    add_json(run, "one JSON line per slide on stdout; progress stays on stderr")


def _add_open(commands: argparse._SubParsersAction[Parser]) -> None:
    opening = add_command(commands, "open", "window:open_paths", "open slides and runs in napari")
    opening.add_argument("paths", metavar="PATH", type=Path, nargs="+")


def _add_export(commands: argparse._SubParsersAction[Parser]) -> None:
    export = add_command(
        commands,
        "export",
        "export:export",
        "write a run's regions, tables, maps and report for QuPath, other programs and people",
    )
    export.add_argument("run", metavar="RUN", type=Path, help="a folder that ends in .ood.zarr")
    export.add_argument("--out", metavar="DIR", type=Path, required=True)
    export.add_argument(
        "--formats",
        metavar="LIST",
        type=export_formats,
        default=("geojson", "csv", "report"),
        help=f"of {','.join(EXPORT_FORMATS)}; default: geojson,csv,report",
    )
    add_threshold(export)
    export.add_argument(
        "--review",
        metavar="FOLDER",
        type=Path,
        help="with verdicts to include; default: the one beside the run",
    )
    export.add_argument(
        "--slide", metavar="PATH", type=Path, help="if it is no longer where the run found it"
    )
    export.add_argument(
        "--no-crop",
        dest="crop",
        action="store_false",
        help="GeoJSON in px of the whole canvas, for slides that QuPath opens with --no-crop",
    )
    export.add_argument(
        "--json", metavar="FILE", type=Path, help="what was written, as JSON; - is stdout"
    )


def _add_diff(commands: argparse._SubParsersAction[Parser]) -> None:
    diff = add_command(
        commands, "diff", "difference:diff", "compare two runs of one slide, tile by tile"
    )
    diff.add_argument("run_a", metavar="RUN_A", type=Path)
    diff.add_argument("run_b", metavar="RUN_B", type=Path)
    diff.add_argument(
        "--score",
        metavar="NAME",
        default="ood",
        help="uncertainty, ood, appearance, tissue, or a score's name (default: %(default)s)",
    )
    diff.add_argument(
        "--by",
        choices=("score", "class"),
        default="score",
        help="list regions where the score differs, or the predicted class (default: %(default)s)",
    )
    diff.add_argument(
        "--copies",
        action="store_true",
        help="the runs are of two files of one size: the slide and, say, a stain-normalised copy",
    )
    diff.add_argument("--out", metavar="CSV", type=Path, help="write one row per pair of tiles")
    diff.add_argument(
        "--json", metavar="FILE", type=Path, help="write everything but the tiles; - for stdout"
    )


def _add_models(commands: argparse._SubParsersAction[Parser]) -> None:
    models = add_command(commands, "models", "models:models", "bundles at hand and their cards")
    add_json(models, "a JSON list of cards")


def _add_demo(commands: argparse._SubParsersAction[Parser]) -> None:
    demo = add_command(
        commands,
        "demo",
        "window:demo",
        "run a bundle on a made-up slide with planted foreign regions and show the three overlays",
    )
    demo.add_argument("--out", metavar="DIR", type=Path, default=Path("demo"))
    demo.add_argument("--no-window", dest="window", action="store_false", help="the summary only")


def _add_doctor(commands: argparse._SubParsersAction[Parser]) -> None:
    doctor = add_command(
        commands, "doctor", "doctor:doctor", "versions, Qt, OpenGL, devices, readers, with advice"
    )
    add_json(doctor, "a JSON list of findings")
