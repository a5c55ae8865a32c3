"""Thumbnails of a reference's tiles: packed, read back, and only where they were asked for."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_ood.errors import BundleError
from napari_ood.explain.prototypes import Prototypes
from napari_ood.explain.thumbnails import ReferenceTiles, pack_tiles
from napari_ood.models import Bundle, add_to_bundle, load_bundle
from napari_ood.models.card import TILES
from napari_ood.training.config import TrainConfig
from napari_ood.training.fit import reference_rows
from napari_ood.training.make import with_thumbnails
from napari_ood.training.request import Request


def tiles_of(n: int, side: int = 32, seed: int = 0) -> np.ndarray:
    """Flat tiles, each of a colour of its own."""
    colours = np.random.default_rng(seed).integers(0, 256, (n, 1, 1, 3))
    return np.broadcast_to(colours, (n, side, side, 3)).astype(np.uint8)


def copied(bundle: Bundle, folder: Path, images: np.ndarray) -> Bundle:
    return add_to_bundle(bundle, {TILES: pack_tiles(images)}, folder)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 12), st.integers(8, 130))
def test_every_tile_is_a_whole_file_of_its_own(n: int, side: int) -> None:
    images = tiles_of(n, side)
    arrays = pack_tiles(images)
    data, offsets = arrays["images"].tobytes(), arrays["offsets"].tolist()
    assert offsets[0] == 0 and offsets[-1] == len(data) and len(offsets) == n + 1
    for tile, start, stop in zip(images, offsets[:-1], offsets[1:], strict=True):
        thumbnail = np.asarray(Image.open(io.BytesIO(data[start:stop])).convert("RGB"))
        assert thumbnail.shape == (min(side, 96), min(side, 96), 3)
        assert np.abs(thumbnail.mean((0, 1)) - tile.mean((0, 1))).max() < 6


def test_a_prototype_brings_the_thumbnail_of_its_row(tiny_bundle: Bundle, tmp_path: Path) -> None:
    images = tiles_of(100)
    bundle = copied(tiny_bundle, tmp_path / "with", images)
    assert bundle.hashes == tiny_bundle.hashes  # runs of the one are runs of the other
    features = bundle.require_reference().validation_features[3]
    for prototype in Prototypes(bundle).nearest(features, 5):
        assert prototype.thumbnail is not None
        colour = images[prototype.index].mean((0, 1))
        assert np.abs(prototype.thumbnail.mean((0, 1)) - colour).max() < 6
    without = Prototypes(tiny_bundle).nearest(features, 5)
    assert [p.thumbnail for p in without] == [None] * 5
    assert not ReferenceTiles(tiny_bundle) and ReferenceTiles(tiny_bundle).get(0) is None


def test_as_large_and_as_good_as_fits_and_never_more() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 96, 96, 3), np.uint8)
    sizes, before = [], 0
    for most in (8_000, 16_000, 32_000, 64_000):
        arrays = pack_tiles(noise, most)
        total = arrays["images"].nbytes + arrays["offsets"].nbytes
        assert before < total <= most
        before = total
        with Image.open(io.BytesIO(arrays["images"].tobytes()[: arrays["offsets"][1]])) as image:
            sizes.append(image.width)
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1] == 96
    with pytest.raises(BundleError, match=r"don't fit in 0\.002 MB"):
        pack_tiles(noise, 2_000)


def test_thumbnails_of_other_tiles_are_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    bundle = copied(tiny_bundle, tmp_path / "few", tiles_of(99))
    with pytest.raises(BundleError, match="other tiles than the reference's"):
        ReferenceTiles(bundle).get(0)
    arrays = pack_tiles(tiles_of(100))
    arrays["images"] = arrays["images"] * np.uint8(0)
    bundle = add_to_bundle(tiny_bundle, {TILES: arrays}, tmp_path / "damaged")
    with pytest.raises(BundleError, match="thumbnail 7 is damaged"):
        ReferenceTiles(bundle).get(7)
    bundle = add_to_bundle(tiny_bundle, {TILES: {"x": np.zeros(3)}}, tmp_path / "empty")
    with pytest.raises(BundleError, match="holds no thumbnails"):
        ReferenceTiles(bundle).get(0)


def test_training_keeps_them_only_when_asked(tiny_bundle: Bundle, tmp_path: Path) -> None:
    bundle = add_to_bundle(tiny_bundle, {}, tmp_path / "trained")
    images, labels = tiles_of(100), np.arange(100) % 3
    request = Request(tmp_path, tmp_path / "trained", TrainConfig())
    assert not request.thumbnails
    assert TILES not in with_thumbnails(bundle, images, labels, request).card.files
    request = Request(tmp_path, tmp_path / "trained", TrainConfig(), thumbnails=True)
    bundle = with_thumbnails(bundle, images, labels, request)
    rows = reference_rows(labels, seed=request.config.seed)
    shown = ReferenceTiles(bundle)
    for i in (0, 41, 99):
        thumbnail = shown.get(i)
        assert thumbnail is not None
        assert np.abs(thumbnail.mean((0, 1)) - images[rows[i]].mean((0, 1))).max() < 6


@pytest.mark.parametrize("name", ["synthetic-he", "lymph-node-he", "dermoscopy"])
def test_shipped_thumbnails_are_small_and_of_the_reference_s_tiles(name: str) -> None:
    """A thumbnail has about the colours that the reference notes of its tile."""
    from napari_ood.slides.appearance import STATISTICS

    bundle = load_bundle(name)
    assert bundle.card.files[TILES].size <= 5_000_100  # 100 bytes of safetensors' header
    reference, shown = bundle.require_reference(), ReferenceTiles(bundle)
    assert len(shown) == len(reference.train_features)
    assert reference.statistics is not None
    brightness = reference.statistics[:, STATISTICS.index("brightness_mean")]
    rows = np.random.default_rng(0).integers(0, len(shown), 40)
    means = [np.mean(shown.get(int(row))) / 255 for row in rows]
    np.testing.assert_allclose(means, brightness[rows], atol=0.02)
