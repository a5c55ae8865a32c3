"""Add to the shipped bundles what bf16 changes: their held-out tiles as they are in bf16.

    python training/recipes/halved.py lymph-node-he --data ../shared/data/pcam --out BUNDLE
    python training/recipes/halved.py dermoscopy --data ../shared/data/isic2017 --out BUNDLE
    python training/recipes/halved.py synthetic-he --data FOLDER --out BUNDLE

BUNDLE is the folder of the bundle that gets them. The tiles are those that its recipe held out; for
``synthetic-he`` FOLDER is the work folder of ``synthetic_he.py``. A minute of processor time each.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from common import rows_of_split
from numpy.typing import NDArray

from napari_ood.models import open_bundle
from napari_ood.models.card import HALVED
from napari_ood.models.halved import recorded_changes
from napari_ood.training.dataset import read_dataset, split_dataset
from napari_ood.training.halved import add_bf16
from napari_ood.training.make import RECOMPRESSED


def main() -> None:
    """Find the tiles, run them, write what was found into the bundle."""
    options = _options()
    before = open_bundle(options.out)
    with tempfile.TemporaryDirectory() as work:
        images = held_out(options.name, options.data, Path(work))
    bundle = add_bf16(before, images)
    assert bundle.hashes == before.hashes
    facts = {"changed": recorded_changes(bundle), "bytes": bundle.card.files[HALVED].size}
    print(json.dumps(facts, indent=1))


def held_out(name: str, data: Path, work: Path) -> NDArray[np.uint8]:
    """Tiles that the bundle's recipe held out, [N, t, t, 3]."""
    if name == "synthetic-he":
        from synthetic_he import HELD_OUT_SEEDS, slide, tiles_of

        return tiles_of([slide(data, seed, foreign=False) for seed in HELD_OUT_SEEDS])[0]
    from dermoscopy import TILE as DERMOSCOPY_TILE
    from lymph_node_he import MPP
    from lymph_node_he import TILE as LYMPH_NODE_TILE

    table = rows_of_split(data / "labels.csv", "train", work / "train.csv")
    lymph_node = name == "lymph-node-he"
    dataset = (
        read_dataset(table, LYMPH_NODE_TILE, MPP)
        if lymph_node
        else read_dataset(table, DERMOSCOPY_TILE)
    )
    rows = split_dataset(dataset, 0.1, 0)[1]
    return dataset.subset(rows).read_tiles(recompress=1.0 if lymph_node else RECOMPRESSED).tiles


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Add what bf16 changes to a shipped bundle.")
    parser.add_argument("name", choices=("lymph-node-he", "dermoscopy", "synthetic-he"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    return parser.parse_args()


if __name__ == "__main__":
    main()
