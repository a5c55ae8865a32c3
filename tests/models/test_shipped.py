from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_ood.evaluation import auroc
from napari_ood.models import bundle_folders, load_bundle
from napari_ood.scores import mean_probability
from napari_ood.training import read_dataset

SHIPPED = sorted(path.parent for path in bundle_folders()[-1].glob("*/config.json"))
MAX_BUNDLE_BYTES, MAX_ALL_BYTES = 30_000_000, 60_000_000
PER_CLASS = 150


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def test_shipped_bundles_are_small_enough():
    assert SHIPPED
    assert all(size(folder) <= MAX_BUNDLE_BYTES for folder in SHIPPED)
    assert sum(size(folder) for folder in SHIPPED) <= MAX_ALL_BYTES


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_a_shipped_bundle_is_whole_and_says_what_it_is(folder: Path):
    bundle = load_bundle(folder)
    card = bundle.card
    assert bundle.name == folder.name
    assert card.warnings == ()
    for text in ("description", "stain", "tissue", "training_data", "licence", "intended_use"):
        assert len(getattr(card, text)) >= 3, text
    assert card.limitations
    assert card.results
    reference = bundle.require_reference()
    for score in card.scores.values():
        low, high = reference.display_range(score)
        assert low < high
    p = mean_probability(reference.validation_logits, card.temperature)
    right = float((p.argmax(axis=1) == reference.validation_labels).mean())
    assert right > 1.3 / card.n_classes  # logits and labels belong to each other
    tiles = torch.randint(0, 256, (2, card.tile_size, card.tile_size, 3), dtype=torch.uint8)
    with torch.inference_mode():
        logits, features = bundle.network("cpu")(tiles)
    assert logits.shape == (2, card.n_heads, card.n_classes)
    assert features.shape == (2, card.n_features)
    assert torch.isfinite(logits).all()
    assert torch.isfinite(features).all()


def test_lymph_node_he_is_as_good_on_unseen_tiles_as_its_card_says(shared_data: Path):
    bundle = load_bundle("lymph-node-he")
    table = read_dataset(
        shared_data / "pcam" / "labels.csv", bundle.card.tile_size, classes=bundle.card.classes
    ).split("valid")
    rng = np.random.default_rng(0)
    rows = np.concatenate(
        [rng.permutation(np.flatnonzero(table.labels == c))[:PER_CLASS] for c in range(2)]
    )
    tiles = table.subset(rows).read()
    with torch.inference_mode():
        logits, _ = bundle.network("cpu")(torch.from_numpy(tiles))
    p = mean_probability(logits.numpy(), bundle.card.temperature)
    found = auroc(p[:, 1], table.labels[rows] == 1)
    # The standard error of an AUROC from 2 × 150 tiles is about 0.02.
    assert found == pytest.approx(bundle.card.results["pcam_valid"]["auroc"], abs=0.05)
