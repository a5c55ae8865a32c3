"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from napari_ood.models import Bundle

REPO = Path(__file__).resolve().parents[1]

# Tests measure no speed and leave no file in the user's cache, but for those that say so.
os.environ["NAPARI_OOD_PRECISION"] = "fp32"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real slides and tiles; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("NAPARI_OOD_DATA", REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not at hand ({folder}); set NAPARI_OOD_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """An untrained bundle, small and fast: 'tiny', 3 classes, 3 heads, 32 px at 1.0 µm/px.

    Its reference comes from noisy tiles of random colours, so distances and ranges are real.
    """
    from napari_ood.torch_import import load_torch

    load_torch()  # a window may be open already
    import numpy as np
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
    blocks = (BlockSpec("layer1", "layer1", "mean_std"), BlockSpec("penultimate", "penultimate"))
    net = MultiHeadNet("timm:test_resnet", blocks, n_heads=3, n_classes=3, tile_size=32)
    card = Card(
        name="tiny",
        classes=("red", "green", "blue"),
        architecture=net.architecture,
        tile_size=32,
        mpp=1.0,
        mean=(0.7, 0.6, 0.7),
        std=(0.2, 0.2, 0.2),
        n_heads=3,
        blocks=net.blocks,
        scores={"uncertainty": "entropy", "ood": "mahalanobis@layer1"},
        stain="none",
        training_data="none: random weights, for tests",
        licence="BSD-3-Clause",
        intended_use="tests",
    )
    rng = np.random.default_rng(0)
    tiles = rng.integers(60, 250, (150, 1, 1, 3)) + rng.normal(0, 15, (150, 32, 32, 3))
    batch = torch.from_numpy(tiles.clip(0, 255).astype(np.uint8))
    with torch.inference_mode():
        logits, features = (out.numpy() for out in InferenceNet(net, card.mean, card.std)(batch))
    weight, bias = net.final_layer()
    labels = np.arange(150) % 3
    reference = Reference(
        train_features=features[:100],
        train_labels=labels[:100],
        head_weight=weight,
        head_bias=bias,
        validation_logits=logits[100:],
        validation_features=features[100:],
        validation_labels=labels[100:],
        blocks=net.blocks,
    )
    return save_bundle(tmp_path_factory.mktemp("bundles") / "tiny", net, card, reference)


@pytest.fixture(scope="session")
def two_kinds_bundle(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle with scores for both kinds of foreign, ``appearance`` and ``tissue``."""
    from dataclasses import replace

    import numpy as np

    from napari_ood.models import Reference, save_bundle

    stored = tiny_bundle.require_reference().tensors()
    rng = np.random.default_rng(1)
    stored["nuisance.features"] = rng.normal(size=stored["train.features"].shape) * 0.1
    scores = {
        "uncertainty": "entropy",
        "ood": "max(mahalanobis@layer1,invariant@penultimate)",
        "appearance": "mahalanobis@layer1",
        "tissue": "invariant@penultimate",
    }
    card = replace(tiny_bundle.card, name="tiny-two", scores=scores)
    folder = tmp_path_factory.mktemp("bundles") / "tiny-two"
    reference = Reference.from_tensors(stored, card.blocks, card.temperature)
    return save_bundle(folder, tiny_bundle.trained_network(), card, reference)


@pytest.fixture(scope="session")
def image_bundle(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle as one that judges whole images, as a dermoscopy bundle does."""
    from dataclasses import replace

    from napari_ood.models import save_bundle

    card = replace(tiny_bundle.card, name="tiny-image", mpp=None, field="image")
    folder = tmp_path_factory.mktemp("bundles") / "tiny-image"
    return save_bundle(folder, tiny_bundle.trained_network(), card, tiny_bundle.reference)


@pytest.fixture(scope="session")
def procedural_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small procedural H&E slide with foreign regions, 2,048 px, its truth beside it."""
    from napari_ood.samples import write_synthetic_slide

    path = tmp_path_factory.mktemp("samples") / "procedural.ome.tif"
    return write_synthetic_slide(path, size=2048, seed=77)
