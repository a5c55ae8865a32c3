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
    _add_evaluate(commands)
    _add_compare(commands)
    _add_models(commands)
    _add_train(commands)
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


def _add_evaluate(commands: argparse._SubParsersAction[_Parser]) -> None:
    evaluate = _command(
        commands,
        "evaluate",
        "evaluate:evaluate",
        "how good a bundle is on data it knows, and what it finds foreign",
    )
    evaluate.epilog = (
        "DATA is a folder of class folders, a folder of images (unlabelled), or a CSV with the "
        "columns path and, where known, label, split, group, mpp. Images whose mpp is known are "
        "scaled to the bundle's and cut around their centre; others that are not of the tile's "
        "size are resized as a whole. FPR95: share of foreign tiles kept when 95 %% of the "
        "in-distribution tiles are kept."
    )
    add = evaluate.add_argument
    add("bundle", metavar="BUNDLE", help="a name (see models) or folder")
    add("--id", metavar="DATA", type=Path, required=True, help="in-distribution images")
    add(
        "--ood",
        metavar="NAME=DATA",
        type=_named_path,
        nargs="+",
        action="extend",
        default=[],
        help="foreign images, as many sets as you like",
    )
    add(
        "--scores",
        metavar="all|A,B",
        default="default",
        help="default: the bundle's own and those of its heads",
    )
    add("--split", metavar="NAME", help="of --id; default: test, else valid, else all of it")
    add("--group", metavar="COLUMN", help="slide or patient: intervals resample these as wholes")
    add("--bootstrap", metavar="N", type=_count, default=1000, help="resamples; 0: no intervals")
    add(
        "--mpp",
        metavar="[NAME=]UM",
        type=_named_mpp,
        action="append",
        default=[],
        help="µm/px of images whose CSV does not say; NAME: of that set only, id for --id",
    )
    add(
        "--controls",
        action="store_true",
        help="also compare with in-distribution tiles compressed, scaled, blurred, recoloured",
    )
    add("--contrast", metavar="COLUMN", help="also compare in-distribution tiles by this column")
    add("--device", metavar="auto|cpu|cuda|mps", default="auto", help="cuda:1 means the second GPU")
    add("--batch-size", metavar="N", type=_positive_int, help="tiles per forward pass")
    add("--seed", metavar="S", type=_count, default=0, help="of resamples and controls")
    add("--json", metavar="FILE", type=Path, help="every number, as JSON; - for stdout")
    add("--figures", metavar="DIR", type=Path, help="ROC, histograms, risk–coverage as PNG")


def _add_compare(commands: argparse._SubParsersAction[_Parser]) -> None:
    compare = _command(
        commands,
        "compare",
        "compare:compare",
        "single network, MC-dropout, ensemble and M-heads on the same tiles, over seeds; "
        "the same command again goes on where it stopped",
    )
    compare.epilog = (
        "Tests in distribution are on DATA's split test, else valid, else on a third of it. --out "
        "gets compare.md, compare.json and figures; its folder networks holds every network, so "
        "that sets, methods and seeds can be added later."
    )
    add = compare.add_argument
    add("data", metavar="DATA", type=Path, help="labelled images, as train takes them")
    add(
        "--ood",
        metavar="NAME=DATA",
        type=_named_path,
        nargs="+",
        action="extend",
        default=[],
        help="foreign images, as many sets as you like",
    )
    add("--out", metavar="DIR", type=Path, required=True, help="for tables, figures, networks")
    add(
        "--methods",
        metavar="A,B",
        default="single,mcdropout,ensemble,mheads",
        help="of single, mcdropout, ensemble, mheads[:LOSS][@HEAD_DEPTH][+bootstrap], such as "
        "mheads:annealed@2 (default: %(default)s)",
    )
    add("--seeds", metavar="N", type=_positive_int, default=5, help="(default: %(default)s)")
    add(
        "--members",
        metavar="M",
        type=_positive_int,
        default=10,
        help="networks of the ensemble, heads of mheads (default: %(default)s)",
    )
    add(
        "--samples",
        metavar="S",
        type=_positive_int,
        default=20,
        help="passes of mcdropout (default: %(default)s)",
    )
    add("--dropout", metavar="RATE", type=_positive_float, default=0.1, help="of mcdropout")
    add("--arch", metavar="NAME", default="mheads_densenet", help="(default: %(default)s)")
    add(
        "--head-depth",
        metavar="N",
        type=_whole_number,
        default=2,
        help="trunk units that each head of mheads has for itself (default: %(default)s)",
    )
    add(
        "--loss",
        choices=("mean", "wta_batch", "wta_sample", "annealed"),
        default="wta_batch",
        help="of mheads; wta_batch is the paper's (default)",
    )
    add("--epsilon", metavar="E", type=float, default=0.05, help="as train takes it")
    add("--epochs", metavar="N", type=_positive_int, default=15, help="(default: %(default)s)")
    add("--batch-size", metavar="N", type=_positive_int, default=64, help="(default: %(default)s)")
    add("--lr", metavar="RATE", type=_positive_float, default=2e-3, help="(default: %(default)s)")
    add("--tile", metavar="PX", type=_positive_int, default=96, help="(default: %(default)s)")
    add("--crop", metavar="PX", type=_whole_number, default=0, help="train on crops of this side")
    add("--mpp", metavar="UM", type=_positive_float, help="µm per pixel of the tiles")
    add("--group", metavar="COLUMN", help="slide or patient, never cut (default: group)")
    add("--augment", choices=("he", "photo"), default="he", help="(default: %(default)s)")
    add(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="of training, the same for all networks (default: %(default)s)",
    )
    add("--device", metavar="auto|cpu|cuda|mps", default="auto", help="cuda:1 means the second GPU")


def _add_models(commands: argparse._SubParsersAction[_Parser]) -> None:
    models = _command(commands, "models", "models:models", "bundles at hand and their cards")
    _add_json(models, "a JSON list of cards")


def _add_train(commands: argparse._SubParsersAction[_Parser]) -> None:
    train = _command(commands, "train", "train:train", "train a bundle on folders of tiles")
    train.add_argument(
        "data",
        metavar="DATA",
        type=Path,
        help="folder of class folders (also below train/ and valid/), or a CSV with the columns "
        "path, label and optionally split, group (slide or patient: never cut), mpp",
    )
    train.add_argument("--out", metavar="BUNDLE", type=Path, required=True, help="a new folder")
    _add_network(train.add_argument_group("network"))
    _add_tiles(train.add_argument_group("tiles"))
    _add_learning(train.add_argument_group("learning"))
    train.add_argument("--name", metavar="NAME", help="of the bundle; default: its folder's")
    train.add_argument(
        "--device", metavar="auto|cpu|cuda|mps", default="auto", help="cuda:1 means the second GPU"
    )
    train.add_argument("--json", metavar="FILE", type=Path, help="write a summary, too")
    train.add_argument(
        "--resume",
        action="store_true",
        help="go on after Ctrl-C; all other arguments must be the same",
    )


def _add_network(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--arch",
        metavar="NAME",
        default="resnet18",
        help="a model of timm or torchvision, or mheads_densenet (default: %(default)s)",
    )
    group.add_argument(
        "--heads", metavar="M", type=_positive_int, default=10, help="(default: %(default)s)"
    )
    group.add_argument(
        "--head-depth",
        metavar="N",
        type=_whole_number,
        default=0,
        help="trunk units (residual block, dense layer, …) that each head has for itself "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--init",
        metavar="BUNDLE|timm|FILE",
        help="start from a bundle, from published weights (timm; downloads them), or from a trunk's "
        ".safetensors; default: random weights",
    )


def _add_tiles(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--tile",
        metavar="PX",
        type=_positive_int,
        default=96,
        help="side of a tile; images of another size are resized (default: %(default)s)",
    )
    group.add_argument(
        "--mpp",
        metavar="UM",
        type=_positive_float,
        help="µm per pixel of the tiles, e.g. 0.97; images with a column mpp are brought to it",
    )
    group.add_argument(
        "--held-out",
        metavar="SHARE",
        type=_positive_float,
        default=0.1,
        help="where DATA has no split valid (default: %(default)s)",
    )
    group.add_argument(
        "--augment",
        choices=("he", "photo"),
        default="he",
        help="stain jitter, or light and contrast (default: %(default)s)",
    )


def _add_learning(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--loss",
        choices=("mean", "wta_batch", "wta_sample", "annealed"),
        default="mean",
        help="how heads share the work (default: %(default)s)",
    )
    group.add_argument(
        "--epsilon",
        metavar="E",
        type=float,
        default=0.05,
        help="share of the loss for heads that did not win (default: %(default)s)",
    )
    group.add_argument(
        "--epochs", metavar="N", type=_positive_int, default=15, help="(default: %(default)s)"
    )
    group.add_argument(
        "--lr",
        metavar="auto|RATE",
        type=_rate,
        default="auto",
        help="highest learning rate; auto: by a range test (default)",
    )
    group.add_argument(
        "--batch-size", metavar="N", type=_positive_int, default=64, help="(default: %(default)s)"
    )
    group.add_argument(
        "--seed", metavar="S", type=_whole_number, default=0, help="(default: %(default)s)"
    )


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


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def _named_path(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not (name and separator and path):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=DATA, such as natural=photos/")
    return name, Path(path)


def _named_mpp(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    return name, _positive_float(value)


def _whole_number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def _rate(text: str) -> float | str:
    return text if text == "auto" else _positive_float(text)


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
