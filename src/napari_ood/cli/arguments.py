"""Arguments of the command line: commands that import late, types with one-line errors."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, NoReturn

EXPORT_FORMATS = ("geojson", "csv", "parquet", "ome-zarr", "ome-tiff", "report")
"""The same as ``napari_ood.export.FORMATS``, without importing it."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all of this program's."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and leave with exit code 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def add_command(
    commands: argparse._SubParsersAction[Parser],
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


def add_mpp(parser: argparse.ArgumentParser) -> None:
    """Add ``--mpp``."""
    parser.add_argument(
        "--mpp",
        metavar="UM",
        type=positive_float,
        help="µm per level-0 pixel, over the file's own",
    )


def add_device(parser: argparse._ActionsContainer) -> None:
    """Add ``--device``."""
    parser.add_argument(
        "--device", metavar="auto|cpu|cuda|mps", default="auto", help="cuda:1 means the second GPU"
    )


def add_batch_size(parser: argparse._ActionsContainer) -> None:
    """Add ``--batch-size``, for a network that is run."""
    parser.add_argument(
        "--batch-size", metavar="N", type=positive_int, help="tiles per forward pass"
    )


def add_json(parser: argparse.ArgumentParser, summary: str) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help=summary)


def add_features(parser: argparse.ArgumentParser) -> None:
    """Add ``--features`` and ``--no-features``."""
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--features",
        choices=("float32", "float16"),
        help="how features are stored, default float32; float16 halves the run",
    )
    how.add_argument(
        "--no-features",
        dest="features",
        action="store_const",
        const="none",
        help="store none: prediction and uncertainty only, no OOD score",
    )


def add_threshold(parser: argparse.ArgumentParser) -> None:
    """Add ``--threshold``."""
    parser.add_argument(
        "--threshold",
        metavar="ROLE=MEANING",
        type=role_threshold,
        action="append",
        default=[],
        help="ood=keep:95%% (of in-distribution tiles; the default), uncertainty=risk:5%%, "
        "ood=coverage:80%% (of this slide) or ood=VALUE; once per role",
    )


def positive_int(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def named_path(text: str) -> tuple[str, Path]:
    """Read ``NAME=PATH``."""
    name, separator, path = text.partition("=")
    if not (name and separator and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=DATA, such as natural=photos/")
    return name, Path(path)


def named_mpp(text: str) -> tuple[str, float]:
    """Read ``[NAME=]UM``."""
    name, _, value = text.rpartition("=")
    return name, positive_float(value)


def whole_number(text: str) -> int:
    """Read a whole number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def rate(text: str) -> float | str:
    """Read ``auto`` or a number above 0."""
    return text if text == "auto" else positive_float(text)


def positive_float(text: str) -> float:
    """Read a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def region(text: str) -> tuple[int, int, int, int]:
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


class AskedThreshold(NamedTuple):
    """What ``--threshold`` asks for: a meaning and its share, or ``value`` and the value."""

    meaning: str
    parameter: float


def export_formats(text: str) -> tuple[str, ...]:
    """Read ``geojson,csv,…``."""
    names = tuple(name.strip().lower() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in EXPORT_FORMATS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"{text!r}: take of {','.join(EXPORT_FORMATS)}")
    return names


def role_threshold(text: str) -> tuple[str, AskedThreshold]:
    """Read ``ROLE=keep:95%``, ``ROLE=risk:5%``, ``ROLE=coverage:80%`` or ``ROLE=0.7``."""
    role, separator, asked = text.partition("=")
    meaning, colon, number = asked.partition(":")
    percent = number.strip().endswith("%")
    try:
        if not (role and separator):
            raise ValueError
        if not colon:
            return role, AskedThreshold("value", float(meaning))
        share = float(number.strip().removesuffix("%")) / (100 if percent else 1)
        if meaning not in ("keep", "risk", "coverage") or not 0 <= share <= 1:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not ROLE=keep:95%, ROLE=risk:5%, ROLE=coverage:80% or ROLE=VALUE, with "
            "ROLE such as ood or uncertainty"
        ) from None
    return role, AskedThreshold(meaning, share)
