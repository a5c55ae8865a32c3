"""Maps finer than a tile: foreign places by distance, and the learned heatmap, as TileMappers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_ood.errors import BundleError, ExplainError
from napari_ood.evaluation import evaluate, ood_auroc
from napari_ood.explain.heatmap import DecoderMap
from napari_ood.explain.locations import LocationMap
from napari_ood.models import Bundle, add_to_bundle
from napari_ood.models.card import HEATMAP, LOCATIONS
from napari_ood.models.locations import (
    HELD_TILES,
    TILE_QUANTILE,
    VECTORS,
    LocationDistance,
    LocationSample,
    place_vectors,
)
from napari_ood.models.spatial import Seen
from napari_ood.scores.distance import Mahalanobis
from napari_ood.training.heatmap import HeatmapConfig, train_heatmap
from napari_ood.training.heatmap_locations import sample_locations


def shades(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    grey = rng.uniform(120, 200, (n, 1, 1, 1)) + rng.normal(0, 8, (n, 32, 32, 1))
    return (grey + np.array([25, -20, 10])).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def mapped(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle with places and a decoder that was hardly trained."""
    known, held = shades(200, 0), shades(60, 1)
    labels = np.arange(200) % 3 - 1  # a third unlabelled
    places = sample_locations(tiny_bundle, known, labels, held, device="cpu")
    config = HeatmapConfig(epochs=2, n_tiles=100, width=8, device="cpu")
    decoder = train_heatmap(tiny_bundle, known, held, None, config)
    out = tmp_path_factory.mktemp("bundles") / "mapped"
    extras = {LOCATIONS: places.arrays(), HEATMAP: decoder.arrays()}
    return add_to_bundle(tiny_bundle, extras, out)


@pytest.fixture
def planted() -> tuple[np.ndarray, np.ndarray]:
    """Tiles with a striped square each, and where it is."""
    rng = np.random.default_rng(5)
    tiles, masks = shades(20, 7), np.zeros((20, 32, 32), bool)
    for tile, mask in zip(tiles, masks, strict=True):
        y, x = rng.integers(0, 17, 2)
        mask[y : y + 16, x : x + 16] = True
        tile[mask] = np.where(np.arange(256)[:, None] % 4 < 2, 250, 20)
    return tiles, masks


def test_distances_are_those_of_mahalanobis_with_unit_vectors():
    rng = np.random.default_rng(0)
    maps = {"a": torch.rand(2, 3, 6, 6) + 0.1, "b": torch.rand(2, 4, 3, 3) + 0.1}
    bank = rng.random((50, 7)).astype(np.float32)
    labels = rng.integers(0, 2, 50)
    seen = Seen(torch.zeros(2, 1, 2), torch.zeros(2, 1), maps)
    heat = LocationDistance(("a", "b"), 6, bank, labels).heat(seen)
    vectors = place_vectors(maps, ("a", "b"), 6)
    for name, part in (("a", vectors[:, :3]), ("b", vectors[:, 3:, 1::2, 1::2])):
        if name == "a":  # each layer's own map has unit length
            torch.testing.assert_close(part.norm(dim=1), torch.ones(2, 6, 6))
    rows = vectors.permute(0, 2, 3, 1).reshape(-1, 7).numpy()
    expected = Mahalanobis.fit(bank, labels).score(rows).reshape(2, 6, 6)
    np.testing.assert_allclose(heat.numpy(), expected, rtol=1e-3)


def test_a_planted_square_wins(mapped: Bundle, planted: tuple[np.ndarray, np.ndarray]):
    tiles, masks = planted
    places = LocationMap(mapped, "cpu")
    heat = places(tiles)
    assert heat.shape == (20, 32, 32)
    assert heat.dtype == np.float32
    assert ood_auroc(heat[~masks], heat[masks]) > 0.75
    assert ood_auroc(places.tile_score(shades(20, 9)), places.tile_score(tiles)) > 0.95
    assert (places.tile_score(tiles) > places.threshold).mean() > 0.9


def test_few_familiar_places_reach_the_upper_half_of_the_colours(mapped: Bundle):
    for kind in (LocationMap, DecoderMap):
        mapper = kind(mapped, "cpu")
        familiar = shades(60, 1)  # the held-out tiles
        assert 0 < (mapper(familiar) > mapper.limit / 2).mean() < 0.02
        assert (mapper.tile_score(familiar) > mapper.threshold).mean() == 0.05
        assert mapper.signed is False


@pytest.mark.parametrize("kind", [LocationMap, DecoderMap])
def test_a_tile_does_not_depend_on_its_batch(kind: type, mapped: Bundle):
    mapper = kind(mapped, "cpu")
    tiles = np.concatenate([shades(70, 2), np.random.default_rng(0).integers(
        0, 256, (70, 32, 32, 3)).astype(np.uint8)])  # fmt: skip
    heat, score = mapper(tiles), mapper.tile_score(tiles)
    for i in (0, 64, 139):
        np.testing.assert_allclose(mapper(tiles[i : i + 1])[0], heat[i], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(mapper.tile_score(tiles[i : i + 1])[0], score[i], rtol=1e-4)


def test_constant_tiles_no_tiles_and_wrong_tiles(mapped: Bundle):
    for kind in (LocationMap, DecoderMap):
        mapper = kind(mapped, "cpu")
        for value in (0, 255):
            assert np.isfinite(mapper(np.full((1, 32, 32, 3), value, np.uint8))).all()
        assert mapper(np.zeros((0, 32, 32, 3), np.uint8)).shape == (0, 32, 32)
        assert mapper.tile_score(np.zeros((0, 32, 32, 3), np.uint8)).shape == (0,)
        with pytest.raises(ExplainError, match=r"uint8 tiles \[B, 32, 32, 3\], not uint8 \[1, 16"):
            mapper(np.zeros((1, 16, 16, 3), np.uint8))
        with pytest.raises(ExplainError, match="not float64"):
            mapper(np.zeros((1, 32, 32, 3)))


def test_the_score_of_a_tile_is_what_a_tenth_of_its_places_exceed(mapped: Bundle):
    mapper = LocationMap(mapped, "cpu")
    heat = torch.arange(100.0).reshape(1, 10, 10)
    assert float(mapper.scores(heat)) == pytest.approx(99 * TILE_QUANTILE)


def test_familiar_places_lie_between_nothing_and_one(mapped: Bundle):
    mapper = LocationMap(mapped, "cpu")
    assert mapper.limit == pytest.approx(2)
    heat = mapper(shades(60, 1))
    assert heat.min() == 0
    assert 0.02 < np.median(heat) < 0.8


def test_evaluate_flags_by_the_maps_own_thresholds(mapped: Bundle, planted):
    foreign, _ = planted
    held = shades(60, 1)  # what the thresholds were taken from
    found = evaluate(mapped, held, {"planted": foreign}, ["heatmap", "locations"], 0, device="cpu")
    for kind in (LocationMap, DecoderMap):
        mapper = kind(mapped, "cpu")
        assert found.flagged["id"][kind.name] == pytest.approx(0.05, abs=0.02)
        expected = (mapper.tile_score(foreign) > np.float32(mapper.threshold)).mean()
        assert found.flagged["planted"][kind.name] == pytest.approx(expected)
    assert found.flagged["planted"]["locations"] > 0.5


def test_a_bundle_without_the_files_says_how_to_make_them(tiny_bundle: Bundle):
    with pytest.raises(BundleError, match="train-heatmap tiny --id DATA --locations-only"):
        LocationMap(tiny_bundle)
    with pytest.raises(BundleError, match="train-heatmap tiny --id DATA --ood synthetic"):
        DecoderMap(tiny_bundle)


def test_damaged_places_are_refused(mapped: Bundle, tmp_path: Path):
    arrays = mapped.arrays(LOCATIONS)
    assert arrays is not None
    with pytest.raises(BundleError, match=f"lacks '{HELD_TILES}'"):
        LocationSample.from_arrays({k: v for k, v in arrays.items() if k != HELD_TILES}, "file")
    broken = arrays[VECTORS].copy()
    broken[0, 0] = np.inf
    with pytest.raises(BundleError, match="not finite"):
        LocationSample.from_arrays({**arrays, VECTORS: broken}, "file")
    # of another network: told on first use, not a wrong picture
    other = add_to_bundle(
        mapped, {LOCATIONS: {**arrays, VECTORS: arrays[VECTORS][:, :-1]}}, tmp_path / "other"
    )
    with pytest.raises(BundleError, match="of another network"):
        LocationMap(other, "cpu")(shades(1, 0))


def test_places_are_small_and_scored_as_stored(mapped: Bundle):
    arrays = mapped.arrays(LOCATIONS)
    assert arrays is not None
    assert mapped.card.files[LOCATIONS].size < 3_000_000
    mapper = LocationMap(mapped, "cpu")
    scores = mapper.tile_score(shades(60, 1))  # the held-out tiles
    stored = mapper.scaled(torch.from_numpy(arrays[HELD_TILES]))
    np.testing.assert_allclose(np.sort(scores), stored, rtol=1e-3, atol=1e-4)
