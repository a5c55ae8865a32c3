"""Changed tiles, and that references are fitted to in-distribution tiles alone."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from napari_ood.models import BlockSpec, InferenceNet, MultiHeadNet
from napari_ood.training import fit_reference
from napari_ood.training import nuisance as module
from napari_ood.training.nuisance import changed_tiles

MEAN, STD = (0.6, 0.5, 0.6), (0.2, 0.2, 0.2)


def tissue(n: int, seed: int = 0, side: int = 32) -> np.ndarray:
    """Smooth pink and purple texture, like H&E in colour and grain."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((n, side // 4, side // 4, 1)).repeat(4, axis=1).repeat(4, axis=2)
    amount = coarse + rng.normal(0, 0.05, (n, side, side, 1))
    rgb = np.array([225, 180, 215]) - amount * np.array([110, 120, 70])
    return rgb.clip(0, 255).astype(np.uint8)


def compressed(tiles: np.ndarray, quality: int = 95) -> np.ndarray:
    out = np.empty_like(tiles)
    for i, tile in enumerate(tiles):
        buffer = io.BytesIO()
        Image.fromarray(tile).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
        out[i] = np.asarray(Image.open(buffer))
    return out


@pytest.mark.parametrize("kind", ["he", "photo"])
def test_every_tile_is_changed_repeatably_and_each_for_itself(kind: str) -> None:
    tiles = tissue(40)
    before = tiles.copy()
    changed = changed_tiles(tiles, kind, seed=3)
    np.testing.assert_array_equal(tiles, before)
    assert changed.shape == tiles.shape and changed.dtype == np.uint8
    assert (changed != tiles).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(changed_tiles(tiles, kind, seed=3), changed)
    np.testing.assert_array_equal(changed_tiles(tiles[:7], kind, seed=3), changed[:7])
    assert (changed_tiles(tiles, kind, seed=4) != changed).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("kind", ["he", "photo"])
def test_the_changes_are_in_the_stated_measure(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone, each change does what it says: colour moves, scale and blur leave the mean colour."""
    tiles = tissue(60)
    shares = ("COLOUR_SHARE", "SCALE_SHARE", "BLUR_SHARE", "SHARPEN_SHARE", "NOISE_SHARE")

    def only(share: str) -> np.ndarray:
        for name in shares:
            monkeypatch.setattr(module, name, float(name == share))
        return changed_tiles(tiles, kind, seed=0).astype(np.float64)

    mean, sharp = (lambda t: t.mean(axis=(1, 2))), (lambda t: np.abs(np.diff(t, axis=1)).mean())
    moved = {share: np.abs(mean(only(share)) - mean(tiles)) for share in shares}
    assert moved["COLOUR_SHARE"].mean() > 5 and moved["COLOUR_SHARE"].mean() < 60
    assert moved["BLUR_SHARE"].mean() < 1
    assert moved["SCALE_SHARE"].mean() < 5
    assert sharp(only("BLUR_SHARE")) < 0.75 * sharp(tiles.astype(float))
    assert moved["SHARPEN_SHARE"].mean() < 2 and moved["NOISE_SHARE"].mean() < 1
    assert sharp(only("SHARPEN_SHARE")) > 1.2 * sharp(tiles.astype(float))
    assert sharp(only("NOISE_SHARE")) > 1.03 * sharp(only("none"))
    compressed_only = only("none")
    errors = np.abs(compressed_only - tiles).mean(axis=(1, 2, 3))
    assert np.abs(compressed(tiles, 95).astype(float) - tiles).mean() < errors.mean() < 12


def test_magnifying_keeps_the_centre_and_shrinking_mirrors_the_edge() -> None:
    side = 60
    ramp = np.linspace(0, 255, side)[:, None, None].repeat(side, 1).repeat(3, 2).astype(np.uint8)
    image, rng = Image.fromarray(ramp), np.random.default_rng(0)
    magnified = np.asarray(module._scaled(image, 1.25, rng)).astype(float)
    shrunk = np.asarray(module._scaled(image, 0.8, rng)).astype(float)
    slope = 255 / (side - 1)
    middle = slice(20, 40)
    for scaled, factor in ((magnified, 1.25), (shrunk, 0.8)):
        assert scaled.shape == (side, side, 3)
        found = np.polyfit(np.arange(20, 40), scaled[middle, 30, 0], 1)[0]
        assert found == pytest.approx(slope / factor, rel=0.05)
        assert scaled[29:31, 30, 0].mean() == pytest.approx(127.5, abs=4)
    np.testing.assert_array_equal(shrunk[:6], shrunk[6:12][::-1])


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'he', 'photo'"):
        changed_tiles(tissue(2), "ihc")


@pytest.fixture(scope="module")
def net() -> MultiHeadNet:
    torch.manual_seed(0)
    blocks = (BlockSpec("layer1", "layer1", "mean_std"), BlockSpec("penultimate", "penultimate"))
    return MultiHeadNet("timm:test_resnet", blocks, n_heads=2, n_classes=2, tile_size=32).eval()


def fit(net: MultiHeadNet, **options: object):
    labels, held_labels = np.arange(60) % 2, np.arange(20) % 2
    arguments = {"n_train": 40, "device": "cpu", **options}
    return fit_reference(
        net, MEAN, STD, tissue(60), labels, tissue(20, seed=1), held_labels, **arguments
    )


def test_the_stored_differences_are_of_the_same_training_tiles(
    net: MultiHeadNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only kept training tiles are changed, and their features are computed as the engine does."""
    seen: list[np.ndarray] = []

    def spy(tiles: np.ndarray, augment: str, seed: int) -> np.ndarray:
        seen.append(tiles.copy())
        return changed_tiles(tiles, augment, seed)

    monkeypatch.setattr("napari_ood.training.fit.changed_tiles", spy)
    reference = fit(net, seed=5)
    (tiles,) = seen
    training = {tile.tobytes() for tile in tissue(60)}
    assert len(tiles) == 40 and all(tile.tobytes() in training for tile in tiles)
    engine = InferenceNet(net, MEAN, STD)
    with torch.inference_mode():
        plain, changed = (
            engine(torch.from_numpy(t))[1].numpy() for t in (tiles, changed_tiles(tiles, "he", 5))
        )
    found = reference.nuisance_features
    assert found is not None
    np.testing.assert_allclose(found, changed - plain, atol=1e-5)
    known = {row.tobytes() for row in reference.train_features.round(3)}
    assert all(row.tobytes() in known for row in plain.round(3))


def test_changed_tiles_leave_the_rest_of_the_reference_as_it_was(net: MultiHeadNet) -> None:
    without, some, photo = fit(net, with_changes=False), fit(net), fit(net, augment="photo")
    assert without.nuisance_features is None
    assert some.nuisance_features is not None
    assert some.nuisance_features.shape == without.train_features.shape
    for name, array in without.tensors().items():
        np.testing.assert_array_equal(some.tensors()[name], array)
    np.testing.assert_array_equal(fit(net).nuisance_features, some.nuisance_features)
    assert np.abs(photo.nuisance_features - some.nuisance_features).max() > 0


def test_invariant_moves_less_than_mahalanobis_when_only_the_appearance_changes(
    net: MultiHeadNet,
) -> None:
    """On tiles and changes that the fit has not seen."""
    reference = fit(net)
    tiles = tissue(80, seed=9)
    with torch.inference_mode():
        engine = InferenceNet(net, MEAN, STD)
        plain, other = (
            engine(torch.from_numpy(t))[1].numpy() for t in (tiles, changed_tiles(tiles, "he", 77))
        )

    def moved(name: str) -> float:
        inside, outside = (reference.score(name, None, x) for x in (plain, other))
        return float(outside.mean() / inside.mean())

    assert moved("invariant@layer1") < 1.4
    assert moved("mahalanobis@layer1") - 1 > 2 * (moved("invariant@layer1") - 1)
