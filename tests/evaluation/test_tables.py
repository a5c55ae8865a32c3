from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from napari_ood.evaluation.bootstrap import Intervals
from napari_ood.evaluation.foreign import controls, cut, jpeg, read_manifest
from napari_ood.evaluation.handcrafted import colour_texture
from napari_ood.evaluation.quality import id_quality
from napari_ood.evaluation.table import aligned, cross_table, make_row, markdown, set_table


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
    counts = {name: len(found.tiles) for name, found in sets.items()}
    # 192 px at 0.5 are one tile at 1.0, but four without a scale; three kinds of photographs with
    # one image each are too few to stand alone.
    assert sets["photos"].groups == ("0.png", *["1.png"] * 4, "2.png")
    assert counts == {"organ 1.0 µm/px": 12, "organ 0.5 µm/px": 12, "photos": 1 + 4 + 1}


def test_jpeg_is_quality_75_with_halved_chroma():
    tile = smooth(96, 96)
    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, "JPEG", quality=75, subsampling=2)
    np.testing.assert_array_equal(jpeg(tile[None])[0], np.asarray(Image.open(buffer)))


def test_controls_change_tiles_but_not_much_and_repeatably():
    tiles = np.stack([smooth(96, 96, i) for i in range(4)])
    changed = controls(tiles, seed=1)
    for name, found in changed.items():
        difference = np.abs(found.astype(float) - tiles).mean()
        assert found.shape == tiles.shape
        assert 0 < difference < 40, name
    again, other = controls(tiles, seed=1), controls(tiles, seed=2)
    jitter = "stain jitter ±25 %"
    np.testing.assert_array_equal(again[jitter], changed[jitter])
    assert (other[jitter] != changed[jitter]).any()


def test_controls_do_what_their_names_say(
    monkeypatch: pytest.MonkeyPatch,
):
    grey = np.full((2, 96, 96, 3), 100, np.uint8)
    grey[:, :, 48:] = 150
    plain = controls(grey)["compressed again (q75)"].astype(float)
    changed = {name: found.astype(float) for name, found in controls(grey).items()}
    for gamma in (0.8, 1.25):
        for column, value in ((20, 100), (76, 150)):
            expected = 255 * (value / 255) ** gamma
            assert changed[f"gamma {gamma}"][:, :, column].mean() == pytest.approx(expected, abs=1)
    # Unsharp mask: the step overshoots on both sides of the edge, and flat parts stay.
    sharp = changed["sharpened (radius 2 px, 100 %)"]
    assert sharp[0, :, 47].mean() < 85
    assert sharp[0, :, 48].mean() > 165
    assert sharp[:, :, :24].mean() == pytest.approx(100, abs=1)
    light = changed["uneven light (± 15 %)"]
    assert light[:, :, :8].mean() == pytest.approx(115 * 0.98, abs=2)
    assert light[:, :, -8:].mean() == pytest.approx(150 * 0.86, abs=2)
    fringe = changed["colour fringes (1 px)"][:, :, 46:50].mean(axis=(0, 1))
    assert fringe[1, 0] > fringe[1, 2] + 5, "left of the edge red is ahead of blue"
    assert np.abs(fringe.mean(axis=0) - 125).max() < 15
    # Quality 75 takes much of it away, and half of the chroma's: what is left is still noise.
    noise = changed["noise (σ 6)"] - plain
    assert 1 < noise.std() < 6
    assert abs(noise.mean()) < 0.5
    assert (noise[0] != noise[1]).any()
    monkeypatch.setattr("PIL.features.check", lambda name: False)
    assert set(changed) - set(controls(grey)) <= {"WebP (q50)"}
    assert "WebP (q50)" not in controls(grey)


@pytest.mark.skipif(not features.check("webp"), reason="this Pillow has no WebP")
def test_webp_is_a_codec_of_its_own():
    tiles = smooth(96, 96)[None]
    found = controls(tiles)
    assert (found["WebP (q50)"] != found["compressed again (q75)"]).any()
    assert np.abs(found["WebP (q50)"].astype(float) - tiles).mean() < 15


def test_controls_scale_about_the_centre():
    # A disc of 40 px: its area grows by 1.2², shrinks by 0.83², and its centre stays.
    y, x = np.mgrid[:96, :96] - 47.5
    disc = np.where((np.hypot(y, x) < 20)[..., None], 60, 200).astype(np.uint8)
    changed = controls(np.repeat(disc, 3, axis=2)[None])
    for name, factor in (("magnified 1.2 ×", 1.2), ("shrunk 0.83 × (edges mirrored)", 80 / 96)):
        dark = changed[name][0].mean(axis=2) < 130
        assert dark.sum() == pytest.approx(np.pi * (20 * factor) ** 2, rel=0.05)
        assert np.abs(np.argwhere(dark).mean(axis=0) - 47.5).max() < 0.6


def test_handmade_statistics_tell_colour_and_texture_apart():
    plain, fine = np.full((1, 96, 96, 3), 180, np.uint8), smooth(96, 96)[None]
    rows = colour_texture(np.concatenate([plain, fine, 255 - fine, plain]))
    assert np.isfinite(rows).all()
    np.testing.assert_array_equal(rows[0], rows[3])
    assert np.abs(rows[1] - rows[0]).max() > 0.05
    assert np.abs(rows[1] - rows[2]).max() > 0.05


def test_tables_show_values_intervals_and_what_is_not_defined():
    intervals = Intervals((0.9, 1.0), (0.0, 0.25))
    inside = np.arange(100.0)
    rows = [
        make_row("far", "a", inside, inside + 200, intervals),
        make_row("far", "b", inside, [np.nan, 1.0], intervals),
        make_row("same", "a", inside, inside),
        make_row("same", "b", inside, inside),
    ]
    assert rows[1].auroc is rows[1].auroc_ci is rows[1].fpr95 is None
    assert rows[0].as_json()["auroc_ci"] == [0.9, 1.0]
    table = set_table(rows, "a", {"far": 1.0})
    assert table[1] == ("far", "100", "1.000 (0.900–1.000)", "0.000 (0.000–0.250)", "100.0 %")
    assert table[2] == ("same", "100", "0.500", "0.950", "–")
    assert set_table(rows, "b", {})[1][1:] == ("2", "–", "–", "–")
    assert len({len(line) for line in aligned(table)}) == 1
    assert cross_table(rows, "auroc") == [
        ("AUROC", "far", "same"),
        ("`a`", "**1.000**", "**0.500**"),
        ("`b`", "–", "**0.500**"),
    ]
    assert cross_table(rows, "fpr95")[1] == ("`a`", "**0.000**", "**0.950**")
    assert markdown(table).splitlines()[1] == "|---|---:|---:|---:|---:|"


def test_quality_in_distribution_follows_from_the_probabilities():
    logits = np.log(np.array([[[0.9, 0.1]], [[0.4, 0.6]], [[0.8, 0.2]], [[0.3, 0.7]], [[1, 1]]]))
    labels = np.array([0, 0, 0, 1, -1])
    scores = {"good": np.float32([1, 9, 2, 3, 0]), "nan": np.float32([np.nan, 1, 2, 3, 4])}
    quality = id_quality(logits.astype(np.float32), labels, scores, 1.0)
    assert (quality.n, quality.n_labelled, quality.accuracy, quality.auroc) == (5, 4, 0.75, 1.0)
    assert quality.nll == pytest.approx(-np.log([0.9, 0.4, 0.8, 0.7]).mean(), rel=1e-4)
    # One error of four, and it has the highest score: ½ · (1/4)².
    assert quality.as_json()["augrc"] == {"good": pytest.approx(1 / 32), "nan": None}
    assert quality.error_auroc == {"good": 1.0, "nan": None}
    assert quality.aurc["good"] == pytest.approx(1 / 16)
    nothing = id_quality(logits.astype(np.float32), np.full(5, -1), scores, 1.0).as_json()
    assert nothing.pop("n") == 5
    assert nothing.pop("aurc") == nothing.pop("augrc") == {"good": None, "nan": None}
    assert set(nothing.values()) == {None}
