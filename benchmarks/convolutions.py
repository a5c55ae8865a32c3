"""Winograd's convolutions against direct ones: time per tile, and how far either is from the truth.

Networks at their usual width with random weights, batch norms calibrated on the tiles: 256 px of a
made slide's tissue. Everything in one thread, whose own processor time counts: the least of rounds
in turns is quoted, as other programs can only add to it. Errors are of logits and features,
relative to the largest, in float32 against the same network in float64.

    python benchmarks/convolutions.py [--networks timm:resnet18 …] [--rounds 5] [--tiles 4]

Takes about a minute.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from collections.abc import Sequence

os.environ["OMP_NUM_THREADS"] = "1"  # before torch reads it

import numpy as np
import torch
from made_slides import made_slide
from torch import Tensor, nn

from napari_ood import open_slide
from napari_ood.models import MultiHeadNet, reuse_freed_memory
from napari_ood.models.device import processor
from napari_ood.models.precision import FP32, WINOGRAD, Arithmetic, ArithmeticNet
from napari_ood.models.prepared import InferenceNet, normalise
from napari_ood.models.winograd import WinogradConv2d

NETWORKS = ("timm:resnet18", "timm:resnet50", "torchvision:densenet121", "torchvision:vgg16")
TILE = 256
MEAN, STD = (0.5,) * 3, (0.25,) * 3
EXACT_TILES = 2
"""Computed in float64 too, which is slow."""
Outputs = tuple[Tensor, Tensor]


def tissue(n: int) -> Tensor:
    """Tiles ``[n, 256, 256, 3]`` from the middle of a made slide."""
    side = 5000
    with open_slide(made_slide(side)) as slide:
        corner = side // 2 - TILE
        boxes = [(corner + TILE * (i // 8), corner + TILE * (i % 8)) for i in range(n)]
        tiles = [slide.read(0, y, x, TILE, TILE) for y, x in boxes]
    return torch.from_numpy(np.stack(tiles))


def trained(architecture: str, tiles: Tensor) -> MultiHeadNet:
    """A network whose batch norms know the tiles, as those of a trained one do."""
    torch.manual_seed(0)
    net = MultiHeadNet(architecture, tile_size=TILE)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)  # timm's zeros would switch blocks off
            module.momentum = 1.0
    with torch.no_grad():
        net.train()(normalise(tiles, torch.tensor(MEAN), torch.tensor(STD)))
    return net.eval()


def error(found: Outputs, exact: Outputs) -> float:
    """The largest of logits and features, relative to their largest."""
    pairs = zip(found, exact, strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def exact_outputs(net: MultiHeadNet, tiles: Tensor) -> Outputs:
    """In float64, direct."""
    x = normalise(tiles, torch.tensor(MEAN), torch.tensor(STD))
    with torch.inference_mode():
        logits, features = copy.deepcopy(net).double()(x.double())
    return logits, features


def least_ms(nets: Sequence[ArithmeticNet], tiles: Tensor, rounds: int) -> list[float]:
    """Of the thread's own time, per tile."""
    least = [np.inf] * len(nets)
    for round_ in range(rounds + 1):
        for i, net in enumerate(nets):
            start = time.thread_time()
            net(tiles)
            if round_:  # the first one loads kernels
                least[i] = min(least[i], time.thread_time() - start)
    return [1000 * seconds / len(tiles) for seconds in least]


def row(architecture: str, tiles: Tensor, rounds: int) -> str:
    """One line of the table."""
    net = trained(architecture, tiles)
    prepared = InferenceNet(net, MEAN, STD)
    prepared.activate_in_place()
    direct = ArithmeticNet(prepared, Arithmetic())
    replaced = copy.deepcopy(prepared)
    fast = ArithmeticNet(replaced, Arithmetic(FP32, convolution=WINOGRAD))
    count = sum(isinstance(module, WinogradConv2d) for module in replaced.modules())
    few = tiles[:EXACT_TILES]
    exact = exact_outputs(net, few)
    with torch.inference_mode():
        usual_ms, fast_ms = least_ms((direct, fast), tiles, rounds)
        usual, other = direct(few), fast(few)
    cells = [
        *(architecture.partition(":")[2], str(count), f"{usual_ms:.1f}", f"{fast_ms:.1f}"),
        f"{usual_ms / fast_ms:.2f}",
        *(f"{e:.1e}" for e in (error(other, usual), error(other, exact), error(usual, exact))),
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiles", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(1)
    reuse_freed_memory()
    tiles = tissue(args.tiles)
    print("| network, 256 px | convolutions replaced | direct, ms/tile | Winograd, ms/tile | ratio "
          "| Winograd from direct | Winograd from float64 | direct from float64 |")  # fmt: skip
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for architecture in args.networks:
        print(row(architecture, tiles, args.rounds), flush=True)
    print(f"\n{processor()}, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
