from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.color import hed2rgb

from napari_ood.explain.causes import cause_at
from napari_ood.inference import run_slide
from napari_ood.passport import Light, Passport, make_passport, sample_tiles
from napari_ood.passport.look_checks import blur_limit, blurred, fold_limit, folded, inked
from napari_ood.slides import open_slide
from napari_ood.slides.appearance import tile_statistics

if TYPE_CHECKING:
    from napari_ood.models import Bundle

RGB = NDArray[np.uint8]
SIDE, TILE = 1024, 96


def tissue(amount: float = 1.0, seed: int = 0, side: int = SIDE) -> RGB:
    """Eosin with nuclei of haematoxylin, over the whole picture."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(side, side)), 2)
    nuclei = np.clip(noise / noise.std() - 0.5, 0, 1.5)
    hed = np.stack([0.03 + 0.08 * nuclei, np.full_like(nuclei, 0.07), 0 * nuclei], axis=-1)
    return np.round(255 * hed2rgb(hed * amount)).astype(np.uint8)


def passport_of(
    tmp_path: Path, pixels: RGB, mpp: float | None = 1.0, bundle: Any = None
) -> Passport:
    path = tmp_path / "drawn.png"
    Image.fromarray(pixels).save(path)
    with open_slide(path, mpp) as slide:
        return make_passport(slide, bundle, seconds=60)


def light(passport: Passport, key: str) -> Light:
    check = passport.check(key)
    assert check is not None
    return check.light


def with_statistics(bundle: Bundle, pixels: RGB) -> Any:
    """The bundle as if it had been trained on tiles of this picture."""
    t = bundle.card.tile_size
    n = len(pixels) // t * t
    tiles = pixels[:n, :n].reshape(n // t, t, n // t, t, 3).swapaxes(1, 2).reshape(-1, t, t, 3)
    reference = SimpleNamespace(statistics=tile_statistics(tiles))
    return SimpleNamespace(card=bundle.card, reference=reference)


@pytest.mark.parametrize(
    ("mpp", "expected"),
    [(1.0, "green"), (0.25, "green"), (1.3, "yellow"), (2.0, "red"), (40.0, "red"), (None, "red")],
)
def test_scale_against_the_bundle(
    tmp_path: Path, tiny_bundle: Bundle, mpp: float | None, expected: str
) -> None:
    passport = passport_of(tmp_path, tissue(side=256), mpp, tiny_bundle)
    assert light(passport, "mpp") == expected
    assert (light(passport, "mpp") is Light.RED) == (passport.light() is Light.RED)


def test_nothing_is_known_without_bundle_and_mpp(tmp_path: Path) -> None:
    passport = passport_of(tmp_path, tissue(), None)
    for key in ("mpp", "scanner", "objective", "stain"):
        assert light(passport, key) is Light.GREY
    assert "stain" in passport.words() and passport.light() is Light.GREEN


def blur(pixels: RGB, part: tuple[slice, slice]) -> None:
    pixels[part] = ndimage.gaussian_filter(pixels, (4, 4, 0))[part]


def ink(pixels: RGB, part: tuple[slice, slice]) -> None:
    pixels[part] = (0.3 * pixels[part] + 0.7 * np.array([30, 120, 90])).astype(np.uint8)


def fold(pixels: RGB, part: tuple[slice, slice]) -> None:
    pixels[part] = np.round(255 * (pixels[part] / 255.0) ** 2.5).astype(np.uint8)


@pytest.mark.parametrize(
    ("key", "plant", "cause"),
    [("focus", blur, "blur"), ("pen", ink, "pen ink"), ("fold", fold, "fold")],
)
def test_a_planted_defect_turns_its_own_light(
    tmp_path: Path, tiny_bundle: Bundle, key: str, plant: Any, cause: str
) -> None:
    clean = passport_of(tmp_path, tissue())
    assert [light(clean, k) for k in ("focus", "pen", "fold")] == ["green"] * 3
    pixels = tissue()
    plant(pixels, (slice(96, 480), slice(96, 480)))  # 16 of 100 tiles
    found = passport_of(tmp_path, pixels)
    lights = {k: light(found, k) for k in ("focus", "pen", "fold")}
    assert lights == {k: "yellow" if k == key else "green" for k in lights}
    with open_slide(tmp_path / "drawn.png", 1.0) as slide:
        slides = sample_tiles(slide).statistics
    # without statistics of training tiles, the slide itself says what is usual
    place, elsewhere = pixels[192:288, 192:288], pixels[576:672, 576:672]
    assert cause_at(tiny_bundle, place, beside=slides).name == cause
    assert cause_at(tiny_bundle, elsewhere, beside=slides).name == "nothing unusual"


def test_stain_is_compared_with_the_reference(tmp_path: Path, tiny_bundle: Bundle) -> None:
    bundle = with_statistics(tiny_bundle, tissue(seed=1))
    same = passport_of(tmp_path, tissue(seed=2), bundle=bundle).check("stain")
    assert same is not None and same.light is Light.GREEN
    outside = [float(v) for k, v in same.numbers.items() if k.startswith("outside_")]
    assert len(outside) == 7 and max(outside) < 0.15
    paler = passport_of(tmp_path, tissue(0.5, seed=2), bundle=bundle).check("stain")
    assert paler is not None and paler.light is Light.RED
    assert float(paler.numbers["outside_density_mean"]) > 0.9


def test_blur_of_the_whole_slide_needs_a_reference(tmp_path: Path, tiny_bundle: Bundle) -> None:
    pixels = tissue(seed=2)
    blur(pixels, (slice(None), slice(None)))
    assert light(passport_of(tmp_path, pixels, bundle=tiny_bundle), "focus") is Light.GREEN
    bundle = with_statistics(tiny_bundle, tissue(seed=1))
    assert light(passport_of(tmp_path, pixels, bundle=bundle), "focus") is Light.RED


def test_glass_has_no_tissue(tmp_path: Path) -> None:
    passport = passport_of(tmp_path, np.full((512, 512, 3), 243, np.uint8))
    assert light(passport, "tissue") is Light.RED
    assert light(passport, "focus") is Light.GREY


def test_tissue_area(tmp_path: Path) -> None:
    pixels = np.full((SIDE, SIDE, 3), 243, np.uint8)
    pixels[:512, :512] = tissue(side=512)
    check = passport_of(tmp_path, pixels, 2.0).check("tissue")
    assert check is not None
    assert float(check.numbers["area_mm2"]) == pytest.approx(1.024**2, rel=0.05)


def test_after_a_run(tmp_path: Path, tiny_bundle: Bundle) -> None:
    path = tmp_path / "drawn.png"
    Image.fromarray(tissue(side=256)).save(path)
    with open_slide(path, 1.0) as slide:
        run = run_slide(slide, tiny_bundle, tmp_path / "drawn.ood.zarr", device="cpu")
        passport = make_passport(slide, None, run)
        foreign = passport.check("ood")
        assert foreign is not None and light(passport, "run") is Light.GREEN
        limit = tiny_bundle.require_reference().quantile("mahalanobis@layer1", 0.95)
        share = float((run.score("ood") > limit).mean())
        assert foreign.numbers["share"] == pytest.approx(share)
    without = make_passport(None, None, run)
    assert light(without, "mpp") is Light.GREEN and light(without, "focus") is Light.GREY
    other = tmp_path / "other.png"
    Image.fromarray(tissue(seed=9, side=256)).save(other)
    with open_slide(other, 1.0) as slide:
        assert light(make_passport(slide, None, run), "run") is Light.RED


def test_json(tmp_path: Path, tiny_bundle: Bundle) -> None:
    passport = passport_of(tmp_path, tissue(side=256), 1.3, tiny_bundle)
    again = Passport.from_dict(json.loads(json.dumps(passport.as_dict())))
    assert again == passport


def test_whole_image(tmp_path: Path, image_bundle: Bundle) -> None:
    passport = passport_of(tmp_path, tissue(side=200), None, image_bundle)
    assert light(passport, "mpp") is Light.GREEN
    assert passport.check("pen") is None  # ink on skin is no stain's colour either
    bundle = with_statistics(image_bundle, tissue(seed=1))
    paler = passport_of(tmp_path, tissue(0.3, side=200), None, bundle)
    assert light(paler, "stain") is Light.YELLOW  # one image is no reason for red


def test_hints_against_the_truth(procedural_slide: Path) -> None:
    """On a drawn slide that no limit was set on: most of what was planted, little else."""
    from napari_ood.samples import load_truth

    truth = load_truth(procedural_slide)
    with open_slide(procedural_slide) as slide:
        sample = sample_tiles(slide, seconds=60)
    share = truth.foreign_share(sample.boxes)
    clean = np.sum(list(share.values()), axis=0) == 0
    found = {
        "pen": inked(sample),
        "blur": blurred(sample, blur_limit(sample, None)),
        "fold": folded(sample, fold_limit(sample)),
    }
    for kind, hint in found.items():
        assert hint[clean].mean() <= 0.05, kind
    planted = {kind: share[kind] >= 0.5 for kind in found}
    assert planted["pen"].sum() >= 5
    assert found["pen"][planted["pen"]].mean() >= 0.7


def test_a_real_slide(shared_data: Path, tiny_bundle: Bundle) -> None:
    path = shared_data / "slides" / "aperio_cmu_small" / "CMU-1-Small-Region.svs"
    with open_slide(path) as slide:
        passport = make_passport(slide, tiny_bundle, seconds=60)
    tissue_check = passport.check("tissue")
    assert tissue_check is not None
    assert float(tissue_check.numbers["area_mm2"]) == pytest.approx(0.65, abs=0.1)
    assert [light(passport, k) for k in ("mpp", "objective", "focus", "fold")] == ["green"] * 4
    scanner = passport.check("scanner")
    assert scanner is not None and scanner.value == "Aperio CPAPERIOCS"
