"""The procedural slide on disk: pyramid, scale, truth, cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_ood import OodError, SlideError, open_slide
from napari_ood.samples import (
    Truth,
    load_truth,
    slide_file,
    synthetic_slide,
    truth_path,
    write_synthetic_slide,
)


def test_the_pyramid_opens_at_its_scale(procedural_slide: Path) -> None:
    with open_slide(procedural_slide) as slide:
        assert slide.mpp == (0.5, 0.5)
        assert slide.name == "procedural"
        assert slide.downsamples == ((1.0, 1.0), (2.0, 2.0))
        assert slide.n_native == 2
        assert slide.levels[0].shape == (2048, 2048, 3)
        assert not slide.warnings
        fine = slide.read(0, 500, 600, 512, 512).astype(np.float32)
        coarse = slide.read(1, 250, 300, 256, 256).astype(np.float32)
    halved = fine.reshape(256, 2, 256, 2, 3).mean(axis=(1, 3))
    assert np.abs(halved - coarse).mean() < 6  # each level is JPEG on its own
    assert fine.std() > 20
    assert procedural_slide.stat().st_size < 3_000_000


def test_the_truth_lies_on_the_slide(procedural_slide: Path) -> None:
    truth = load_truth(procedural_slide)
    assert truth.mpp == 4.0
    assert truth.downsample == 8
    assert truth.foreign.shape == truth.tissue.shape == (256, 256)
    assert tuple(truth.kinds.values()) == ("pen", "blur", "fold", "ihc", "unknown")
    assert tuple(truth.classes.values()) == ("stroma", "gland", "lymphoid")
    assert set(np.unique(truth.foreign)) == {0, *truth.kinds}
    with open_slide(procedural_slide) as slide:
        pixels = slide.read(0, 0, 0, 2048, 2048)
    small = pixels.reshape(256, 8, 256, 8, 3).mean(axis=(1, 3))
    lymphoid = small[(truth.tissue == 3) & (truth.foreign == 0)]
    nowhere = small[(truth.tissue == 0) & (truth.foreign == 0)]
    assert lymphoid.mean() < 160 < 230 < nowhere.mean()
    assert load_truth(truth_path(procedural_slide)).kinds == truth.kinds


@settings(max_examples=40, deadline=None)
@given(
    y=st.integers(-3, 20), x=st.integers(-3, 20), h=st.integers(1, 9), w=st.integers(1, 9),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_shares_count_cells(y: int, x: int, h: int, w: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 3, (16, 17)).astype(np.uint8)
    truth = Truth(labels, labels, 4.0, 8.0, {1: "one", 2: "two"}, {1: "a"})
    padded = np.pad(labels, 16)
    expected = (padded[y + 16 : y + 16 + h, x + 16 : x + 16 + w] == 2).mean()
    box = [[8.0 * y, 8.0 * x, 8.0 * h, 8.0 * w]]
    assert truth.foreign_share(box)["two"][0] == pytest.approx(expected)


def test_the_cached_slide_is_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_OOD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(slide_file, "write_synthetic_slide", _small_slide)
    shares: list[float] = []
    path = synthetic_slide(shares.append)
    assert path.is_relative_to(tmp_path / "cache")
    assert shares[-1] == 1.0
    assert shares == sorted(shares)
    stamp = path.stat().st_mtime_ns
    assert synthetic_slide(shares.append) == path
    assert path.stat().st_mtime_ns == stamp
    truth_path(path).unlink()  # half of a pair is no sample
    assert synthetic_slide() == path
    assert truth_path(path).is_file()
    assert not list(path.parent.glob(".writing-*"))


def _small_slide(path: Path, on_progress: slide_file.OnDrawing | None = None) -> Path:
    return write_synthetic_slide(path, 1024, 3, foreign=False, on_progress=on_progress)


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, pixels: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(slide_file, "_write_pyramid", full)
    with pytest.raises(OodError, match=r"No space left.*NAPARI_OOD_CACHE"):
        write_synthetic_slide(tmp_path / "a.ome.tif", 1024, 3, foreign=False)
    assert [p.name for p in tmp_path.iterdir()] == ["a.truth.ome.tif"]


def test_an_unusable_cache_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NAPARI_OOD_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OodError, match="NAPARI_OOD_CACHE"):
        synthetic_slide()


@pytest.mark.parametrize("size", [512, 1030])
def test_sizes_that_do_not_fit(tmp_path: Path, size: int) -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        write_synthetic_slide(tmp_path / "a.ome.tif", size)


def test_a_missing_or_foreign_truth_is_said(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"a\.truth\.ome\.tif is missing"):
        load_truth(tmp_path / "a.ome.tif")
    other = truth_path(tmp_path / "b.ome.tif")
    tifffile.imwrite(other, np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(SlideError, match="no truth of a procedural slide"):
        load_truth(other)
    other.write_text("no TIFF")
    with pytest.raises(SlideError, match="no truth of a procedural slide"):
        load_truth(other)
