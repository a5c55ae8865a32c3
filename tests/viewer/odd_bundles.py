"""Small bundles whose networks are not what a saliency map or a score expects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_ood.torch_import import load_torch

if TYPE_CHECKING:
    from napari_ood import Bundle
    from napari_ood.models import MultiHeadNet

CLASSES = ("red", "green", "blue")
N, N_TRAIN = 90, 60


def odd_bundle(
    folder: Path,
    architecture: str,
    tile: int = 32,
    early: str | None = None,
    spoil: Callable[[MultiHeadNet], None] | None = None,
) -> Bundle:
    """An untrained bundle of any trunk, with a real reference.

    Parameters
    ----------
    folder : where it goes; its name is the bundle's
    early : layer of the block that the OOD score reads, beside ``penultimate``; None: that one
    spoil : changes the network after the reference was made
    """
    load_torch()  # a window may be open already
    import torch

    from napari_ood.models import (
        BlockSpec,
        Card,
        InferenceNet,
        MultiHeadNet,
        Reference,
        save_bundle,
    )

    torch.manual_seed(0)
    blocks = (BlockSpec("penultimate", "penultimate"),)
    if early is not None:
        blocks = (BlockSpec("early", early), *blocks)
    net = MultiHeadNet(architecture, blocks, n_heads=3, n_classes=3, tile_size=tile)
    card = Card(
        name=folder.name, classes=CLASSES, architecture=net.architecture, tile_size=tile, mpp=1.0,
        mean=(0.7, 0.6, 0.7), std=(0.2, 0.2, 0.2), n_heads=3, blocks=net.blocks,
        scores={"uncertainty": "entropy", "ood": f"mahalanobis@{blocks[0].name}"},
        training_data="none: random weights, for tests", licence="BSD-3-Clause",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    tiles = rng.integers(60, 250, (N, 1, 1, 3)) + rng.normal(0, 15, (N, tile, tile, 3))
    batch = torch.from_numpy(tiles.clip(0, 255).astype(np.uint8))
    with torch.inference_mode():
        logits, features = (out.numpy() for out in InferenceNet(net, card.mean, card.std)(batch))
    weight, bias = net.final_layer()
    labels = np.arange(N) % 3
    reference = Reference(
        train_features=features[:N_TRAIN], train_labels=labels[:N_TRAIN],
        head_weight=weight, head_bias=bias,
        validation_logits=logits[N_TRAIN:], validation_features=features[N_TRAIN:],
        validation_labels=labels[N_TRAIN:], blocks=net.blocks,
    )  # fmt: skip
    if spoil is not None:
        spoil(net)
    return save_bundle(folder, net, card, reference)


def overflow(net: MultiHeadNet) -> None:
    """Weights that are finite, of a network whose answers are not."""
    import torch

    with torch.no_grad():
        for parameter in net.trunk.parameters():
            if parameter.ndim == 4:
                parameter.fill_(6e4)
