from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_ood.training.augment import Augmenter, _convolve, zoom
from napari_ood.training.cutting import jpeg


def augmenter(seed: int = 1, strength: float = 1.0, kind: str = "he") -> Augmenter:
    return Augmenter(strength, torch.Generator().manual_seed(seed), kind)


@pytest.mark.parametrize("kind", ["he", "photo"])
def test_tiles_keep_range_and_shape_and_repeat_with_their_seed(stripes, kind):
    tiles = torch.from_numpy(stripes(64, 0)[0])
    before = tiles.clone()
    first = augmenter(kind=kind)(tiles)
    assert torch.equal(tiles, before)
    assert first.shape == (64, 3, 32, 32)
    assert -1e-6 <= float(first.min()) <= float(first.max()) <= 1 + 1e-6
    assert torch.equal(first, augmenter(kind=kind)(tiles))
    assert not torch.equal(first, augmenter(2, kind=kind)(tiles))
    plain = augmenter(strength=0.0, kind=kind)(tiles)
    torch.testing.assert_close(plain, tiles.permute(0, 3, 1, 2) / 255)
    # Small changes on average: a tile stays recognisably itself.
    assert abs(float(first.mean() - plain.mean())) < 0.06
    assert float((first.mean((2, 3)) - plain.mean((2, 3))).abs().mean()) > 0.01


def test_colour_changes_without_strength_are_the_identity():
    augment = augmenter(strength=0.0)
    tiles = torch.randint(0, 256, (4, 8, 8, 3), dtype=torch.uint8)
    torch.testing.assert_close(augment._stain(tiles), (tiles + 1.0) / 256)
    torch.testing.assert_close(augment._photo(tiles), tiles / 255.0)


def test_stain_follows_beer_and_lambert():
    """Doubling all amounts of stain squares what light is let through."""
    augment = augmenter()
    tiles = torch.randint(40, 256, (2, 8, 8, 3), dtype=torch.uint8)
    draws = iter([torch.ones(2, 1, 3) / 0.35, torch.zeros(2, 1, 3), torch.zeros(2, 1, 1)])
    augment._uniform = lambda *shape: next(draws)  # type: ignore[method-assign]
    torch.testing.assert_close(augment._stain(tiles), ((tiles + 1.0) / 256) ** 2)


def test_gamma_goes_from_0_7_to_1_5():
    tiles = torch.full((2, 4, 4, 3), 128, dtype=torch.uint8)
    augment = augmenter()
    shapes = []

    def uniform(*shape: int) -> torch.Tensor:
        shapes.append(shape)
        return torch.tensor([-1.0, 1.0]).view(2, 1, 1) if len(shapes) == 1 else torch.zeros(shape)

    augment._uniform = uniform  # type: ignore[method-assign]
    out = augment._photo(tiles)[:, 0, 0, 0]
    torch.testing.assert_close(out, torch.tensor([128 / 255]) ** torch.tensor([0.7, 1.5]))


def test_illumination_is_a_plane():
    x = augmenter()._illuminate(torch.full((3, 9, 9, 3), 0.5))
    torch.testing.assert_close(x[:, 4, 4], torch.full((3, 3), 0.5))
    torch.testing.assert_close(x[:, 0, 0] + x[:, 8, 8], torch.ones(3, 3))
    assert float(x.std()) > 0.01


def test_jpeg_loses_more_at_lower_quality(stripes):
    tiles = stripes(1, 0)[0]
    errors = [np.abs(jpeg(tiles, q).astype(int) - tiles).mean() for q in (95, 40, 10)]
    assert 0 < errors[0] < errors[1] < errors[2]


def test_zoom_shows_a_wider_or_narrower_field_around_the_centre():
    x = torch.zeros(1, 3, 33, 33)
    x[..., 12:21, 12:21] = 1  # a 9 px square in the middle
    for factor, side in ((0.8, 9 / 0.8), (1.2, 9 / 1.2)):
        y = zoom(x, factor)
        assert y.shape == x.shape
        assert float(y.sum() / 3) ** 0.5 == pytest.approx(side, rel=0.05)
    assert zoom(x, 1.0) is x


def test_each_tile_is_blurred_with_its_own_kernel():
    x = torch.zeros(2, 3, 15, 15)
    x[..., 7, 7] = 1
    kernel = torch.stack([torch.eye(9)[4], torch.ones(9) / 9])
    y = _convolve(x, kernel)
    torch.testing.assert_close(y[0], x[0])
    assert float(y[1, 0, 3:12, 3:12].min()) == pytest.approx(1 / 81)


def test_every_kind_of_change_happens():
    """Of 256 grey tiles with one dot, the expected shares are turned, scaled and blurred."""
    augment = augmenter(3)
    x = torch.rand(256, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for change, share in ((augment._scale, 0.5), (augment._blur, 0.25)):
        moved = (change(x.clone()) != x).flatten(1).any(1).float().mean()
        assert float(moved) == pytest.approx(share, abs=0.12)
    tiles = (x.permute(0, 2, 3, 1) * 255).byte()
    moved = (augment._compress(tiles.clone()) != tiles).flatten(1).any(1).float().mean()
    assert float(moved) == pytest.approx(0.25, abs=0.1)
