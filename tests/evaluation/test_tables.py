from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_ood.evaluation.foreign import controls, cut, jpeg, read_manifest
from napari_ood.evaluation.handcrafted import colour_texture
from napari_ood.evaluation.table import Outputs, compare, id_metrics, markdown, ood_rows, summary
from napari_ood.models import Bundle


def smooth(h: int, w: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 230, (h // 8 + 1, w // 8 + 1, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((w, h), Image.Resampling.BICUBIC))


def test_cuts_lie_on_the_codecs_blocks_and_are_untouched():
    pixels = smooth(224, 224)
    tiles = cut(Image.fromarray(pixels), 96)
    assert tiles.shape == (4, 96, 96, 3)
    np.testing.assert_array_equal(tiles[0], pixels[16:112, 16:112])
    np.testing.assert_array_equal(tiles[3], pixels[112:208, 112:208])
    whole = cut(Image.fromarray(pixels[:96, :96]), 96)
    np.testing.assert_array_equal(whole, pixels[None, :96, :96])


def test_scaled_and_small_images_become_one_recompressed_tile():
    pixels = smooth(224, 224)
    halved = cut(Image.fromarray(pixels), 96, scale=0.5134)
    assert halved.shape == (1, 96, 96, 3)
    side = round(224 * 0.5134)
    shrunk = np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BOX))
    start = (side - 96) // 2
    expected = jpeg(shrunk[None, start : start + 96, start : start + 96])
    np.testing.assert_array_equal(halved, expected)
    assert cut(Image.fromarray(smooth(40, 300)), 96).shape == (2, 96, 96, 3)


def test_the_manifest_is_grouped_and_brought_to_scale(tmp_path: Path):
    lines = ["path,set,kind,px,mpp"]
    for i in range(24):
        mpp, side = ("0.5", 192) if i % 2 else ("1.0", 96)
        Image.fromarray(smooth(side, side, i)).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,organ,near:H&E other,{side},{mpp}")
    for i in range(3):
        lines.append(f"{i}.png,photos,far:kind{i},96,")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    sets = read_manifest(tmp_path / "manifest.csv", 96, 1.0)
    counts = {name: len(tiles) for name, tiles in sets.items()}
    # 192 px at 0.5 are one tile at 1.0, but four without a scale; three kinds of photographs with
    # one image each are too few to stand alone.
    assert counts == {"organ 1.0 µm/px": 12, "organ 0.5 µm/px": 12, "photos": 1 + 4 + 1}


def test_jpeg_is_quality_75_with_halved_chroma():
    tile = smooth(96, 96)
    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, "JPEG", quality=75, subsampling=2)
    np.testing.assert_array_equal(jpeg(tile[None])[0], np.asarray(Image.open(buffer)))


def test_controls_change_tiles_but_not_much():
    tiles = np.stack([smooth(96, 96, i) for i in range(4)])
    for name, changed in controls(tiles).items():
        difference = np.abs(changed.astype(float) - tiles).mean()
        assert changed.shape == tiles.shape
        assert 0 < difference < 40, name


def test_handmade_statistics_tell_colour_and_texture_apart():
    plain, fine = np.full((1, 96, 96, 3), 180, np.uint8), smooth(96, 96)[None]
    rows = colour_texture(np.concatenate([plain, fine, 255 - fine, plain]))
    assert np.isfinite(rows).all()
    np.testing.assert_array_equal(rows[0], rows[3])
    assert np.abs(rows[1] - rows[0]).max() > 0.05
    assert np.abs(rows[1] - rows[2]).max() > 0.05


def test_rows_compare_the_reference_scores_of_both_groups(tiny_bundle: Bundle):
    reference = tiny_bundle.require_reference()
    inside = Outputs(reference.validation_logits, reference.validation_features)
    far = Outputs(inside.logits, inside.features + 100)
    rows = ood_rows(reference, inside, {"far": far, "same": inside}, ["entropy", "mahalanobis"])
    found = {(row.score, row.set): row for row in rows}
    assert found["mahalanobis", "far"].auroc == 1.0
    assert found["mahalanobis", "far"].fpr95 == 0.0
    assert found["mahalanobis", "same"].auroc == pytest.approx(0.5)
    assert found["entropy", "far"].auroc == pytest.approx(0.5)
    text = markdown(rows, "auroc").splitlines()
    assert text[0] == "| AUROC | `entropy` | `mahalanobis` |"
    assert text[2:] == ["| far | 0.500 | **1.000** |", "| same | **0.500** | **0.500** |"]
    kept = markdown(rows, "fpr95").splitlines()
    assert kept[2] == "| far | 0.960 | **0.000** |"
    short = summary(rows, "mahalanobis", "entropy", {"far": 1.0, "same": 0.06}).splitlines()
    assert short[2].startswith("| far | 50 | 1.000 (1.000–1.000) | 0.000 | 100.0% | 0.500 |")


def test_quality_in_distribution_follows_from_the_probabilities():
    logits = np.log(np.array([[[0.9, 0.1]], [[0.4, 0.6]], [[0.8, 0.2]], [[0.3, 0.7]]]))
    labels = np.array([0, 0, 0, 1])
    quality = id_metrics(logits.astype(np.float32), labels, 1.0)
    assert quality["accuracy"] == 0.75
    assert quality["auroc"] == 1.0
    expected = -np.log([0.9, 0.4, 0.8, 0.7]).mean()
    assert quality["nll"] == pytest.approx(expected, rel=1e-4)
    assert compare("x", "y", np.zeros(3), np.ones(4)).n_ood == 4
