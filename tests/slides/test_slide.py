"""What every Slide does, whatever reads it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_ood.errors import SlideError
from napari_ood.slides import Slide, open_slide
from napari_ood.slides.slide import slide_name

SVS = "slides/aperio_cmu_small/CMU-1-Small-Region.svs"
ONE_OF_EACH = [
    SVS,
    "slides/ndpi_stritt/test3-DAPI-2-(387).ndpi",
    "slides/dicom_cmu_small",
    "slides/dicom_highdicom/sm_image_jpegls.dcm",
    "slides/tiff_large_image/sample_float32_8bit_range.zarr.zip",
]


@pytest.fixture
def tif(tmp_path: Path) -> Path:
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    path = tmp_path / "slide.tif"
    with tifffile.TiffWriter(path) as writer:
        options: dict[str, Any] = {"tile": (64, 64), "photometric": "rgb", "compression": "zstd"}
        writer.write(image, **options)
        writer.write(image[:299:3, :399:3], subfiletype=1, **options)
    return path


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_windows_agree_and_outside_is_white(shared_data: Path, name: str) -> None:
    with open_slide(shared_data / name) as slide:
        for level in range(min(len(slide.levels), 3)):
            h, w = slide.levels[level].shape[:2]
            n, m = min(h, 500), min(w, 400)
            whole = slide.read(level, h - n, w - m, n, m)
            around = slide.read(level, h - n - 9, w - m - 9, n + 30, m + 30)
            assert around.dtype == np.uint8 and around.flags.owndata
            np.testing.assert_array_equal(around[9 : 9 + n, 9 : 9 + m], whole)
            assert (around[9 + n :] == 255).all() and (around[:, 9 + m :] == 255).all()
        assert (slide.read(0, -100, -100, 50, 60) == 255).all()
        assert slide.read(0, 5, 5, 0, 7).shape == (0, 7, 3)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(window=st.tuples(*[st.integers(-50, 450)] * 2, *[st.integers(0, 200)] * 2))
def test_synthesised_levels_read_like_their_arrays(
    tif: Path, monkeypatch: pytest.MonkeyPatch, window: tuple[int, int, int, int]
) -> None:
    monkeypatch.setattr("napari_ood.slides.coarse.MAX_COARSEST_PX", 30)
    with open_slide(tif) as slide:
        assert slide.n_native == 2 and len(slide.levels) == 5
        for level in range(2, 5):
            array = np.pad(
                np.asarray(slide.levels[level]), [(60, 700), (60, 700), (0, 0)], constant_values=255
            )
            y, x, h, w = window
            truth = array[60 + y : 60 + y + h, 60 + x : 60 + x + w]
            np.testing.assert_array_equal(slide.read(level, *window), truth)


def test_requests_that_make_no_sense(tif: Path) -> None:
    with open_slide(tif) as slide:
        for level in (-1, 2):
            with pytest.raises(SlideError, match=r"slide\.tif has levels 0 to 1"):
                slide.read(level, 0, 0, 1, 1)
        with pytest.raises(SlideError, match="sizes of 0 or more"):
            slide.read(0, 0, 0, -1, 1)
    with pytest.raises(SlideError, match="closed"):
        slide.read(0, 0, 0, 10, 10)
    for mpp in (0, -1, float("nan"), (0.5, 0)):
        with pytest.raises(SlideError, match="no µm per pixel"):
            open_slide(tif, mpp=mpp)


def test_mpp_is_given_stored_or_missing(shared_data: Path, tif: Path) -> None:
    with open_slide(tif) as slide:
        assert slide.mpp is None and "--mpp" in slide.warnings[-1]
    with open_slide(tif, mpp=0.5) as slide:
        assert slide.mpp == (0.5, 0.5) and slide.warnings == ()
        assert slide.metadata["mpp.source"] == "given"
    with open_slide(shared_data / SVS) as slide:
        assert slide.mpp == (0.499, 0.499) and slide.warnings == ()
        assert slide.metadata["mpp.source"] == "file"
        assert slide.objective == 20
    with open_slide(shared_data / SVS, mpp=(1.0, 2.0)) as slide:
        assert slide.mpp == (1.0, 2.0) and "0.499" in slide.warnings[0]


def test_downsamples_are_fractional_and_per_axis(tif: Path) -> None:
    with open_slide(tif) as slide:
        assert slide.downsamples == ((1.0, 1.0), (300 / 100, 400 / 133))


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_threads_read_what_one_thread_reads(shared_data: Path, name: str) -> None:
    with open_slide(shared_data / name) as slide:
        h, w = slide.shape
        rng = np.random.default_rng(0)
        windows = [(int(rng.integers(h)), int(rng.integers(w)), 90, 70) for _ in range(48)]
        truth = [slide.read(0, *window) for window in windows]
    with open_slide(shared_data / name) as slide, ThreadPoolExecutor(6) as pool:
        for got, wanted in zip(pool.map(lambda v: slide.read(0, *v), windows), truth, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_associated_images_are_decoded_only_when_asked_for(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels carry patient data: opening, showing and listing must not touch their pixels."""
    from napari_ood.slides.backends import openslide as os_backend
    from napari_ood.slides.backends.tiff_page import TiffPageReader

    decoded: list[Any] = []
    read, associated = TiffPageReader.read, os_backend.OpenSlideBackend._associated

    def spy_tiff(self: Any, *window: int) -> Any:
        decoded.extend([self.shape] * (self.shape != (2967, 2220)))
        return read(self, *window)

    def spy_openslide(self: Any, name: str) -> Any:
        decoded.append(name)
        return associated(self, name)

    monkeypatch.setattr(TiffPageReader, "read", spy_tiff)
    monkeypatch.setattr(os_backend.OpenSlideBackend, "_associated", spy_openslide)
    sizes = {"label": (463, 387, 3), "macro": (431, 1280, 3), "thumbnail": (768, 574, 3)}
    for name in (SVS, "slides/dicom_cmu_small"):
        with open_slide(shared_data / name) as slide:
            np.asarray(slide.levels[-1])
            slide.fingerprint()
            assert set(slide.associated) == set(sizes) and "label" in slide.associated
            assert len(slide.associated) == 3 and repr(slide) and repr(slide.associated)
            assert decoded == []
            for key, shape in sizes.items():
                image = slide.associated[key]
                assert image.shape == shape and image.dtype == np.uint8
            assert len(decoded) == 3
            decoded.clear()
    with open_slide(shared_data / SVS) as slide:
        truth = tifffile.imread(shared_data / SVS, series=3)
        np.testing.assert_array_equal(slide.associated["macro"], truth)


def test_fingerprint_follows_the_bytes(tif: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "slide.tif"
    copy.parent.mkdir()
    copy.write_bytes(tif.read_bytes())
    with open_slide(tif) as a, open_slide(copy) as b:
        first = a.fingerprint()
        assert first == b.fingerprint() and len(first) == 64
    data = bytearray(tif.read_bytes())
    data[-5] ^= 1
    copy.write_bytes(data)
    with open_slide(copy) as b:
        assert b.fingerprint() != first


def test_pickles_by_path(tif: Path) -> None:
    with open_slide(tif, mpp=0.7) as slide:
        other = pickle.loads(pickle.dumps(slide))
        with other:
            assert other.mpp == slide.mpp
            np.testing.assert_array_equal(other.read(0, 1, 2, 30, 40), slide.read(0, 1, 2, 30, 40))


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a.svs", "a"),
        ("a.b.SVS", "a.b"),
        ("x.ome.tif", "x"),
        ("x.OME.TIFF", "x"),
        ("x.ome.zarr", "x"),
        ("x.zarr.zip", "x"),
        ("1.2.826.0", "1.2.826.0"),
        (".tif", ".tif"),
    ],
)
def test_name_drops_known_suffixes(file: str, name: str) -> None:
    assert slide_name(Path(file)) == name


def test_repr_says_what_it_is(shared_data: Path) -> None:
    with open_slide(shared_data / SVS) as slide:
        assert isinstance(slide, Slide)
        assert repr(slide) == (
            "<Slide 'CMU-1-Small-Region': 2220 x 2967 px, 1 stored level, 0.499 µm/px, Aperio SVS>"
        )


def test_readers_load_no_torch_and_no_napari(shared_data: Path) -> None:
    code = (
        "import sys; from napari_ood import open_slide; open_slide(sys.argv[1]);"
        "print([m for m in ('torch', 'napari', 'qtpy', 'wsidicom', 'zarr') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(shared_data / SVS)], capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
