"""The procedural drawing: reproducible, seamless, coloured like H&E, foreign where it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_ood.samples.anatomy import CELL, Part
from napari_ood.samples.foreign import Foreign
from napari_ood.samples.noise import enlarge, texture, wrapped
from napari_ood.samples.render import Renderer
from napari_ood.samples.section import Section, describe
from napari_ood.samples.slide_file import draw

SIZE = 1536


@pytest.fixture(scope="module")
def section() -> Section:
    return describe(SIZE, 11, foreign=True)


@pytest.fixture(scope="module")
def pixels(section: Section) -> np.ndarray:
    return draw(section)


def density(pixels: np.ndarray) -> np.ndarray:
    return -np.log(np.maximum(pixels.astype(np.float32), 1) / 244)


def where(section: Section, mask: np.ndarray) -> np.ndarray:
    """Level-0 mask of coarse cells, without those at the rim."""
    return np.kron(ndimage.binary_erosion(mask, iterations=2), np.ones((CELL, CELL), bool))


@pytest.fixture(scope="module")
def plain() -> Section:
    return describe(1024, 5, foreign=False)


def test_same_seed_same_pixels_other_seed_other_pixels(plain: Section) -> None:
    box = (200, 300, 200, 240)
    first = Renderer(plain).box(*box)
    np.testing.assert_array_equal(first, Renderer(describe(1024, 5, False)).box(*box))
    assert (first != Renderer(describe(1024, 6, False)).box(*box)).mean() > 0.5


def test_a_box_does_not_depend_on_how_the_slide_is_cut(
    section: Section, pixels: np.ndarray
) -> None:
    renderer = Renderer(section)
    rng = np.random.default_rng(0)
    for _ in range(8):
        y, x = rng.integers(0, SIZE - 200, 2)
        h, w = rng.integers(20, 200, 2)
        box = renderer.box(int(y), int(x), int(h), int(w)).astype(int)
        # sums in blurs may round differently by one grey value
        assert np.abs(box - pixels[y : y + h, x : x + w]).max() <= 1


def test_glass_is_bright_and_even(section: Section, pixels: np.ndarray) -> None:
    empty = (section.anatomy.inside < -80) & (section.planted.label == 0)
    glass = pixels[where(section, empty)]
    assert len(glass) > 10_000
    assert glass.mean() > 236
    assert glass.std(axis=0).max() < 4


def test_colours_lie_in_the_plane_of_two_stains(section: Section, pixels: np.ndarray) -> None:
    plain = section.planted.label == 0
    mucosa_and_stroma = plain & (section.tissue > 0)
    od = density(pixels[where(section, mucosa_and_stroma)])
    od = od[(od.sum(axis=1) > 0.3)]
    spread = np.linalg.svd(od - od.mean(axis=0), compute_uv=False)
    # two stains and a little blood: almost nothing is left for a third direction
    assert spread[2] ** 2 / (spread**2).sum() < 0.02
    stroma = density(pixels[where(section, plain & (section.tissue == 1))]).mean(axis=0)
    lymphoid = density(pixels[where(section, plain & (section.tissue == 3))]).mean(axis=0)
    # eosin takes green and little red; haematoxylin takes red as well
    assert stroma[1] > 2.5 * stroma[0]
    assert lymphoid[0] > 0.55 * lymphoid[1]
    assert lymphoid.sum() > 1.5 * stroma.sum()


def test_every_kind_is_planted_on_tissue(section: Section) -> None:
    label, inside = section.planted.label, section.anatomy.inside > 0
    for kind in Foreign:
        assert (label == kind).sum() > 60, kind.name
        assert kind is Foreign.NONE or ((label == kind) & inside).any()
    only_pen = set(np.unique(label[~inside])) <= {Foreign.NONE, Foreign.PEN}
    assert only_pen
    assert (label[~inside] == Foreign.PEN).any()


def test_planted_regions_look_as_their_kind_does(section: Section, pixels: np.ndarray) -> None:
    od = density(pixels)
    label, part = section.planted.label, section.anatomy.part
    green = pixels[..., 1].astype(np.float32)
    detail = np.abs(green - ndimage.gaussian_filter(green, 1.5))
    pen, fold = (where(section, label == k) for k in (Foreign.PEN, Foreign.FOLD))
    plain = where(section, (label == 0) & (section.tissue > 0))
    strongly_blurred = where(section, section.planted.blur > 0.9)
    ihc = where(section, label == Foreign.IHC)
    # ink takes more red than green in green and blue, and all in black: stains of tissue never do
    assert (od[pen][:, 0] > od[pen][:, 1] * 0.9).mean() > 0.6
    assert (od[plain][:, 0] > od[plain][:, 1] * 0.9).mean() < 0.2
    assert od[fold].sum(axis=1).mean() > 1.5 * od[plain].sum(axis=1).mean()
    assert detail[strongly_blurred].mean() < 0.4 * detail[plain].mean()
    brown = od[ihc][od[ihc].sum(axis=1) > 1.2]
    assert (brown[:, 2] > brown[:, 1]).mean() > 0.5
    assert (od[plain][:, 2] > od[plain][:, 1]).mean() < 0.05
    nest = part == Part.SQUAMOUS
    assert (label[nest & (label != Foreign.PEN)] == Foreign.UNKNOWN).all()
    assert (section.tissue[nest] == 0).all()


def test_without_foreign_regions_nothing_is_planted(plain: Section) -> None:
    assert not plain.planted.label.any()
    assert not (plain.anatomy.part == Part.SQUAMOUS).any()
    assert set(np.unique(plain.tissue)) == {0, 1, 2, 3}


@settings(max_examples=30, deadline=None)
@given(y=st.integers(-50, 300), x=st.integers(-50, 300), h=st.integers(1, 60), w=st.integers(1, 60))
def test_fields_and_textures_do_not_depend_on_the_box(y: int, x: int, h: int, w: int) -> None:
    rng = np.random.default_rng(3)
    field = rng.standard_normal((30, 31)).astype(np.float32)
    whole = enlarge(field, CELL, -60, -60, 450, 450)
    part = enlarge(field, CELL, y, x, h, w)
    expected = whole[y + 60 : y + 60 + h, x + 60 : x + 60 + w]
    np.testing.assert_allclose(part, expected, atol=1e-5)
    tile = texture(rng, 64, (3.0, 5.0))
    window = wrapped(tile, y, x, h, w)
    np.testing.assert_array_equal(window, wrapped(tile, y + 64, x - 128, h, w))
