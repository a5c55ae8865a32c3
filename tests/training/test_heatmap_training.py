"""Training of the heatmap decoder, and what the released code of its paper got wrong."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from napari_ood.errors import BundleError, TrainingCancelled, TrainingError
from napari_ood.evaluation import fpr_at_tpr, ood_auroc
from napari_ood.evaluation.planted import KINDS, TISSUE, plant
from napari_ood.models import Bundle, MultiHeadNet, save_bundle
from napari_ood.models.heatmap import MapSpec, tile_scores
from napari_ood.models.spatial import SpatialNet
from napari_ood.samples.foreign import Foreign
from napari_ood.training.heatmap import (
    ForeignTiles,
    HeatmapConfig,
    HeatmapProgress,
    train_heatmap,
)
from napari_ood.training.heatmap_artefacts import ARTEFACTS, plant_artefacts, visible
from napari_ood.training.heatmap_layers import decoder_layers, location_layers, spatial_layers
from napari_ood.training.heatmap_targets import (
    closest_of_class,
    difference_targets,
    weighted_error,
)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 60))
def test_each_tile_gets_its_own_closest_tile_of_its_class(seed: int, n: int, k: int):
    """The original listed prototypes by class and read them by index: 298 of 300 were another's."""
    rng = np.random.default_rng(seed)
    x, bank = rng.normal(size=(n, 5)), rng.normal(size=(k, 5))
    own, theirs = rng.integers(0, 4, n), rng.integers(0, 3, k)
    found = closest_of_class(x, own, bank, theirs)
    for i in range(n):
        allowed = np.flatnonzero(theirs == own[i])
        if not len(allowed):  # the original crashed
            allowed = np.arange(k)
        distance = np.linalg.norm(bank[allowed] - x[i], axis=1)
        assert found[i] == allowed[distance.argmin()]


def test_a_class_that_nothing_is_predicted_as_falls_back_on_all():
    found = closest_of_class([[0.0], [9.0]], [1, 1], [[8.0], [1.0]], [0, 0])
    assert found.tolist() == [1, 0]
    with pytest.raises(ValueError, match="need features"):
        closest_of_class([[0.0]], [0], np.zeros((0, 1)), [])


def test_targets_are_half_the_difference_where_the_tile_is_foreign():
    rng = np.random.default_rng(0)
    tiles, known = rng.integers(0, 256, (2, 3, 8, 8, 3), dtype=np.uint8)
    masks = np.zeros((3, 8, 8), bool)
    masks[:, :4] = True
    found = difference_targets(tiles, known, masks, (8, 8)).float().numpy()
    signed = (tiles / 127.5 - 1).transpose(0, 3, 1, 2), (known / 127.5 - 1).transpose(0, 3, 1, 2)
    expected = (signed[1] - signed[0]) / 2
    np.testing.assert_allclose(found[:, :, :4], expected[:, :, :4], atol=1e-3)
    assert not found[:, :, 4:].any()
    extremes = np.full((1, 8, 8, 3), 255, np.uint8)
    whole = difference_targets(extremes, extremes * 0, masks[:1] | True, (2, 2))
    assert whole.tolist() == [[[[-1.0] * 2] * 2] * 3]  # the ends of tanh are reached, not passed


def test_foreign_pixels_weigh_more_unless_the_image_is_to():
    output, target = torch.zeros(1, 3, 1, 2), torch.zeros(1, 3, 1, 2)
    target[..., 1] = 0.5
    assert float(weighted_error(output, target)) == pytest.approx((1 + 5 * 0.5) * 0.25 / 2)
    image = torch.ones(1, 3, 1, 2)
    assert float(weighted_error(output, target, "image", image)) == pytest.approx(6 * 0.25 / 2)
    with pytest.raises(ValueError, match="needs the image"):
        weighted_error(output, target, "image")


def test_fpr_of_small_sets_is_not_zero():
    """The original gave 0 whenever no threshold had a TPR of 0.9495 to 0.9505: of 50, none has."""
    inside = np.arange(50.0)  # kept at the threshold 47: 48 of 50 tiles, a TPR of 0.96
    outside = np.r_[np.linspace(0, 47, 46), np.full(4, 100.0)]
    assert fpr_at_tpr(inside, outside) == pytest.approx(0.92)


def test_what_a_decoder_is_shown_is_other_than_what_it_is_judged_on(stripes):
    shown = set(ARTEFACTS)
    judged = {*KINDS, TISSUE} | {kind.name.lower() for kind in Foreign} | {"tissue", "ihc", "pen"}
    assert not shown & judged
    assert not set(ARTEFACTS.values()) & set(KINDS.values())
    words = " ".join(shown)
    assert not any(name in words for name in ("ink", "pen", "fold", "blur", "focus", "dab", "ihc"))
    tiles, _ = stripes(6, 0)
    planted = plant_artefacts(tiles, 1)
    assert set(planted.kinds.tolist()) <= shown
    with pytest.raises(ValueError, match="no artefact 'ink'"):
        plant_artefacts(tiles, 1, kinds=("ink",))
    with pytest.raises(ValueError, match="no kind 'noise'"):
        plant("noise", tiles)


@pytest.mark.parametrize("kind", ARTEFACTS)
def test_artefacts_lie_where_the_mask_says(kind: str, stripes):
    tiles, _ = stripes(12, 0)
    planted = plant_artefacts(tiles, 3, (kind,), recompress=False)
    changed = (planted.tiles != tiles).any(axis=3)
    away = ~np.stack([visible(a, b) for a, b in zip(tiles, planted.tiles, strict=True)])
    assert planted.masks.mean() > 0.02
    assert not (planted.masks & away).any()
    assert changed[planted.masks].mean() > (0.1 if kind == "dust" else 0.5)
    again = plant_artefacts(tiles[:5], 3, (kind,), recompress=False)
    np.testing.assert_array_equal(again.tiles, planted.tiles[:5])  # whatever the number of tiles


@pytest.mark.parametrize("kind", [*KINDS, TISSUE])
def test_planted_regions_lie_where_the_truth_says(kind: str, stripes):
    tiles, _ = stripes(12, 0)
    planted = plant(kind, tiles, 3, foreign=255 - tiles[::-1])
    change = np.abs(planted.tiles.astype(int) - tiles).mean(axis=3)
    assert 0.05 < planted.masks.mean() < 0.5
    assert change[planted.masks].mean() > 1.5 * change[~planted.masks].mean()


def shades(n: int, seed: int) -> np.ndarray:
    """Smooth pinkish tiles of 32 px."""
    rng = np.random.default_rng(seed)
    grey = rng.uniform(150, 200, (n, 1, 1, 1)) + rng.normal(0, 8, (n, 32, 32, 1))
    return (grey + np.array([25, -20, 10])).clip(0, 255).astype(np.uint8)


def with_square(tiles: np.ndarray, seed: int) -> ForeignTiles:
    """A dark green square somewhere in each tile."""
    rng = np.random.default_rng(seed)
    tiles, masks = tiles.copy(), np.zeros(tiles.shape[:3], bool)
    for tile, mask in zip(tiles, masks, strict=True):
        y, x = rng.integers(0, 20, 2)
        mask[y : y + 12, x : x + 12] = True
        tile[mask] = rng.integers(20, 80, (mask.sum(), 1)) + np.array([0, 60, 10])
    return ForeignTiles(tiles, masks)


def test_a_decoder_learns_to_find_a_planted_square(tiny_bundle: Bundle):
    config = HeatmapConfig(epochs=12, batch_size=32, n_tiles=160, width=16, device="cpu")
    seen: list[HeatmapProgress] = []
    stored = train_heatmap(
        tiny_bundle, shades(160, 0), shades(40, 1), with_square(shades(160, 2), 3), config,
        seen.append,
    )  # fmt: skip
    losses = [p.held_out for p in seen if p.held_out is not None]
    assert len(losses) == 12
    assert losses[-1] < losses[0] / 2

    judged = with_square(shades(40, 4), 5)
    net = SpatialNet(tiny_bundle.network(), stored.decoder.layers)
    with torch.inference_mode():
        heat = stored.decoder.heat(net(torch.from_numpy(judged.tiles)))
        plain = stored.decoder.heat(net(torch.from_numpy(shades(40, 6))))
    fine = interpolate(heat[:, None], size=(32, 32), mode="bilinear")[:, 0].numpy()
    assert ood_auroc(fine[~judged.masks], fine[judged.masks]) > 0.9
    assert ood_auroc(tile_scores(plain).numpy(), tile_scores(heat).numpy()) > 0.95
    assert stored.held_tiles.tolist() == sorted(stored.held_tiles.tolist())


def test_the_same_seed_gives_the_same_decoder(tiny_bundle: Bundle):
    config = HeatmapConfig(epochs=1, n_tiles=20, width=4, device="cpu")
    a, b = (train_heatmap(tiny_bundle, shades(30, 0), shades(8, 1), None, config) for _ in range(2))
    for name, value in a.arrays().items():
        np.testing.assert_array_equal(value, b.arrays()[name])


def test_a_training_can_be_cancelled_and_too_few_tiles_are_told(tiny_bundle: Bundle):
    config = HeatmapConfig(epochs=50, n_tiles=20, width=4, device="cpu")
    cancel = threading.Event()
    with pytest.raises(TrainingCancelled, match="nothing was written"):
        train_heatmap(
            tiny_bundle, shades(20, 0), shades(8, 1), None, config,
            lambda p: cancel.set() if p.epoch == 2 else None, cancel,
        )  # fmt: skip
    with pytest.raises(TrainingError, match="two tiles of each"):
        train_heatmap(tiny_bundle, shades(1, 0), shades(8, 1), None, config)


def test_layers_are_neither_too_fine_nor_too_coarse():
    sides = [48, 24, 12, 5]
    maps = [MapSpec(f"l{side}", 8, side, side) for side in sides]
    assert [m.height for m in decoder_layers(maps, 64)] == [24, 12, 5]
    assert [m.height for m in location_layers(maps)] == [48, 24, 12]
    assert decoder_layers(maps[:1], 64) == tuple(maps[:1])  # better a fine one than none
    assert location_layers(maps[3:]) == tuple(maps[3:])


def test_a_bundle_without_places_is_told(tiny_bundle: Bundle, tmp_path: Path):
    assert [m.layer for m in spatial_layers(tiny_bundle)] == ["layer1"]
    net = MultiHeadNet("timm:test_resnet", n_heads=3, n_classes=3, tile_size=32)
    scores = {"uncertainty": "entropy", "ood": "mahalanobis"}
    bare = save_bundle(tmp_path / "bare", net, replace(tiny_bundle.card, scores=scores))
    with pytest.raises(BundleError, match=r"no feature block with places \(it stores penultimate"):
        spatial_layers(bare)
