"""Which tiles an epoch sees, in which order (torch)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def epoch_order(labels: Tensor, balance: str, generator: Generator) -> Tensor:
    """Rows of the tiles of one epoch, ``[N]``, in random order.

    Parameters
    ----------
    labels : [N] int64
    balance : str
        "none": every tile once. "dynamic": as many tiles of every class that there is, drawn anew
        each epoch (after the dynamic in-memory balancing of Mishra et al., ISIC 2019). A large
        class gives a random part of its tiles, a small one repeats each of them equally often but
        for the rest. N stays the same. Predictions then assume classes to be equally frequent.
    generator : torch.Generator
    """
    n = len(labels)
    if balance == "none":
        return torch.randperm(n, generator=generator)
    classes = torch.unique(labels)
    wanted = torch.full((len(classes),), n // len(classes))
    wanted[: n % len(classes)] += 1
    rows = [
        _draw(torch.nonzero(labels == c).flatten(), k, generator)
        for c, k in zip(classes.tolist(), wanted.tolist(), strict=True)
    ]
    return torch.cat(rows)[torch.randperm(n, generator=generator)]


def _draw(rows: Tensor, k: int, generator: Generator) -> Tensor:
    rest = torch.randperm(len(rows), generator=generator)[: k % len(rows)]
    return torch.cat([rows.repeat(k // len(rows)), rows[rest]])
