"""LazySlide on ``inputs.py``'s folder; run in LazySlide's environment.

    python run_lazyslide.py INPUTS OUT

Its tissue, its tiles, its loader with its default batch of 32 and one worker per core, as its guide
to performance says; single precision.
"""

import sys
from pathlib import Path

import lazyslide as zs
import torch
from torchvision.models import resnet18
from torchvision.transforms.v2 import Compose, Normalize, ToDtype, ToImage
from wsidata import open_wsi

TILE, MPP = 256, 0.5

if __name__ == "__main__":
    inputs, out = map(Path, sys.argv[1:3])
    net = resnet18(num_classes=2).eval()
    net.load_state_dict(torch.load(inputs / "weights.pt", weights_only=True))
    normalise = Normalize((0.7, 0.6, 0.7), (0.2, 0.2, 0.2))
    wsi = open_wsi(str(inputs / "slides" / "slide.tif"))
    zs.pp.find_tissues(wsi)
    zs.pp.tile_tissues(wsi, TILE, mpp=MPP)
    zs.tl.feature_extraction(
        wsi,
        net,
        model_name="resnet18",
        transform=Compose([ToImage(), ToDtype(torch.float32, scale=True), normalise]),
        device="cpu",
        amp=False,
        num_workers=2,
    )
    wsi.write(str(out / "slide.zarr"))
    print("tiles", len(wsi.shapes["tiles"]))
