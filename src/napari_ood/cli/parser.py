"""The command line's grammar. Commands are imported when they run, so that --help is instant."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from napari_ood import __version__


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all of this program's."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; ``args.command(args)`` of what it parses runs the command."""
    parser = _Parser(
        prog="napari-ood",
        description="Prediction, uncertainty and out-of-distribution (OOD) maps on slides. "
        "For research; not a medical device.",
        epilog="Exit codes: 0 done, 1 unforeseen error, 2 error with advice, 130 cancelled.",
    )
    parser.add_argument("--version", action="version", version=f"napari-ood {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_info(commands)
    _add_run(commands)
    _add_open(commands)
    _add_models(commands)
    _add_demo(commands)
    _add_doctor(commands)
    return parser


def _add_info(commands: argparse._SubParsersAction[_Parser]) -> None:
    info = _command(commands, "info", "slides:info", "size, levels, mpp, vendor, tissue, warnings")
    info.add_argument("slide", metavar="SLIDE", type=Path)
    _add_mpp(info)
    _add_json(info, "one JSON object instead of a table; pairs are in (y, x) order")


def _add_run(commands: argparse._SubParsersAction[_Parser]) -> None:
    run = _command(
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
    run.add_argument(
        "--device", metavar="auto|cpu|cuda|mps", default="auto", help="cuda:1 means the second GPU"
    )
    run.add_argument("--batch-size", metavar="N", type=_positive_int, help="tiles per forward pass")
    run.add_argument(
        "--region", metavar="X,Y,W,H", type=_region, help="part of the slide, in level-0 pixels"
    )
    run.add_argument(
        "--stride",
        metavar="PX",
        type=_positive_int,
        help="tile spacing at the bundle's mpp; default: the tile size, so without overlap",
    )
    run.add_argument(
        "--no-tissue", dest="tissue", action="store_false", help="run on glass too, not only tissue"
    )
    _add_mpp(run)
    _add_json(run, "one JSON line per slide on stdout; progress stays on stderr")


def _add_open(commands: argparse._SubParsersAction[_Parser]) -> None:
    opening = _command(commands, "open", "window:open_paths", "open slides and runs in napari")
    opening.add_argument("paths", metavar="PATH", type=Path, nargs="+")


def _add_models(commands: argparse._SubParsersAction[_Parser]) -> None:
    models = _command(commands, "models", "models:models", "bundles at hand and their cards")
    _add_json(models, "a JSON list of cards")


def _add_demo(commands: argparse._SubParsersAction[_Parser]) -> None:
    demo = _command(
        commands,
        "demo",
        "window:demo",
        "run a bundle on a made-up slide with planted foreign regions and show the three overlays",
    )
    demo.add_argument("--out", metavar="DIR", type=Path, default=Path("demo"))
    demo.add_argument("--no-window", dest="window", action="store_false", help="the summary only")


def _add_doctor(commands: argparse._SubParsersAction[_Parser]) -> None:
    doctor = _command(
        commands, "doctor", "doctor:doctor", "versions, Qt, OpenGL, devices, readers, with advice"
    )
    _add_json(doctor, "a JSON list of findings")


def _command(
    commands: argparse._SubParsersAction[_Parser],
    name: str,
    target: str,
    summary: str,
) -> argparse.ArgumentParser:
    """Add a command that runs ``module:function`` of this package."""
    parser = commands.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks, warnings and logs")
    parser.set_defaults(command=_lazy(target))
    return parser


def _lazy(target: str) -> Callable[[argparse.Namespace], int]:
    def command(args: argparse.Namespace) -> int:
        module, function = target.split(":")
        code: int = getattr(import_module(f"napari_ood.cli.{module}"), function)(args)
        return code

    return command


def _add_mpp(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mpp",
        metavar="UM",
        type=_positive_float,
        help="µm per level-0 pixel, over the file's own",
    )


def _add_json(parser: argparse.ArgumentParser, summary: str) -> None:
    parser.add_argument("--json", action="store_true", help=summary)


def _positive_int(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _positive_float(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _region(text: str) -> tuple[int, int, int, int]:
    """``X,Y,W,H`` as the library's (y, x, h, w)."""
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not X,Y,W,H: four whole numbers of level-0 pixels"
        ) from None
    if width < 1 or height < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: width and height must be at least 1 pixel")
    return y, x, height, width
