"""What bf16 changes for a bundle, measured on its held-out tiles and kept in it (torch)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import TrainingError
from napari_ood.models import Bundle, add_to_bundle
from napari_ood.models.card import HALVED
from napari_ood.models.halved import held_out_arrays
from napari_ood.models.precision import BF16, USUAL, Arithmetic, ArithmeticNet, require_bf16

Floats = NDArray[np.float32]

BATCH_SIZE = 32
SAME = 0.02
"""Largest difference of a logit between two machines' float32."""


def add_bf16(
    bundle: Bundle, images: NDArray[np.uint8], out: str | Path | None = None, device: str = "cpu"
) -> Bundle:
    """Add the reference's held-out tiles as they are in bf16, and what that changes.

    Runs in bf16 then have their thresholds from these, and ``--precision auto`` may take bf16 if it
    changes next to nothing.

    Parameters
    ----------
    bundle : Bundle, with a reference
    images : [N, t, t, 3] uint8, in any order; the reference's held-out tiles must be among them
    out : folder for a copy of the bundle; None changes it in its own folder
    device : as torch names it

    Raises
    ------
    TrainingError
        If a held-out tile is not among the images.
    DeviceError
        If the device has no bf16.
    """
    require_bf16(device)
    rows = held_out_rows(bundle, run_in(bundle, images, USUAL, device)[0])
    found = run_in(bundle, images[rows], Arithmetic(BF16), device)
    return add_to_bundle(bundle, {HALVED: held_out_arrays(bundle, *found)}, out)


def held_out_rows(bundle: Bundle, logits: Floats) -> NDArray[np.int64]:
    """Which of ``[N, M, C]`` logits each held-out tile of the reference has; [V] int64.

    Raises
    ------
    TrainingError
        If one has none.
    """
    known = bundle.require_reference().validation_logits
    known, given = known.reshape(len(known), -1), logits.reshape(len(logits), -1)
    rows = np.empty(len(known), np.int64)
    missing = 0
    for i, row in enumerate(known):
        apart = np.abs(given - row).max(axis=1)
        rows[i] = apart.argmin()
        missing += bool(apart[rows[i]] > SAME)
    if missing:
        raise TrainingError(
            f"{missing:,} of the {len(known):,} held-out tiles of {bundle.name!r} are not among "
            "the images: give those that it was trained with"
        )
    return rows


def run_in(
    bundle: Bundle, images: NDArray[np.uint8], arithmetic: Arithmetic, device: str = "cpu"
) -> tuple[Floats, Floats]:
    """Logits [N, M, C] and features [N, D] of tiles [N, t, t, 3] uint8, in an arithmetic."""
    import torch

    net = ArithmeticNet(bundle.network(device), arithmetic)
    parts: list[tuple[Floats, Floats]] = []
    with torch.inference_mode():
        for start in range(0, len(images), BATCH_SIZE):
            batch = torch.from_numpy(np.ascontiguousarray(images[start : start + BATCH_SIZE]))
            logits, features = net(batch.to(device))
            parts.append((logits.cpu().numpy(), features.cpu().numpy()))
    all_logits, all_features = zip(*parts, strict=True)
    return np.concatenate(all_logits), np.concatenate(all_features)
