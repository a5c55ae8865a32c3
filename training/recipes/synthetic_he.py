"""Train the bundle ``synthetic-he`` on procedural H&E slides.

    python training/recipes/synthetic_he.py --work FOLDER --out BUNDLE

Slides are drawn into FOLDER (and kept there for another try). Three groups of seeds, none of them
the sample slide's: slides without foreign regions for training, others for choosing the epoch, the
temperature and the score ranges, and a third group with foreign regions, on which the OOD score is
chosen among those that the bundle stores features for. Takes about a quarter of an hour on two
cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import sys
import time
from pathlib import Path

import numpy as np
import timm
import torch
from numpy.typing import NDArray

from napari_ood import open_slide, run_slide
from napari_ood.demo import foreign_auroc, truth_of_tiles
from napari_ood.explain.thumbnails import pack_tiles
from napari_ood.inference.plan import MIN_TISSUE
from napari_ood.models import Bundle, Card, add_to_bundle, load_bundle, save_bundle
from napari_ood.models.card import TILES
from napari_ood.samples import load_truth, truth_path, write_synthetic_slide
from napari_ood.samples.slide_file import DRAWING
from napari_ood.slides import SlideView, TileGrid, tissue_mask
from napari_ood.training import (
    EpochRecord,
    TrainConfig,
    Trained,
    TrainProgress,
    fit_reference,
    reference_rows,
    round_to_half,
    train,
)

CLASSES = ("stroma", "gland", "lymphoid")
TILE, MPP, STRIDE = 96, 1.0, 96
SLIDE_PX = 4096
TRAINING_SEEDS = tuple(range(100, 116))
HELD_OUT_SEEDS = tuple(range(200, 204))
FOREIGN_SEEDS = tuple(range(300, 304))
REFERENCE_TILES = 1500
MIN_LABELLED = 0.05
"""Tiles with less tissue of a known class than this are not used."""

CONFIG = TrainConfig(
    architecture="timm:starnet_s050",
    blocks=(
        ("stem", "stem", "mean_std"),
        ("stage1", "stages.0", "mean_std"),
        ("stage2", "stages.1", "mean_std"),
        ("stage3", "stages.2", "mean_std"),
        ("penultimate", "penultimate", "mean"),
    ),
    n_heads=5,
    head_depth=1,
    head_width=32,
    bootstrap=True,
    dropout=0.1,
    label_smoothing=0.05,
    epochs=8,
    batch_size=64,
    learning_rate=2e-3,
    ema=0.995,
    seed=0,
)
CANDIDATES = tuple(
    f"{method}@{blocks}"
    for method in ("mahalanobis", "mahalanobis++")
    for blocks in (
        "stem",
        "stage1",
        "stage2",
        "stage3",
        "penultimate",
        "stem+stage1",
        "stem+stage1+stage2",
        "stage1+stage2",
        "stage2+stage3",
        "stem+stage1+stage2+stage3",
    )
)


def main() -> None:
    """Draw slides, train, fit the reference, choose the OOD score, write the bundle."""
    options = _options()
    if options.threads:
        torch.set_num_threads(options.threads)
    started = time.monotonic()
    kept = tiles_of([slide(options.work, seed, foreign=False) for seed in TRAINING_SEEDS])
    held = tiles_of([slide(options.work, seed, foreign=False) for seed in HELD_OUT_SEEDS])
    planted = [slide(options.work, seed, foreign=True) for seed in FOREIGN_SEEDS]
    for name, (_, labels) in (("training", kept), ("held out", held)):
        counts = dict(zip(CLASSES, np.bincount(labels, minlength=3).tolist(), strict=True))
        print(f"{name}: {len(labels)} tiles, {counts}", flush=True)
    config = dataclasses.replace(CONFIG, epochs=options.epochs or CONFIG.epochs)
    trained = train(*kept, *held, config, report)
    net = round_to_half(trained.net)
    reference = fit_reference(
        net, trained.mean, trained.std, *kept, *held,
        temperature=trained.temperature, n_train=REFERENCE_TILES, n_validation=800,
    )  # fmt: skip
    card = describe(trained, config, len(kept[1]), len(held[1]))
    bundle = save_bundle(options.out, net, dataclasses.replace(card, blocks=net.blocks), reference)
    best, results = choose(bundle, planted, options.work)
    training = {**card.training, "seconds": round(time.monotonic() - started)}
    card = dataclasses.replace(
        card,
        blocks=net.blocks,
        scores={"uncertainty": "entropy", "ood": best},
        results=results,
        training=training,
    )
    bundle = with_thumbnails(save_bundle(options.out, net, card, reference), kept)
    size = sum(file.size for file in bundle.card.files.values()) / 1e6
    seconds = time.monotonic() - started
    print(f"wrote {bundle.path} ({size:.1f} MB), ood = {best}, {seconds:.0f} s", file=sys.stderr)


def with_thumbnails(bundle: Bundle, kept: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> Bundle:
    """Add small pictures of the reference's tiles, which are drawings: anyone may have them."""
    images, labels = kept
    return add_to_bundle(
        bundle, {TILES: pack_tiles(images[reference_rows(labels, REFERENCE_TILES)])}
    )


def slide(work: Path, seed: int, foreign: bool) -> Path:
    """Path of a procedural slide in the work folder, drawn if it is not there."""
    kind = "foreign" if foreign else "plain"
    path = work / f"drawing-{DRAWING}" / f"{kind}-{seed}.ome.tif"
    if not (path.is_file() and truth_path(path).is_file()):
        write_synthetic_slide(path, SLIDE_PX, seed, foreign)
    return path


def tiles_of(paths: list[Path]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Tiles that the engine would run, overlapping, with the class that covers most of each."""
    images, labels = [], []
    for path in paths:
        truth = load_truth(path)
        with open_slide(path) as opened:
            assert opened.mpp is not None
            step = (MPP / opened.mpp[0], MPP / opened.mpp[1])
            shape = opened.levels[0].shape[:2]
            grid = TileGrid.over((shape[0], shape[1]), TILE, step, stride=STRIDE)
            boxes = grid.boxes()
            share = np.stack([truth.tissue_share(boxes)[name] for name in CLASSES], axis=1)
            use = tissue_mask(opened).fraction(boxes) >= MIN_TISSUE
            use &= (share.sum(axis=1) >= MIN_LABELLED) & ~grid.partial()
            view = SlideView(opened, step)
            for row, col in grid.index()[use]:
                images.append(view.read(int(row) * STRIDE, int(col) * STRIDE, TILE, TILE))
            labels.append(share[use].argmax(axis=1))
    return np.stack(images), np.concatenate(labels).astype(np.int64)


def choose(bundle: Bundle, planted: list[Path], work: Path) -> tuple[str, dict[str, object]]:
    """Return the score with the best mean AUROC over kinds on planted slides, and all results."""
    table: dict[str, list[dict[str, float | None]]] = {name: [] for name in CANDIDATES}
    table["entropy"] = []
    for path in planted:
        with open_slide(path) as opened:
            # a folder of its own for each try: a run never mixes bundles
            target = work / "runs" / f"{opened.name}-{bundle.hashes['model.safetensors'][:12]}"
            run = run_slide(opened, load_bundle(bundle.path), target.with_suffix(".ood.zarr"))
        tiles = truth_of_tiles(run, load_truth(path))
        for name, rows in table.items():
            scores = run.score("entropy") if name == "entropy" else bundle_score(bundle, run, name)
            rows.append(foreign_auroc(scores, tiles))
    means = {name: _mean(rows) for name, rows in table.items()}
    for name, row in means.items():
        print(name, json.dumps(row), flush=True)
    best = max(CANDIDATES, key=lambda name: _over_kinds(means[name]))
    chosen = {name: means[name] for name in (best, "mahalanobis@penultimate", "entropy")}
    note = f"mean AUROC over {len(planted)} planted slides on which the OOD score was chosen"
    return best, {"note": note, "foreign_auroc": chosen}


def bundle_score(bundle: Bundle, run: object, name: str) -> NDArray[np.float32]:
    """Score of a run by any name that the bundle's reference knows."""
    reference = bundle.require_reference()
    return reference.score(name, run.logits, run.features)  # type: ignore[attr-defined]


def _mean(rows: list[dict[str, float | None]]) -> dict[str, float]:
    return {
        kind: round(float(np.mean([row[kind] for row in rows if row[kind] is not None])), 4)
        for kind in rows[0]
    }


def _over_kinds(row: dict[str, float]) -> float:
    return float(np.mean([value for kind, value in row.items() if kind != "overall"]))


def describe(trained: Trained, config: TrainConfig, n_kept: int, n_held: int) -> Card:
    """Return the card of the bundle, but for the OOD score and its results."""
    best = min(trained.history, key=lambda record: record.nll)
    return Card(
        name="synthetic-he",
        description=(
            "Stroma, gland and lymphoid tissue of procedural H&E slides: for the demo and tests."
        ),
        classes=CLASSES,
        colors=("#ee8866", "#44bb99", "#4477aa"),
        architecture=config.architecture,
        tile_size=TILE,
        mpp=MPP,
        mean=trained.mean,
        std=trained.std,
        n_heads=config.n_heads,
        blocks=(),
        scores={"uncertainty": "entropy", "ood": "mahalanobis@stage1"},
        temperature=trained.temperature,
        stain="H&E (procedural)",
        tissue="drawings of bowel wall and lymph node",
        training_data=(
            f"Procedural slides drawn by napari-ood, {SLIDE_PX} px at 0.5 µm/px: {n_kept:,} tiles "
            f"of {len(TRAINING_SEEDS)} slides train the network, {n_held:,} tiles of "
            f"{len(HELD_OUT_SEEDS)} others choose the epoch, the temperature and the score ranges, "
            f"{len(FOREIGN_SEEDS)} others with planted foreign regions choose the OOD score. The "
            "sample slide was not used. No real tissue was."
        ),
        licence="BSD-3-Clause",
        intended_use=(
            "Demonstration and tests of napari-ood on its procedural slides. Not for any use on "
            "patients, and not for real slides at all: it has never seen tissue."
        ),
        limitations=(
            "Everything real is foreign to it.",
            "The planted regions of the sample slide are drawn by the code that drew those on "
            "which the OOD score was chosen: the demo's AUROC is higher than one on real "
            "artefacts would be.",
        ),
        training={
            "recipe": "training/recipes/synthetic_he.py",
            "drawing": DRAWING,
            "seeds": {
                "training": list(TRAINING_SEEDS),
                "held_out": list(HELD_OUT_SEEDS),
                "foreign": list(FOREIGN_SEEDS),
            },
            "config": config.as_dict(),
            "held_out": {"nll": best.nll, "accuracy": best.accuracy},
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "timm": timm.__version__,
            },
        },
    )


def report(progress: TrainProgress) -> None:
    """Print a line per epoch."""
    if progress.record is not None:
        print(_line(progress.record), flush=True)


def _line(record: EpochRecord) -> str:
    return (
        f"epoch {record.epoch}: loss {record.train_loss:.4f}, held-out nll {record.nll:.4f}, "
        f"accuracy {record.accuracy:.4f}, {record.seconds:.0f} s"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the bundle synthetic-he.")
    parser.add_argument("--work", type=Path, required=True, help="folder for slides and runs")
    parser.add_argument("--out", type=Path, required=True, help="bundle folder to write")
    parser.add_argument("--threads", type=int, default=0, help="torch threads (default: torch's)")
    parser.add_argument("--epochs", type=int, default=0, help="epochs, for a trial run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
