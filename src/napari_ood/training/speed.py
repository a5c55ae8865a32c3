"""How long methods take to answer, relative to a single network (torch)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from napari_ood.models import InferenceNet, MultiHeadNet, resolve_device
from napari_ood.training.mcdropout import stochastic
from napari_ood.training.methods import Method
from napari_ood.training.networks import Learning, build

BATCH, ROUNDS = 64, 7
ROUGH = ((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
"""Mean and spread of colours: time depends on neither, nor on what the weights have learned."""


def relative_times(
    single: Method, methods: Mapping[str, Method], data: Learning, device: str = "auto"
) -> dict[str, float]:
    """Time per tile of each method ÷ that of a single network, the shortest of several rounds.

    In each round all methods answer to the same tiles in turn. What else the machine does can only
    make them slower, so the shortest times tell most about the methods. An ensemble asks its
    networks one after another. Networks are fused as for slides, but for MC-dropout, whose dropout
    sits between convolution and batch norm.
    """
    target = torch.device(resolve_device(device))
    tiles = torch.from_numpy(np.resize(data.images, (BATCH, *data.images.shape[1:]))).to(target)
    runs = {name: _forward(method, data, target) for name, method in methods.items()}
    if single.name not in runs:
        runs[single.name] = _forward(single, data, target)
    shortest = dict.fromkeys(runs, float("inf"))
    with torch.inference_mode():
        for run in runs.values():
            run(tiles)
        for _ in range(ROUNDS):
            for name, run in runs.items():
                shortest[name] = min(shortest[name], _seconds(run, tiles))
    return {name: shortest[name] / shortest[single.name] for name in methods}


def _forward(method: Method, data: Learning, device: torch.device) -> Callable[[Tensor], object]:
    plans = method.networks(seed=0)
    if method.plan.samples:
        noisy = stochastic(build(plans[0], data)).to(device)
        return lambda tiles: _draw(noisy, tiles, method.plan.samples)
    nets = [InferenceNet(build(plan, data), *ROUGH).to(device) for plan in plans]
    return lambda tiles: [net(tiles) for net in nets]


def _draw(net: MultiHeadNet, tiles: Tensor, samples: int) -> list[Tensor]:
    x = tiles.permute(0, 3, 1, 2).float() / 255
    return [net.logits(x) for _ in range(samples)]


def _seconds(run: Callable[[Tensor], object], tiles: Tensor) -> float:
    started = time.perf_counter()
    run(tiles)
    if tiles.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started
