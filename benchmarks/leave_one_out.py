"""Leave one class out: does a bundle find a class foreign that it never saw?

    python benchmarks/leave_one_out.py ../shared/data/lc25000 --out DIR --tile 144 --augment he
    python benchmarks/leave_one_out.py ../shared/data/isic2017 --out DIR --tile 144 --augment photo

For each class of DATA/labels.csv (columns path, split, label, and group where known) a small
network is trained on the others. In distribution are the test images of the classes that it knows,
foreign are those of the class left out. The test split is ``test``, else ``valid``, and is never
trained on. Where the rest has no split ``valid``, a tenth of it is held out; no group is ever cut.
Settings and thresholds are chosen without the test split; the tables are all of it.

A class that is done is not done again. The bundles are made for this table, not for use: some data
may be studied but not shipped.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_ood.evaluation import evaluate
from napari_ood.evaluation.tileset import ALL
from napari_ood.models import save_bundle
from napari_ood.models.card import CONFIG as CONFIG_FILE
from napari_ood.training import TileDataset, TrainConfig, TrainProgress, read_dataset
from napari_ood.training.make import make_bundle, refit_bundle
from napari_ood.training.request import CHECKPOINT, Request

RECIPES = Path(__file__).resolve().parents[1] / "training" / "recipes"
TEST_SPLITS = ("test", "valid")
APPEARANCE = "mahalanobis@stem+stage1+stage2+stage3"
TISSUE = {
    "he": "invariant_knn@stem+stage1+stage2+stage3",
    "photo": "invariant_nn@stage5",
}
HEAD_SCORES = ("entropy", "disagreement", "energy")
CONFIG = TrainConfig(
    architecture="timm:tf_efficientnet_lite0",
    mean_std=((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    blocks=(
        ("stem", "bn1", "mean_std"),
        ("stage1", "blocks.1.1", "mean_std"),
        ("stage2", "blocks.2.1", "mean_std"),
        ("stage3", "blocks.3.2", "mean_std"),
        ("stage4", "blocks.4.2", "mean_std"),
        ("stage5", "blocks.5.3", "mean"),
        ("penultimate", "penultimate", "mean"),
    ),
    n_heads=10,
    head_blocks=1,
    dropout=0.2,
    balance="dynamic",
    head_epochs=1,
    epochs=3,
    cycles=2,
    batch_size=32,
    learning_rate=1e-3,
    layer_decay=0.86,
    freeze=3,
    ema=0.98,
    precision="fp32",
)

Result = dict[str, Any]


def main() -> None:
    """Train and measure each class, then write the tables."""
    args = _options()
    dataset = read_dataset(args.data / "labels.csv")
    test = next((s for s in TEST_SPLITS if (dataset.splits == s).any()), None)
    unknown = set(args.classes or ()) - set(dataset.classes)
    if test is None or unknown:
        sys.exit(f"{args.data} has no split test or valid, or lacks {', '.join(sorted(unknown))}")
    init = args.init or _imagenet(args.out)
    results: list[Result] = []
    for name in args.classes or dataset.classes:
        done = args.out / f"{name}.json"
        if args.refit or not done.is_file():
            result = leave_out(dataset, name, test, args, init)
            done.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", "utf-8")
        results.append(json.loads(done.read_text("utf-8")))
        print(f"{name}: {done}", file=sys.stderr, flush=True)
    record = {"data": args.data.name, "mean_auroc": mean_auroc(results), "runs": results}
    text = json.dumps(record, indent=1, allow_nan=False)
    (args.out / "leave_one_out.json").write_text(text + "\n", "utf-8")
    table = "\n".join(markdown(args.data.name, results)) + "\n"
    (args.out / "leave_one_out.md").write_text(table, "utf-8")
    print(table)


def leave_out(
    dataset: TileDataset, name: str, test: str, args: argparse.Namespace, init: str
) -> Result:
    """Train on all classes but one, and measure how foreign that one is."""
    left = dataset.labels == dataset.classes.index(name)
    in_test = dataset.splits == test
    work = args.out / name
    config = dataclasses.replace(
        CONFIG,
        seed=args.seed,
        augment_kind=args.augment,
        epochs=args.epochs or CONFIG.epochs,
        cycles=1 if args.epochs else CONFIG.cycles,
    )
    request = Request(
        data=write_rows(dataset, ~left & ~in_test, work / "train.csv"),
        out=work / "bundle",
        config=config,
        tile=args.tile,
        init=init,
        name=f"without-{name}".replace("_", "-"),
    )
    tissue = TISSUE[args.augment]
    scores = {
        "uncertainty": "entropy",
        "ood": f"max({APPEARANCE},{tissue})",
        "appearance": APPEARANCE,
        "tissue": tissue,
    }
    resume = (request.report / CHECKPOINT).is_file() or (request.out / CONFIG_FILE).is_file()
    made = make_bundle(request, _report, _say, resume=resume).bundle
    if args.refit:
        made = refit_bundle(request, made, _say)
    card = dataclasses.replace(made.card, scores=scores)
    bundle = save_bundle(request.out, made.trained_network(), card, made.reference)
    measured = evaluate(
        bundle,
        dataset.subset(~left & in_test),
        {name: dataset.subset(left & in_test)},
        scores="all",
        n_bootstrap=args.bootstrap,
        split=ALL,
        seed=args.seed,
    )
    return {
        "left_out": name,
        "test_split": test,
        "tile": args.tile,
        "config": config.as_dict(),
        "held_out": bundle.card.results["held_out"],
        "seconds": bundle.card.training["seconds"],
        **measured.as_json(),
    }


def write_rows(dataset: TileDataset, rows: np.ndarray, out: Path) -> Path:
    """Write some of a dataset's rows as a CSV, splits and groups included."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = dataset.subset(rows)
    # One split left over ("train") says nothing about what to hold out.
    splits = part.splits if len(set(part.splits.tolist())) > 1 else [""] * len(part)
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split", "group"])
        for path, label, split, group in zip(
            part.paths, part.labels.tolist(), splits, part.groups, strict=True
        ):
            writer.writerow([path.resolve(), part.classes[label], split, group])
    return out


def mean_auroc(results: Sequence[Result]) -> dict[str, float]:
    """Mean AUROC over the classes left out, for the scores that every run has."""
    tables = [{row["score"]: row["auroc"] for row in result["rows"]} for result in results]
    shared = [s for s in tables[0] if all(t.get(s) is not None for t in tables)]
    return {s: float(np.mean([t[s] for t in tables])) for s in shared}


def markdown(data: str, results: Sequence[Result]) -> list[str]:
    """The tables: the bundle's own scores with intervals, then all scores."""
    own = results[0]["default_scores"]
    means = mean_auroc(results)
    names = [result["left_out"] for result in results]
    accuracy = ", ".join(f"{r['left_out']} {r['id']['accuracy']:.3f}" for r in results)
    lines = [
        f"# {data}: one class left out",
        "",
        "AUROC of the class left out against the known classes' test images, 95 % interval, and "
        "FPR95: share of the class left out that is kept when 95 % of the known are kept.",
        "",
        f"Accuracy on the known classes, without: {accuracy}.",
        "",
        *_head(["score", *names, "mean"]),
    ]
    chosen = [(f"{role} `{score}`", score) for role, score in own.items()]
    chosen += [(f"`{score}`", score) for score in HEAD_SCORES if score not in own.values()]
    for title, score in chosen:
        if score in means:
            cells = [_cell(result, score) for result in results]
            lines.append(_row([title, *cells, f"{means[score]:.3f}"]))
    lines += ["", "All scores, AUROC:", "", *_head(["score", *names, "mean"])]
    for score, mean in means.items():
        cells = [f"{_find(result, score)['auroc']:.3f}" for result in results]
        lines.append(_row([f"`{score}`", *cells, f"{mean:.3f}"]))
    return lines


def _cell(result: Result, score: str) -> str:
    row = _find(result, score)
    interval = row["auroc_ci"]
    between = f" ({interval[0]:.3f}–{interval[1]:.3f})" if interval else ""
    return f"{row['auroc']:.3f}{between}, {100 * row['fpr95']:.0f} %"


def _find(result: Result, score: str) -> Mapping[str, Any]:
    return next(row for row in result["rows"] if row["score"] == score)


def _head(cells: Sequence[str]) -> list[str]:
    return [_row(cells), _row(["---"] * len(cells))]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _imagenet(out: Path) -> str:
    sys.path.insert(0, str(RECIPES))
    from imagenet import imagenet_file

    return str(imagenet_file(out))


def _report(progress: TrainProgress) -> None:
    if progress.record is not None:
        r = progress.record
        facts = f"nll {r.nll:.3f} accuracy {r.accuracy:.3f} {r.seconds:.0f} s"
        _say(f"{progress.epoch}/{progress.n_epochs} {r.stage} {facts}")


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Leave one class out.")
    parser.add_argument("data", type=Path, help="folder with labels.csv")
    parser.add_argument("--out", type=Path, required=True, help="folder for tables and bundles")
    parser.add_argument("--classes", nargs="+", help="classes to leave out; default: each")
    parser.add_argument("--tile", type=int, default=96, help="side of the tiles in px")
    parser.add_argument("--augment", choices=("he", "photo"), default="he")
    parser.add_argument("--epochs", type=int, help="of all layers; fewer for a trial run")
    parser.add_argument("--init", metavar="FILE|timm", help="trunk's weights; default: ImageNet's")
    parser.add_argument(
        "--refit", action="store_true", help="fit the references anew, and measure again"
    )
    parser.add_argument("--bootstrap", type=int, default=1000, help="resamples")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
