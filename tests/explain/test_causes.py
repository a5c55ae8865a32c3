"""Named causes of planted changes, on drawn tiles: where the tile has none, none is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy import ndimage
from skimage.color import hed2rgb, rgb2hed

from napari_ood.errors import ExplainError
from napari_ood.explain.causes import (
    CAUSES,
    NOTHING,
    TISSUE,
    UNKNOWN,
    Cause,
    Standing,
    cause_at,
    cause_beside,
    probable_cause,
)
from napari_ood.explain.within import black_share, straight_edges
from napari_ood.models import Bundle, load_bundle
from napari_ood.slides.appearance import STATISTICS, tile_statistics
from napari_ood.slides.spectrum import tile_spectrum
from napari_ood.training.grain import fit_grain

RGB = NDArray[np.uint8]
SIDE = 64


def drawn(n: int, seed: int, nucleus: float = 2.0) -> RGB:
    """Tiles of eosin with nuclei of haematoxylin, of varied amounts; ``nucleus``: their size."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        noise = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), nucleus, mode="wrap")
        nuclei = np.clip(noise / noise.std() - 0.5, 0, 1.5) * rng.uniform(0.7, 1.3)
        fibres = 0.006 * rng.normal(size=(SIDE, SIDE))
        eosin = np.full_like(nuclei, 0.07 * rng.uniform(0.7, 1.3)) + fibres
        hed = np.stack([0.03 + 0.08 * nuclei, eosin, 0 * nuclei], axis=-1)
        out.append(np.round(255 * hed2rgb(hed)).astype(np.uint8))
    return np.stack(out)


USUAL = drawn(120, seed=1)
CARD = replace(load_bundle("synthetic-he").card, tile_size=SIDE)


@pytest.fixture(scope="module")
def judge() -> Callable[..., Cause]:
    """``probable_cause`` with drawn tiles as training tiles."""
    statistics, spectrum = tile_statistics(USUAL), tile_spectrum(USUAL)
    rule = fit_grain(USUAL)

    def named(tiles: RGB, **more: object) -> Cause:
        return probable_cause(tiles, statistics, CARD, spectrum=spectrum, grain=rule, **more)  # type: ignore[arg-type]

    return named


def blurred(tiles: RGB) -> RGB:
    kernel = ImageFilter.GaussianBlur(2.5)
    return np.stack([np.asarray(Image.fromarray(tile).filter(kernel)) for tile in tiles])


def inked(tiles: RGB) -> RGB:
    out = tiles.copy()
    out[:, 20:50] = (0.3 * out[:, 20:50] + 0.7 * np.array([30, 120, 90])).astype(np.uint8)
    return out


def folded(tiles: RGB) -> RGB:
    return np.round(255 * (tiles / 255.0) ** 2.5).astype(np.uint8)


def brown(tiles: RGB) -> RGB:
    hed = rgb2hed(tiles)
    hed[..., 2], hed[..., 1] = hed[..., 1] * 1.5, 0
    return np.round(255 * hed2rgb(hed)).astype(np.uint8)


def glass(tiles: RGB) -> RGB:
    rng = np.random.default_rng(0)
    return np.round(243 + rng.normal(0, 2, tiles.shape)).clip(0, 255).astype(np.uint8)


PLANTED: dict[str, Callable[[RGB], RGB]] = {
    "blur": blurred,
    "pen ink": inked,
    "fold": folded,
    "stain shift": brown,
    "blank glass": glass,
}


@pytest.mark.parametrize("cause", PLANTED)
def test_a_planted_change_is_named_and_its_number_lies_outside(
    cause: str, judge: Callable[..., Cause]
) -> None:
    tiles = PLANTED[cause](drawn(12, seed=2))
    alone = [judge(tile) for tile in tiles]
    assert sum(found.name == cause for found in alone) >= 10
    together = judge(tiles)
    assert together.name == cause and together.share >= 0.8 and together.words
    assert any(evidence.outside for evidence in together.evidence)


def test_ink_of_the_colour_of_nuclei_is_no_fold(judge: Callable[..., Cause]) -> None:
    """Only a little of it shows that it is ink; and a fold alone shows none."""
    inked = folded(USUAL[:40])
    inked[:, :8, :24] = (20, 130, 60)  # 3 of 64 cells: below the limit for tiles without a fold
    alone = USUAL[:40].copy()
    alone[:, :8, :24] = (20, 130, 60)
    inks = [judge(tile).name == "pen ink" for tile in inked]
    folds = [judge(tile).name == "pen ink" for tile in folded(USUAL[:40])]
    assert np.mean(inks) > 0.9 and np.mean(folds) < 0.05
    # Ink as dark as this is as dark as a fold itself: what the rest looks like does not decide.
    assert tile_statistics(alone)[:, STATISTICS.index("ink")].max() < 0.05


def banded(tiles: RGB, angle: float, times: float = 2.0, tint: float = 0.0) -> RGB:
    """Beyond a straight line there is more of the tile, or of it and of another colour."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    beyond = (x * np.cos(angle) + y * np.sin(angle) > 4)[..., None]
    density = -np.log(np.clip(tiles / 255.0, 1 / 255, 1))
    added = (times - 1) * density + tint * np.array([1.0, 0.1, 0.6])
    return np.round(255 * np.exp(-(density + beyond * added))).astype(np.uint8)


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 2 * np.pi), st.floats(2.0, 2.5))
def test_an_edge_of_double_density_is_found_at_any_angle(angle: float, times: float) -> None:
    tiles = (0.4 * USUAL[:8]).astype(np.uint8) + 60  # dark enough all over to be tissue
    assert (straight_edges(tiles).fold < 1.5).all()
    found = straight_edges(banded(tiles, angle, times))
    assert (found.fold > 1.8).all() and (found.ink == 0).all()
    np.testing.assert_allclose(np.median(found.ratio), times, rtol=0.2)
    tinted = straight_edges(banded(tiles, angle, 1.0, tint=1.2))
    assert (tinted.ink > 1.8).all() and (tinted.fold == 0).all()
    assert (straight_edges(banded(tiles, angle, times), least_density=2.0).fold == 0).all()


def test_black_is_ink_only_beside_something_bright() -> None:
    tiles = USUAL[:4].copy()
    assert (black_share(tiles) == 0).all()
    tiles[:, :, :32] = (15, 12, 7)  # warm: nearly half of what little light there is differs
    np.testing.assert_allclose(black_share(tiles), 0.5)
    tiles[:, :, 32:] = (60, 50, 70)
    assert (black_share(tiles) == 0).all()


def test_motion_blur_is_blur_where_the_tile_is_known_to_be_foreign(
    judge: Callable[..., Cause],
) -> None:
    moved = np.stack([ndimage.uniform_filter1d(t, 7, axis=0) for t in drawn(12, seed=11)])
    foreign = Standing(ood=3.0, appearance=3.0, tissue=2.9)
    assert [judge(t, standing=foreign).name for t in moved].count("blur") >= 8
    sharp = [judge(t, standing=foreign).name for t in drawn(12, seed=11)]
    assert sharp.count("blur") == 0


def test_other_tissue_is_told_besides_and_is_no_other_scale_unless_that_is_sure(
    judge: Callable[..., Cause],
) -> None:
    """Structures a little larger: another scale of the same tissue, or other tissue."""
    side = round(1.4 * SIDE)
    tiles = np.stack(
        [
            np.asarray(Image.fromarray(t).resize((side, side), Image.Resampling.BICUBIC))
            for t in drawn(20, seed=12)
        ]
    )[:, :SIDE, :SIDE]
    looks, tissue = Standing(2.0, 2.0, 0.5), Standing(2.0, 1.0, 2.0)
    scaled = [judge(t, standing=looks).name for t in tiles].count("scale mismatch")
    kept = [judge(t, standing=tissue) for t in tiles]
    assert scaled >= 10 and [c.name for c in kept].count("scale mismatch") <= 6
    assert all(c.name == TISSUE or c.also[-1] == TISSUE for c in kept)
    assert TISSUE in judge(brown(tiles), standing=tissue).also
    assert TISSUE not in judge(brown(tiles), standing=looks).also


def test_unchanged_tiles_have_nothing_unusual(judge: Callable[..., Cause]) -> None:
    names = [judge(tile).name for tile in drawn(60, seed=3)]
    assert names.count(NOTHING) >= 57


def test_larger_structures_are_another_scale_and_no_blur(judge: Callable[..., Cause]) -> None:
    sides = [
        np.asarray(Image.fromarray(tile).resize((2 * SIDE, 2 * SIDE), Image.Resampling.BICUBIC))
        for tile in drawn(12, seed=4)
    ]
    found = judge(np.stack(sides)[:, :SIDE, :SIDE])
    assert found.name == "scale mismatch" and "larger" in found.words


def test_what_the_scores_say_decides_where_no_rule_does(judge: Callable[..., Cause]) -> None:
    tiles = drawn(6, seed=5)
    assert judge(tiles, standing=Standing(ood=0.4, tissue=0.4)).name == NOTHING
    assert judge(tiles, standing=Standing(ood=2.0, appearance=0.5, tissue=2.0)).name == TISSUE
    assert judge(tiles, standing=Standing(ood=2.0, appearance=2.0, tissue=0.5)).name == UNKNOWN
    assert judge(tiles, standing=Standing(ood=2.0)).name == UNKNOWN
    # an artefact that no rule knows: tissue is beyond its threshold, appearance far more so
    assert judge(tiles, standing=Standing(ood=9.0, appearance=9.0, tissue=4.0)).name == UNKNOWN
    scores = [e for e in judge(tiles, standing=Standing(2, 0.5, 2)).evidence if "score" in e.what]
    assert [e.outside for e in scores] == [False, True]


def test_half_of_the_tiles_name_a_place_and_fewer_do_not(judge: Callable[..., Cause]) -> None:
    tiles = drawn(10, seed=6)
    for n, named in ((4, NOTHING), (5, "pen ink"), (10, "pen ink")):
        place = np.concatenate([inked(tiles[:n]), tiles[n:]])
        assert judge(place).name == named
    both = inked(folded(tiles))
    assert judge(both).name == "pen ink"  # what hides the tissue comes first


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["noise", "flat", "black", "white"]))
def test_any_pixels_get_a_cause_with_finite_numbers(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    values = {"noise": None, "flat": rng.integers(0, 256, 3), "black": 0, "white": 255}[kind]
    shape = (SIDE, SIDE, 3)
    tile = rng.integers(0, 256, shape) if values is None else np.full(shape, values)
    for statistics in (None, tile_statistics(USUAL)):
        found = probable_cause(tile.astype(np.uint8), statistics, CARD)
        assert found.name in CAUSES and found.words
        assert all(np.isfinite(evidence.value) for evidence in found.evidence)
        assert 0 < found.share <= 1


def test_without_a_word_of_training_fixed_limits_find_what_they_can(tiny_bundle: Bundle) -> None:
    tiles = drawn(5, seed=7)
    found = {change: cause_at(tiny_bundle, PLANTED[change](tiles)) for change in PLANTED}
    assert found["pen ink"].name == "pen ink" and found["blank glass"].name == "blank glass"
    assert found["blur"].name == "blur"
    plain = cause_at(tiny_bundle, tiles)
    assert plain.name == NOTHING and "does not store how its training tiles look" in plain.words
    assert all(e.low is None and e.high is None for e in plain.evidence)


def test_the_rest_of_the_slide_stands_in_for_training(tiny_bundle: Bundle) -> None:
    """Even where a tenth of the slide has the very artefact."""
    slide = drawn(60, seed=8)
    for cause in ("blur", "pen ink", "fold"):
        beside = tile_statistics(np.concatenate([slide, PLANTED[cause](slide[:6])]))
        place = PLANTED[cause](drawn(3, seed=9))
        found = cause_beside(place, beside, CARD)
        assert found.name == cause and "slide's own tiles" in found.words
        assert cause_beside(drawn(3, seed=10), beside, CARD).name == NOTHING


def test_what_are_no_tiles_is_refused() -> None:
    for tiles in (np.zeros((0, 64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)):
        with pytest.raises(ExplainError, match="a cause needs tiles"):
            probable_cause(tiles, None, CARD)
    with pytest.raises(ExplainError, match="8 px or more"):
        probable_cause(np.zeros((4, 4, 3), np.uint8), None, CARD)
    with pytest.raises(ExplainError, match="uint8"):
        probable_cause(np.zeros((64, 64, 3), np.float32), None, CARD)  # type: ignore[arg-type]


def test_real_artefacts_on_the_shipped_bundle(shared_data: Path) -> None:
    """Tiles that nobody planted anything on, and those of the bundle's own validation split."""
    bundle = load_bundle("lymph-node-he")

    def named(pattern: str, n: int) -> list[str]:
        paths = sorted(shared_data.glob(pattern))
        chosen = paths[:: max(1, len(paths) // n)]
        return [cause_at(bundle, np.asarray(Image.open(p).convert("RGB"))).name for p in chosen]

    familiar = named("pcam/valid/**/*.jpg", 40)
    assert len(familiar) >= 40 and familiar.count(NOTHING) >= 0.85 * len(familiar)
    brown = named("ood/ihc-colon/t96/*.jpg", 20)
    assert len(brown) >= 8 and brown.count("stain shift") >= 0.7 * len(brown)
