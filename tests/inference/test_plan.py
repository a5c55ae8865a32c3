"""Plans: resolutions in words, shards that fit the codec."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_ood import SlideError
from napari_ood.inference import check_mpp
from napari_ood.inference.plan import BLOCK_PX, SHARD_TILES, _tiles_along
from napari_ood.models import Card


def _card(mpp: float | None) -> Card:
    return cast("Card", SimpleNamespace(mpp=mpp, tile_size=96))


def test_resolutions_that_match_say_nothing() -> None:
    assert check_mpp((0.25, 0.25), _card(0.97), "a") is None
    assert check_mpp((0.98, 0.98), _card(0.97), "a") is None  # 1 % off
    assert check_mpp(None, _card(None), "a") is None
    assert check_mpp((9.0, 9.0), _card(None), "a") is None


def test_a_coarse_slide_is_warned_about_the_louder_the_coarser() -> None:
    assert "more uncertainty" in str(check_mpp((1.2, 1.2), _card(0.97), "a"))
    assert "mean nothing" in str(check_mpp((0.97, 2.0), _card(0.97), "a"))


def test_tiles_without_pixels_and_unknown_mpp_are_refused() -> None:
    with pytest.raises(SlideError, match="pixel wide"):
        check_mpp((100.0, 100.0), _card(0.97), "a")
    with pytest.raises(SlideError, match="--mpp"):
        check_mpp(None, _card(0.97), "a")


@given(st.floats(1, 50_000), st.sampled_from([16, 240, 256, 512, 4096]), st.integers(1, 10_000))
def test_shards_have_a_sane_number_of_tiles(pitch: float, codec: int, n: int) -> None:
    k = _tiles_along(pitch, codec, n)
    assert 1 <= k <= min(n, SHARD_TILES[1])
    assert k >= min(n, SHARD_TILES[0]) or (k + 1) * pitch > 2 * BLOCK_PX
    assert k == 1 or k * pitch <= 3 * BLOCK_PX  # tiles far apart do not fill the memory


@pytest.mark.parametrize(
    ("pitch", "codec", "expected"), [(256, 256, 8), (192, 256, 12), (96, 256, 24)]
)
def test_shards_end_where_codec_tiles_end(pitch: float, codec: int, expected: int) -> None:
    k = _tiles_along(pitch, codec, 1000)
    assert k == expected and k * pitch % codec == 0
