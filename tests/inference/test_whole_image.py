"""Bundles that judge an image as a whole: one tile, whatever the size, scale and glass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from napari_ood import Bundle, Slide, SlideError, open_run, open_slide, run_slide
from napari_ood.inference import check_slide, plan_grid, plan_run
from napari_ood.inference.blocks import TileReader
from napari_ood.inference.order import WorkQueue
from napari_ood.inference.store import shards
from napari_ood.slides.grid import Region
from napari_ood.slides.resample import SlideView

SIZE = (3000, 2000)  # width, height
TILE = 32


def photograph(seed: int = 0) -> Image.Image:
    """A smooth image with edges and grain, 3000 × 2000 px, as a camera makes it."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(40, 230, (20, 30, 3), np.uint8))
    smooth = np.asarray(coarse.resize(SIZE, Image.Resampling.BICUBIC), np.float32)
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    smooth[(x - 1300) ** 2 / 4 + (y - 900) ** 2 < 350**2] *= 0.5  # a dark lesion with an edge
    smooth += 8 * rng.standard_normal(smooth.shape, np.float32)
    return Image.fromarray(smooth.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def photo_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "lesion.jpg"
    photograph().filter(ImageFilter.GaussianBlur(1)).save(path, quality=92)
    return path


@pytest.fixture(scope="module")
def photo(photo_path: Path) -> Slide:
    return open_slide(photo_path)


def the_tile(slide: Slide, bundle: Bundle, region: Region | None = None) -> np.ndarray:
    plan = plan_run(slide, bundle, region)
    (shard,) = shards(plan.tissue.shape, plan.shard)
    piece = WorkQueue(plan, [shard], batch_size=32).take()
    assert piece is not None
    (tile,) = TileReader(slide, plan).read(piece).tiles
    return tile.astype(np.float32)


def test_an_image_is_one_tile_squeezed_to_a_square(photo: Slide, image_bundle: Bundle) -> None:
    grid = plan_grid(photo, image_bundle)
    assert (grid.rows, grid.cols) == (1, 1)
    assert grid.step == (2000 / TILE, 3000 / TILE)
    np.testing.assert_allclose(grid.boxes(), [[0, 0, 2000, 3000]])
    assert not grid.partial().any()


def test_the_network_sees_what_pil_makes_of_the_jpeg(
    photo: Slide, photo_path: Path, image_bundle: Bundle
) -> None:
    with Image.open(photo_path) as image:
        box = image.resize((TILE, TILE), Image.Resampling.BOX)
    tile = the_tile(photo, image_bundle)
    assert np.abs(tile - np.asarray(box, np.float32)).mean() < 0.6
    assert np.abs(tile - np.asarray(box, np.float32)).max() <= 4


@pytest.mark.parametrize("side", [160, 224, 256])
def test_other_sides_than_whole_multiples_are_as_good(
    photo: Slide, photo_path: Path, side: int
) -> None:
    with Image.open(photo_path) as image:
        box = np.asarray(image.resize((side, side), Image.Resampling.BOX), np.float32)
        near = np.asarray(image.resize((side, side), Image.Resampling.NEAREST), np.float32)
    seen = SlideView(photo, (2000 / side, 3000 / side)).read(0, 0, side, side).astype(np.float32)
    assert np.abs(seen - box).mean() < 0.6, "PIL's box takes whole pixels, ours shares of them"
    assert np.abs(near - box).mean() > 4 * np.abs(seen - box).mean(), "the test can tell filters"


def test_a_region_is_an_image_of_its_own(
    photo: Slide, photo_path: Path, image_bundle: Bundle
) -> None:
    region = (400.0, 500.0, 1024.0, 1600.0)
    with Image.open(photo_path) as image:
        part = image.crop((500, 400, 2100, 1424)).resize((TILE, TILE), Image.Resampling.BOX)
    tile = the_tile(photo, image_bundle, region)
    assert np.abs(tile - np.asarray(part, np.float32)).max() <= 1  # 32 and 50 px per px: exact


@settings(max_examples=60, deadline=None)
@given(
    y=st.floats(-500, 1990),
    x=st.floats(-500, 2990),
    h=st.floats(12, 4000),
    w=st.floats(12, 4000),
)
def test_any_region_is_covered_by_exactly_one_tile(
    photo: Slide, image_bundle: Bundle, y: float, x: float, h: float, w: float
) -> None:
    top, left = max(y, 0.0), max(x, 0.0)
    bottom, right = min(y + h, 2000.0), min(x + w, 3000.0)
    if bottom - top < 2 or right - left < 2:
        with pytest.raises(SlideError):
            plan_grid(photo, image_bundle, (y, x, h, w))
        return
    grid = plan_grid(photo, image_bundle, (y, x, h, w))
    assert (grid.rows, grid.cols) == (1, 1)
    np.testing.assert_allclose(grid.boxes(), [[top, left, bottom - top, right - left]])
    assert not grid.partial().any()


def test_white_is_no_glass_on_a_photograph(tmp_path: Path, image_bundle: Bundle) -> None:
    path = tmp_path / "white.png"
    Image.new("RGB", (300, 200), "white").save(path)
    with open_slide(path) as slide:
        assert plan_run(slide, image_bundle, tissue=True).tissue.all()


def test_the_scale_does_not_matter(photo_path: Path, image_bundle: Bundle) -> None:
    plain, scaled = open_slide(photo_path), open_slide(photo_path, mpp=0.25)
    assert check_slide(plain, image_bundle.card) is None
    assert check_slide(scaled, image_bundle.card) is None
    assert plan_grid(scaled, image_bundle) == plan_grid(plain, image_bundle)


def test_what_does_not_suit_is_said(
    tmp_path: Path, slide: Slide, photo: Slide, image_bundle: Bundle
) -> None:
    Image.new("RGB", (40, 20)).save(tmp_path / "stamp.png")
    with open_slide(tmp_path / "stamp.png") as stamp:
        assert "enlarged" in str(check_slide(stamp, image_bundle.card))
    with pytest.raises(SlideError, match="--region"):
        plan_grid(photo, image_bundle, stride=8)
    with pytest.raises(SlideError, match="choose a larger one"):
        plan_grid(photo, image_bundle, (0, 0, 1, 500))


def test_a_run_holds_one_tile_and_is_found_again(
    tmp_path: Path, photo: Slide, image_bundle: Bundle
) -> None:
    out = tmp_path / "lesion.ood.zarr"
    run = run_slide(photo, image_bundle, out, device="cpu")
    assert run.complete and run.n_tiles == 1
    p = run.probabilities()
    assert p.shape == (1, 3)
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-5)
    again = run_slide(photo, image_bundle, out, device="cpu", tissue=False)
    assert len(again.provenance["sessions"]) == 1, "the tissue setting makes no other run of it"
    assert open_run(out).score("entropy").shape == (1,)


def test_real_dermoscopic_images_in_full_resolution(
    shared_data: Path, tmp_path: Path, image_bundle: Bundle
) -> None:
    paths = sorted((shared_data / "dermoscopy-fullres").glob("*.jpg"))
    if not paths:
        pytest.skip("no dermoscopic images at hand")
    for path in paths[:2]:
        with open_slide(path) as slide, Image.open(path) as image:
            box = np.asarray(image.resize((TILE, TILE), Image.Resampling.BOX), np.float32)
            assert np.abs(the_tile(slide, image_bundle) - box).mean() < 0.6
            run = run_slide(slide, image_bundle, tmp_path / path.stem, device="cpu")
            assert run.n_tiles == 1 and np.isfinite(run.score("mahalanobis@layer1")).all()
