"""How long methods take to answer, and how much memory they need (torch)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from napari_ood.models import InferenceNet, MultiHeadNet, resolve_device
from napari_ood.training.mcdropout import stochastic
from napari_ood.training.memory import peak_bytes, weight_bytes
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


def memory_mb(methods: Mapping[str, Method], data: Learning) -> dict[str, tuple[float, float]]:
    """Memory in MB that each method needs to answer to, and to train on, a batch of tiles.

    To answer: weights of all its networks, and what one after the other makes of the tiles, at the
    peak. To train, one network at a time: weights, gradients, the optimiser's two averages per
    weight, and what forward and backward pass make, at the peak. Counted tensor by tensor on the
    CPU in float32.
    """
    tiles = torch.from_numpy(np.resize(data.images, (BATCH, *data.images.shape[1:])))
    return {
        name: (_answering_bytes(method, data, tiles) / 1e6, _training_bytes(method, data) / 1e6)
        for name, method in methods.items()
    }


def _answering_bytes(method: Method, data: Learning, tiles: Tensor) -> int:
    plans = method.networks(seed=0)
    net = build(plans[0], data)
    run = _forward(method, data, torch.device("cpu"), first_only=True)
    with torch.inference_mode():
        return weight_bytes([net]) * len(plans) + peak_bytes(lambda: run(tiles))


def _training_bytes(method: Method, data: Learning) -> int:
    plan = method.networks(seed=0)[0]
    net = build(plan, data).train()
    side = plan.config.crop or data.images.shape[1]
    tiles = torch.rand(BATCH, 3, side, side)
    weights = sum(p.numel() * p.element_size() for p in net.parameters())

    def step() -> None:
        torch.autograd.backward(net.logits(tiles).sum())

    return weight_bytes([net]) + 2 * weights + peak_bytes(step)


def _forward(
    method: Method, data: Learning, device: torch.device, first_only: bool = False
) -> Callable[[Tensor], object]:
    plans = method.networks(seed=0)[: 1 if first_only else None]
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
