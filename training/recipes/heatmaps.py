"""Add vectors of places, and a heatmap decoder, to the shipped bundles.

    python training/recipes/heatmaps.py lymph-node-he --data ../shared/data/pcam --out BUNDLE
    python training/recipes/heatmaps.py dermoscopy --data ../shared/data/isic2017 --out BUNDLE
    python training/recipes/heatmaps.py synthetic-he --data FOLDER --out BUNDLE

BUNDLE is the folder of the bundle that gets them. The tiles are those that the bundle learned from
(only the split ``train``; the same tenth is held out); for ``synthetic-he`` FOLDER is the work
folder of ``synthetic_he.py``. Foreign tiles are planted artefacts (``--ood synthetic``); none is
looked at here. ``dermoscopy`` gets places only. Six to ten minutes of processor time each.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from common import rows_of_split
from PIL import Image

from napari_ood.models import open_bundle
from napari_ood.training.heatmap import HeatmapConfig, HeatmapProgress
from napari_ood.training.heatmap_make import HeatmapRequest, add_heatmap

CONFIGS = {
    "lymph-node-he": HeatmapConfig(epochs=12),
    "synthetic-he": HeatmapConfig(epochs=14),
    "dermoscopy": HeatmapConfig(),
}
PLACES_ONLY = ("dermoscopy",)


def main() -> None:
    """Find the tiles, make the arrays, write them into the bundle."""
    options = _options()
    torch.set_num_threads(options.threads)
    work = options.work or options.out.with_name(f"{options.out.name}.work")
    if options.name == "synthetic-he":
        data = drawn_tiles(options.data, work / "tiles")
    else:
        data = rows_of_split(options.data / "labels.csv", "train", work / "train.csv")
    made = add_heatmap(
        HeatmapRequest(
            bundle=open_bundle(options.out),
            id=data,
            out=options.out,
            config=CONFIGS[options.name],
            locations_only=options.name in PLACES_ONLY,
        ),
        report,
        lambda text: print(text, file=sys.stderr),
    )
    print(json.dumps(made.summary, indent=1))


def drawn_tiles(slides: Path, folder: Path) -> Path:
    """Write the tiles of the training and held-out slides as folders; return the folder."""
    from synthetic_he import CLASSES, HELD_OUT_SEEDS, TRAINING_SEEDS, slide, tiles_of

    shutil.rmtree(folder, ignore_errors=True)
    for split, seeds in (("train", TRAINING_SEEDS), ("valid", HELD_OUT_SEEDS)):
        images, labels = tiles_of([slide(slides, seed, foreign=False) for seed in seeds])
        for i, (image, label) in enumerate(zip(images, np.asarray(labels), strict=True)):
            path = folder / split / CLASSES[label] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path, compress_level=1)
    return folder


def report(progress: HeatmapProgress) -> None:
    """Print a line per epoch."""
    if progress.held_out is not None:
        print(
            f"epoch {progress.epoch}: loss {progress.loss:.5f}, held out {progress.held_out:.5f}",
            file=sys.stderr,
            flush=True,
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Add heatmap and places to a shipped bundle.")
    parser.add_argument("name", choices=CONFIGS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--work", type=Path, help="folder for lists and tiles")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
