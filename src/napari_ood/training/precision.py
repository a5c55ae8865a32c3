"""bf16 or fp32: whichever this device trains this network faster in (torch)."""

from __future__ import annotations

import copy
import time

import torch
from torch import Tensor, nn

from napari_ood.models import MultiHeadNet
from napari_ood.training.losses import head_cross_entropy

TRIALS = 2


def choose_precision(net: MultiHeadNet, x: Tensor, labels: Tensor) -> str:
    """Return "bf16" or "fp32" for a network and a normalised batch on its device.

    GPUs that have bf16 use it. On CPUs it depends on the layers: depthwise convolutions are twice
    as slow in bf16, dense ones faster. So one forward and backward step of each is timed, on a
    copy, after one that warms up.
    """
    device = next(net.parameters()).device
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    if device.type != "cpu" or not torch.cpu._is_avx512_bf16_supported():
        return "fp32"
    clone = copy.deepcopy(net).train()
    seconds = {p: _seconds(clone, x, labels, p) for p in ("fp32", "bf16")}
    return min(seconds, key=lambda p: seconds[p])


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Context in which a network computes in a precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def _seconds(net: MultiHeadNet, x: Tensor, labels: Tensor, precision: str) -> float:
    """Shortest time of a step."""
    times = []
    for _ in range(TRIALS + 1):
        started = time.perf_counter()
        with autocast(x.device, precision):
            logits = net.logits(x)
        torch.autograd.backward(head_cross_entropy(logits, labels).mean())
        nn.Module.zero_grad(net)
        times.append(time.perf_counter() - started)
    return min(times[1:])
