"""TIAToolbox's PatchPredictor on ``inputs.py``'s folder; run in TIAToolbox' environment.

    python run_tiatoolbox.py INPUTS OUT

Its tissue mask, its ResNet-18 wrapper, batches of 32; no workers, its default (with two it was
slower here: see peers.md).
"""

import sys
from pathlib import Path

import numpy as np
import torch
import zarr
from tiatoolbox.models.architecture.vanilla import CNNModel
from tiatoolbox.models.engine.io_config import IOPatchPredictorConfig
from tiatoolbox.models.engine.patch_predictor import PatchPredictor

TILE, MPP = 256, 0.5
MEAN, STD = np.float32((0.7, 0.6, 0.7)), np.float32((0.2, 0.2, 0.2))


def normalise(image: np.ndarray) -> np.ndarray:
    return (image.astype(np.float32) / 255 - MEAN) / STD


def load(weights: Path) -> CNNModel:
    """Its wrapper is the trunk as a Sequential, and a linear layer: the same order of weights."""
    net = CNNModel("resnet18", num_classes=2).eval()
    values = torch.load(weights, weights_only=True).values()
    net.load_state_dict(dict(zip(net.state_dict(), values, strict=True)))
    net.preproc_func = normalise
    return net


if __name__ == "__main__":
    inputs, out = map(Path, sys.argv[1:3])
    size = [{"units": "mpp", "resolution": MPP}]
    config = IOPatchPredictorConfig(
        input_resolutions=size,
        output_resolutions=size,
        patch_input_shape=(TILE, TILE),
        stride_shape=(TILE, TILE),
    )
    predictor = PatchPredictor(load(inputs / "weights.pt"), batch_size=32, device="cpu")
    written = predictor.run(
        [inputs / "slides" / "slide.tif"],
        ioconfig=config,
        patch_mode=False,
        save_dir=out / "tiatoolbox",
        output_type="zarr",
        return_probabilities=True,
        device="cpu",
    )
    path = next(iter(written.values())) if isinstance(written, dict) else written
    print("tiles", zarr.open(str(path), mode="r")["coordinates"].shape[0])
