"""OpenSlide, DICOM, OME-Zarr and image readers against independent decoders."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
import tifffile
import zarr
from PIL import Image, ImageOps

from napari_ood.errors import SlideError
from napari_ood.slides import open_slide
from napari_ood.slides.backends.openslide import OpenSlideBackend

DICOM = "slides/dicom_cmu_small"
NDPI = "slides/ndpi_stritt/test3-DAPI-2-(387).ndpi"


def noise(shape: tuple[int, ...], dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    top = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, top, shape, dtype, endpoint=True)


# --- OpenSlide -----------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_ndpi_equals_tifffile(shared_data: Path, level: int) -> None:
    truth = tifffile.imread(shared_data / NDPI, level=level)
    with open_slide(shared_data / NDPI) as slide:
        assert (slide.reader, slide.vendor, slide.objective) == ("openslide", "hamamatsu", 40)
        assert slide.mpp == pytest.approx((1e4 / 43826,) * 2)
        assert truth.max() > 100
        np.testing.assert_array_equal(slide.read(level, 0, 0, *truth.shape[:2]), truth)
        y, x = truth.shape[0] // 3 + 1, truth.shape[1] // 3 + 1
        window = slide.read(level, y, x, 50, 70)
        np.testing.assert_array_equal(window, truth[y : y + 50, x : x + 70])


@pytest.mark.parametrize("level", [1, 2])
def test_openslide_windows_do_not_depend_on_where_they_start(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch, level: int
) -> None:
    """At fractional downsamples OpenSlide shifts each region by another fraction of a pixel."""
    path = shared_data / "slides/derived_pyramids/cmu1_generic_pyramid.tif"
    monkeypatch.setattr("napari_ood.slides.backends.openslide.BLOCK_PX", 200)
    backend = OpenSlideBackend(path)
    truth = tifffile.imread(path, level=level)
    whole = backend.read(level, 0, 0, *truth.shape[:2])
    assert np.abs(whole - truth.astype(float)).mean() < 2
    for y, x in ((100, 101), (137, 250), (250, 201)):
        window = backend.read(level, y, x, 250, 240)
        np.testing.assert_array_equal(window, whole[y : y + 250, x : x + 240])


def test_colours_that_the_fast_reader_lacks_go_to_openslide(tmp_path: Path) -> None:
    cmyk = np.zeros((64, 64, 4), np.uint8)
    cmyk[..., 0] = 255  # all cyan
    tifffile.imwrite(tmp_path / "c.tif", cmyk, photometric="separated", tile=(32, 32))
    with open_slide(tmp_path / "c.tif") as slide:
        assert slide.reader == "openslide"
        np.testing.assert_array_equal(slide.read(0, 5, 5, 2, 2), np.full((2, 2, 3), [0, 255, 255]))


def test_one_damaged_tile_does_not_end_an_openslide_handle(
    shared_data: Path, tmp_path: Path
) -> None:
    """OpenSlide refuses every read after its first error; the reader opens it anew."""
    source = shared_data / DICOM
    path = tmp_path / "volume.dcm"
    volume = next(f for f in source.glob("*.dcm") if f.stat().st_size > 1_000_000)
    data = bytearray(volume.read_bytes())
    starts = [i for i in range(len(data) - 3) if data[i : i + 4] == b"\xff\xd8\xff\xe0"] or [
        i for i in range(len(data) - 3) if data[i : i + 3] == b"\xff\xd8\xff"
    ]
    data[starts[50] : starts[50] + 400] = bytes(400)
    path.write_bytes(data)
    with open_slide(path) as slide:
        good = slide.read(0, 0, 0, 240, 240)
        with pytest.raises(SlideError, match=r"volume\.dcm: cannot read level 0 at y="):
            slide.read(0, 0, 0, *slide.shape)
        np.testing.assert_array_equal(slide.read(0, 0, 0, 240, 240), good)


# --- DICOM ---------------------------------------------------------------------------------------


def pydicom_image(path: Path) -> np.ndarray:
    """Put the frames of a TILED_FULL file together with pydicom (JPEG-LS: imagecodecs) alone."""
    header = pydicom.dcmread(path)
    n = header.NumberOfFrames
    if header.file_meta.TransferSyntaxUID == pydicom.uid.JPEGLSLossless:
        encoded = pydicom.encaps.generate_frames(header.PixelData, number_of_frames=n)
        frames = np.stack([imagecodecs.jpegls_decode(frame) for frame in encoded])
    else:
        frames = header.pixel_array
    frames = frames.reshape(n, header.Rows, header.Columns, header.SamplesPerPixel)
    h, w = header.TotalPixelMatrixRows, header.TotalPixelMatrixColumns
    columns = -(-w // header.Columns)
    rows = [np.concatenate(frames[i : i + columns], axis=1) for i in range(0, len(frames), columns)]
    return np.concatenate(rows, axis=0)[:h, :w]


def test_dicom_folder_and_any_of_its_files_are_one_slide(shared_data: Path) -> None:
    folder = shared_data / DICOM
    truth = tifffile.imread(shared_data / "slides/aperio_cmu_small/CMU-1-Small-Region.svs")
    for path in (folder, *sorted(folder.glob("*.dcm"))):
        with open_slide(path) as slide:
            assert slide.shape == truth.shape[:2]
            assert slide.mpp == (0.499, 0.499)
            assert set(slide.associated) == {"label", "macro", "thumbnail"}
            # the same tissue as in the SVS it was made from, through another JPEG
            difference = slide.read(0, 600, 600, 300, 300) - truth[600:900, 600:900].astype(float)
            assert np.abs(difference).mean() < 2


@pytest.mark.parametrize("name", ["jpegls", "jpegls_nobot", "grayscale", "numbers"])
def test_small_dicom_equals_pydicom(shared_data: Path, name: str) -> None:
    stem = "sm_image_" + name
    path = shared_data / "slides/dicom_highdicom" / f"{stem}.dcm"
    truth = pydicom_image(path)
    if truth.dtype == np.uint16:
        truth = np.repeat(np.rint(truth * (255 / 65535)), 3, axis=2)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(np.asarray(slide.levels[0]), truth)
        np.testing.assert_array_equal(slide.read(0, 13, 7, 20, 31), truth[13:33, 7:38])
        assert slide.reader == ("openslide" if name == "numbers" else "wsidicom")


def test_dicom_folder_with_two_slides_is_refused(shared_data: Path, tmp_path: Path) -> None:
    for name in ("sm_image.dcm", "sm_image_dots.dcm"):
        shutil.copy(shared_data / "slides/dicom_highdicom" / name, tmp_path)
    with pytest.raises(SlideError, match="2 DICOM slides"):
        open_slide(tmp_path)


def test_dicom_that_is_no_slide_is_refused(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "slides/dicom_gcp"
    with pytest.raises(SlideError, match=r"no whole-slide image \(Microscopy Bulk"):
        open_slide(folder / "wsi_annotation.dcm")
    with pytest.raises(SlideError, match="neither an OME-Zarr nor DICOM"):
        open_slide(tmp_path)


def test_dicom_focal_planes_are_refused(shared_data: Path, tmp_path: Path) -> None:
    header = pydicom.dcmread(shared_data / "slides/dicom_highdicom/sm_image.dcm")
    header.TotalPixelMatrixFocalPlanes = 3
    header.save_as(tmp_path / "z.dcm")
    with pytest.raises(SlideError, match="3 focal planes"):
        open_slide(tmp_path / "z.dcm")


def test_dicom_frames_anywhere_or_missing(shared_data: Path, tmp_path: Path) -> None:
    """TILED_SPARSE: frames state their positions; what no frame covers is white."""
    header = pydicom.dcmread(shared_data / "slides/dicom_highdicom/sm_image_numbers.dcm")
    frames, order = header.pixel_array, np.random.default_rng(0).permutation(25)[:20]
    truth = np.full((50, 50, 3), 255, np.uint8)
    positions = []
    for k in order:
        y, x = 10 * (k // 5), 10 * (k % 5)
        truth[y : y + 10, x : x + 10] = frames[k]
        position, group = pydicom.Dataset(), pydicom.Dataset()
        position.RowPositionInTotalImagePixelMatrix = int(y) + 1
        position.ColumnPositionInTotalImagePixelMatrix = int(x) + 1
        group.PlanePositionSlideSequence = [position]
        positions.append(group)
    header.DimensionOrganizationType = "TILED_SPARSE"
    header.PerFrameFunctionalGroupsSequence = positions
    header.NumberOfFrames = len(order)
    header.PixelData = frames[order].tobytes()
    header.save_as(tmp_path / "sparse.dcm")
    with open_slide(tmp_path / "sparse.dcm") as slide:
        np.testing.assert_array_equal(np.asarray(slide.levels[0]), truth)


def test_dicom_run_length_encoded(shared_data: Path, tmp_path: Path) -> None:
    header = pydicom.dcmread(shared_data / "slides/dicom_highdicom/sm_image_dots.dcm")
    header.compress(pydicom.uid.RLELossless)
    header.save_as(tmp_path / "rle.dcm")
    truth = pydicom_image(shared_data / "slides/dicom_highdicom/sm_image_dots.dcm")
    with open_slide(tmp_path / "rle.dcm") as slide:
        np.testing.assert_array_equal(np.asarray(slide.levels[0]), truth)


# --- OME-Zarr ------------------------------------------------------------------------------------


def write_zarr(path: Path, levels: list[np.ndarray], axes: str, version: int, **extra: Any) -> None:
    """Write an OME-Zarr 0.4 (zarr v2) or 0.5 (zarr v3, sharded) by the letter of the standard."""
    kinds = {"t": "time", "c": "channel"}
    stated = [{"name": a, "type": kinds.get(a, "space")} for a in axes]
    for axis in stated:
        if axis["type"] == "space":
            axis["unit"] = "nanometer"
    datasets = []
    group = zarr.open_group(path, mode="w", zarr_format=version)
    for k, level in enumerate(levels):
        chunks = tuple(16 if a in "yx" else 1 for a in axes)
        shards = tuple(4 * c for c in chunks) if version == 3 else None
        array = group.create_array(
            str(k), shape=level.shape, chunks=chunks, shards=shards, dtype=level.dtype
        )
        array[...] = level
        scale = [250.0 * 2**k if a == "y" else 500.0 * 2**k if a == "x" else 1.0 for a in axes]
        steps = [{"type": "scale", "scale": scale}]
        datasets.append({"path": str(k), "coordinateTransformations": steps})
    multiscales = [{"version": "0.4", "axes": stated, "datasets": datasets}]
    ome = {"multiscales": multiscales, **extra}
    group.attrs.update(ome if version == 2 else {"ome": {"version": "0.5", **ome}})


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("axes", ["cyx", "yxc", "tczyx"])
@pytest.mark.parametrize("zipped", [False, True])
def test_ome_zarr_of_any_layout_equals_numpy(
    tmp_path: Path, version: int, axes: str, zipped: bool
) -> None:
    levels = [noise((100, 70, 3)), noise((50, 35, 3), seed=1)]
    order = {"cyx": (2, 0, 1), "yxc": (0, 1, 2), "tczyx": (2, 0, 1)}[axes]
    stored = [level.transpose(order) for level in levels]
    if axes == "tczyx":
        stored = [level[None, :, None] for level in stored]
    path = tmp_path / "a.ome.zarr"
    write_zarr(path, stored, axes, version)
    if zipped:
        path = Path(shutil.make_archive(str(path), "zip", tmp_path, path.name))
    with open_slide(path) as slide:
        assert slide.name == "a"
        assert slide.mpp == pytest.approx((0.25, 0.5))
        assert slide.format == f"OME-Zarr (zarr v{version})"
        assert slide.block_shape(0) == (256, 256)  # 16 chunks of 16 px
        for k, truth in enumerate(levels):
            np.testing.assert_array_equal(np.asarray(slide.levels[k]), truth)
            np.testing.assert_array_equal(slide.read(k, 5, 9, 30, 20), truth[5:35, 9:29])
        assert len(slide.fingerprint()) == 64


def test_zarr_without_one_sensible_reading_is_refused(tmp_path: Path) -> None:
    image = np.zeros((3, 40, 50), np.uint8)
    colours = {"omero": {"channels": [{"color": c} for c in ("0000FF", "00FF00", "FF0000")]}}
    write_zarr(tmp_path / "f.zarr", [image], "cyx", 3, **colours)
    with pytest.raises(SlideError, match="3 channels that are not red, green and blue"):
        open_slide(tmp_path / "f.zarr")
    write_zarr(tmp_path / "z.zarr", [image], "zyx", 2)
    with pytest.raises(SlideError, match="3 focal planes"):
        open_slide(tmp_path / "z.zarr")
    zarr.open_group(tmp_path / "n.zarr", mode="w").create_array("a", shape=(4, 4), dtype="u1")
    with pytest.raises(SlideError, match="no OME-Zarr image"):
        open_slide(tmp_path / "n.zarr")


def test_zarr_level_points_to_its_image(tmp_path: Path) -> None:
    for version in (2, 3):
        write_zarr(tmp_path / "a.zarr", [np.zeros((40, 50), np.uint8)], "yx", version)
        with pytest.raises(SlideError, match="open the folder above"):
            open_slide(tmp_path / "a.zarr" / "0")


def test_zarr_colours_and_float(tmp_path: Path, shared_data: Path) -> None:
    image = noise((3, 40, 50))
    colours = {"omero": {"channels": [{"color": c} for c in ("FF0000", "00FF00", "0000FF")]}}
    write_zarr(tmp_path / "c.zarr", [image], "cyx", 3, **colours)
    with open_slide(tmp_path / "c.zarr") as slide:
        np.testing.assert_array_equal(np.asarray(slide.levels[0]), image.transpose(1, 2, 0))
    path = shared_data / "slides/tiff_large_image/sample_float32_8bit_range.zarr.zip"
    with open_slide(path) as slide:
        stored = zarr.open_array(zarr.storage.ZipStore(path), path="0", mode="r")[...]
        assert slide.shape == stored.shape[:2]
        truth = stored[..., :3] * (stored[..., 3:] / 255) + (255 - stored[..., 3:])
        assert np.abs(np.asarray(slide.levels[0]) - truth).max() <= 1


# --- PNG, JPEG ... -------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_is_upright_by_its_exif(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    smooth = np.asarray(Image.fromarray(noise((8, 12, 3))).resize((180, 120)))
    Image.fromarray(smooth).save(tmp_path / "photo.jpg", exif=exif)
    truth = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "photo.jpg")))
    with open_slide(tmp_path / "photo.jpg") as slide:
        np.testing.assert_array_equal(np.asarray(slide.levels[0]), truth)
        assert slide.mpp is None


def test_image_modes(tmp_path: Path) -> None:
    rgba = noise((40, 50, 4))
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    Image.fromarray(rgba[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(rgba[..., :3]).quantize(20).save(tmp_path / "palette.png")
    sixteen = noise((40, 50), np.uint16)
    Image.fromarray(sixteen).save(tmp_path / "16.png")
    Image.fromarray(rgba[..., :3]).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    alpha = rgba[..., 3:] / 255
    truths = {
        "rgba.png": rgba[..., :3] * alpha + 255 * (1 - alpha),
        "grey.png": np.repeat(rgba[..., :1], 3, 2),
        "palette.png": np.asarray(Image.open(tmp_path / "palette.png").convert("RGB")),
        "16.png": np.repeat((sixteen / 257.0)[..., None], 3, 2),
        "cmyk.jpg": np.asarray(Image.open(tmp_path / "cmyk.jpg").convert("RGB")),
    }
    for name, truth in truths.items():
        with open_slide(tmp_path / name) as slide:
            assert np.abs(np.asarray(slide.levels[0]) - truth).max() <= 0.51, name


def test_image_beyond_pillows_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow refuses large images as bombs; ours has its own, stated limit."""
    image = noise((60, 70, 3))
    Image.fromarray(image).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with open_slide(tmp_path / "a.png") as slide:
        np.testing.assert_array_equal(np.asarray(slide.levels[0]), image)
    monkeypatch.setattr("napari_ood.slides.backends.image.MAX_PIXELS", 100)
    with pytest.raises(SlideError, match="too many to hold in memory"):
        open_slide(tmp_path / "a.png")


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    image = noise((60, 70, 3))
    Image.fromarray(image).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.svs")
    with open_slide(tmp_path / "a.svs") as slide:
        assert slide.format == "PNG"
    with zipfile.ZipFile(tmp_path / "b.svs", "w") as archive:
        archive.writestr("x.txt", "x")
    with pytest.raises(SlideError, match="no slide or image format"):
        open_slide(tmp_path / "b.svs")
    tifffile.imwrite(tmp_path / "c.vsi", image, photometric="rgb")
    with pytest.raises(SlideError, match=r"\.ets files"):
        open_slide(tmp_path / "c.vsi")
