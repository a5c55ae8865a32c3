"""Grammar of the commands that make and measure bundles: train, evaluate, compare."""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_ood.cli.arguments import (
    Parser,
    add_batch_size,
    add_command,
    add_device,
    named_mpp,
    named_path,
    positive_float,
    positive_int,
    rate,
    whole_number,
)


def add_train(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add ``train``."""
    train = add_command(commands, "train", "train:train", "train a bundle on folders of tiles")
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
    add_device(train)
    train.add_argument(
        "--json", metavar="FILE", type=Path, help="write a summary, too; - for stdout"
    )
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
        "--heads", metavar="M", type=positive_int, default=10, help="(default: %(default)s)"
    )
    group.add_argument(
        "--head-depth",
        metavar="N",
        type=whole_number,
        default=0,
        help="trunk units (residual block, dense layer, …) that each head has for itself "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--init",
        metavar="BUNDLE|timm|FILE",
        help="start from a bundle, from published weights (timm; downloads them), or from a "
        "trunk's .safetensors; default: random weights",
    )
    group.add_argument(
        "--thumbnails",
        action="store_true",
        help="keep small pictures of training tiles in the bundle (5 MB at most), to show what a "
        "tile resembles; only where the data's licence, and the patients' consent, let you pass "
        "them on with the bundle",
    )
    group.add_argument(
        "--bf16",
        action="store_true",
        help="also keep what held-out tiles give in bf16: runs in bf16 then have thresholds of "
        "their own, and --precision auto may choose it where it changes next to no decision",
    )


def _add_tiles(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--tile",
        metavar="PX",
        type=positive_int,
        default=96,
        help="side of a tile; images of another size are resized (default: %(default)s)",
    )
    group.add_argument(
        "--mpp",
        metavar="UM",
        type=positive_float,
        help="µm per pixel of the tiles, e.g. 0.97; images with a column mpp are brought to it",
    )
    group.add_argument(
        "--held-out",
        metavar="SHARE",
        type=positive_float,
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
        "--epochs", metavar="N", type=positive_int, default=15, help="(default: %(default)s)"
    )
    group.add_argument(
        "--lr",
        metavar="auto|RATE",
        type=rate,
        default="auto",
        help="highest learning rate; auto: by a range test (default)",
    )
    group.add_argument(
        "--batch-size", metavar="N", type=positive_int, default=64, help="(default: %(default)s)"
    )
    group.add_argument(
        "--seed", metavar="S", type=whole_number, default=0, help="(default: %(default)s)"
    )
    group.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="auto: the faster one, by a stopwatch, so that the same command may train in another "
        "one next time; the summary says which (default: %(default)s)",
    )


def add_train_heatmap(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add ``train-heatmap``."""
    command = add_command(
        commands,
        "train-heatmap",
        "train_heatmap:train_heatmap",
        "add maps finer than a tile to a bundle: foreign places by distance, a learned OOD heatmap",
    )
    command.epilog = (
        "DATA is as train takes it; labels of --id are optional. The bundle's weights, reference "
        "and threshold stay as they are. Never evaluate on images that were given as --ood."
    )
    add = command.add_argument
    add("bundle", metavar="BUNDLE", help="a name (see models) or folder")
    add("--id", metavar="DATA", type=Path, required=True, help="images like those it learned from")
    add(
        "--ood",
        metavar="DATA|synthetic",
        default="synthetic",
        help="foreign images to learn from; synthetic: artefacts planted into those of --id by "
        "code (default)",
    )
    add(
        "--out",
        metavar="BUNDLE",
        type=Path,
        required=True,
        help="a new folder for a copy of the bundle, or its own folder",
    )
    add("--locations-only", action="store_true", help="distances of places only: seconds, no --ood")
    add("--epochs", metavar="N", type=positive_int, default=12, help="(default: %(default)s)")
    add(
        "--tiles",
        metavar="N",
        type=positive_int,
        default=3000,
        help="at most so many of either kind: their maps stay in memory, about 0.1 MB per tile of "
        "96 px (default: %(default)s)",
    )
    add(
        "--weight-by",
        choices=("heatmap", "image"),
        default="heatmap",
        help="which pixels count more: foreign ones, or bright and dark ones as in the released "
        "code (default: %(default)s)",
    )
    add(
        "--held-out",
        metavar="SHARE",
        type=positive_float,
        default=0.1,
        help="where --id has no split valid (default: %(default)s)",
    )
    add("--seed", metavar="S", type=whole_number, default=0, help="(default: %(default)s)")
    add_device(command)
    add("--json", metavar="FILE", type=Path, help="a summary, as JSON; - for stdout")


def add_evaluate(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add ``evaluate``."""
    evaluate = add_command(
        commands,
        "evaluate",
        "evaluate:evaluate",
        "how good a bundle is on data it knows, and what it finds foreign",
    )
    evaluate.epilog = (
        "DATA is a folder of class folders, a folder of images (unlabelled), or a CSV with the "
        "columns path and, where known, label, split, group, mpp. Images whose mpp is known are "
        "scaled to the bundle's and cut around their centre; others that are not of the tile's "
        "size are resized as a whole. FPR95: share of foreign tiles kept when 95 % of the "
        "in-distribution tiles are kept."
    )
    add = evaluate.add_argument
    add("bundle", metavar="BUNDLE", help="a name (see models) or folder")
    add("--id", metavar="DATA", type=Path, required=True, help="in-distribution images")
    add(
        "--ood",
        metavar="NAME=DATA",
        type=named_path,
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
    add(
        "--bootstrap",
        metavar="N",
        type=whole_number,
        default=1000,
        help="resamples; 0: no intervals",
    )
    add(
        "--mpp",
        metavar="[NAME=]UM",
        type=named_mpp,
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
    add_device(evaluate)
    add_batch_size(evaluate)
    add("--seed", metavar="S", type=whole_number, default=0, help="of resamples and controls")
    add("--json", metavar="FILE", type=Path, help="every number, as JSON; - for stdout")
    add("--figures", metavar="DIR", type=Path, help="ROC, histograms, risk–coverage as PNG")


def add_compare(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add ``compare``."""
    compare = add_command(
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
        type=named_path,
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
    add("--seeds", metavar="N", type=positive_int, default=5, help="(default: %(default)s)")
    add(
        "--members",
        metavar="M",
        type=positive_int,
        default=10,
        help="networks of the ensemble, heads of mheads (default: %(default)s)",
    )
    add(
        "--samples",
        metavar="S",
        type=positive_int,
        default=20,
        help="passes of mcdropout (default: %(default)s)",
    )
    add("--dropout", metavar="RATE", type=positive_float, default=0.1, help="of mcdropout")
    add("--arch", metavar="NAME", default="mheads_densenet", help="(default: %(default)s)")
    add(
        "--head-depth",
        metavar="N",
        type=whole_number,
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
    add("--epochs", metavar="N", type=positive_int, default=15, help="(default: %(default)s)")
    add("--batch-size", metavar="N", type=positive_int, default=64, help="(default: %(default)s)")
    add("--lr", metavar="RATE", type=positive_float, default=2e-3, help="(default: %(default)s)")
    add("--tile", metavar="PX", type=positive_int, default=96, help="(default: %(default)s)")
    add("--crop", metavar="PX", type=whole_number, default=0, help="train on crops of this side")
    add("--mpp", metavar="UM", type=positive_float, help="µm per pixel of the tiles")
    add("--group", metavar="COLUMN", help="slide or patient, never cut (default: group)")
    add("--augment", choices=("he", "photo"), default="he", help="(default: %(default)s)")
    add(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="of training, the same for all networks (default: %(default)s)",
    )
    add_device(compare)
