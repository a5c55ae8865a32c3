"""What all tools run: one slide, one ResNet-18 with random weights, in each tool's format.

    python benchmarks/peers/inputs.py FOLDER [--side 20000]

Writes ``slides/slide.tif``, ``weights.pt`` (a state_dict), ``torchscript.pt`` and ``config.json``
(WSInfer's), ``bundle/`` (ours). Run in the environment of napari-ood.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from torchvision.models import resnet18

from napari_ood.models import BlockSpec, Card, InferenceNet, MultiHeadNet, Reference, save_bundle

sys.path.insert(0, str(Path(__file__).parents[1]))
from made_slides import made_slide

TILE, MPP = 256, 0.5
CLASSES = ("a", "b")
MEAN, STD = (0.7, 0.6, 0.7), (0.2, 0.2, 0.2)


def write_torch(folder: Path) -> dict[str, torch.Tensor]:
    """Write the network plainly and as TorchScript; returns its weights."""
    torch.manual_seed(0)
    net = resnet18(num_classes=len(CLASSES)).eval()
    torch.save(net.state_dict(), folder / "weights.pt")
    torch.jit.script(net).save(str(folder / "torchscript.pt"))
    config = {
        "spec_version": "1.0",
        "architecture": "resnet18",
        "num_classes": len(CLASSES),
        "class_names": CLASSES,
        "patch_size_pixels": TILE,
        "spacing_um_px": MPP,
        "transform": [
            {"name": "ToTensor"},
            {"name": "Normalize", "arguments": {"mean": MEAN, "std": STD}},
        ],
    }
    (folder / "config.json").write_text(json.dumps(config))
    return net.state_dict()


def write_bundle(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """The same weights with one head, and a reference from noise, so that OOD is scored too."""
    blocks = (BlockSpec("penultimate", "penultimate"),)
    net = MultiHeadNet("torchvision:resnet18", blocks, 1, len(CLASSES), tile_size=TILE)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            value.copy_(weights[as_torchvision(name)].reshape(value.shape))
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.integers(0, 255, (64, TILE, TILE, 3), dtype=np.uint8))
    with torch.inference_mode():
        logits, features = (out.numpy() for out in InferenceNet(net, MEAN, STD)(noise))
    weight, bias = net.final_layer()
    labels = np.arange(64) % 2
    reference = Reference(
        train_features=features,
        train_labels=labels,
        head_weight=weight,
        head_bias=bias,
        validation_logits=logits,
        validation_features=features,
        validation_labels=labels,
        blocks=net.blocks,
    )
    card = Card(
        name="peers",
        classes=CLASSES,
        architecture=net.architecture,
        tile_size=TILE,
        mpp=MPP,
        mean=MEAN,
        std=STD,
        n_heads=1,
        blocks=net.blocks,
        scores={"uncertainty": "entropy", "ood": "mahalanobis"},
        stain="none",
        training_data="none: random weights",
        licence="BSD-3-Clause",
        intended_use="benchmarks",
    )
    save_bundle(folder, net, card, reference)


def as_torchvision(name: str) -> str:
    """Torchvision's name for one of ours."""
    for ours, theirs in (
        ("trunk.", ""),
        ("heads.weights.0", "fc.weight"),
        ("heads.biases.0", "fc.bias"),
    ):
        name = name.replace(ours, theirs)
    return name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=20_000)
    args = parser.parse_args()
    (args.folder / "slides").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(made_slide(args.side, MPP), args.folder / "slides" / "slide.tif")
    write_bundle(args.folder / "bundle", write_torch(args.folder))


if __name__ == "__main__":
    main()
