"""The fast TIFF reader against numpy truth, tifffile and OpenSlide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from napari_ood.errors import SlideError
from napari_ood.slides import open_slide
from napari_ood.slides.backends import tiff_page
from napari_ood.slides.backends.cache import TileCache
from napari_ood.slides.backends.files import PositionedFile

SVS = "slides/aperio_cmu_small/CMU-1-Small-Region.svs"
VOLUME = {"photometric": "rgb", "volumetric": True, "tile": (2, 16, 16)}


def as_rgb(stored: np.ndarray, bits: int = 8, alpha: str = "unassalpha") -> np.ndarray:
    """What RGB uint8 the rules give for (h, w, samples), written in the plainest way."""
    v = np.rint(stored.astype(np.float64) * 255 / (2**bits - 1))
    colour, a = v[..., :3], v[..., 3:]
    if v.shape[2] < 3:
        colour, a = v[..., :1], v[..., 1:]
    if a.shape[2]:
        if alpha == "unassalpha":
            colour = np.floor((colour * a + 255 * (255 - a)) / 255 + 0.5)
        else:
            colour = np.minimum(colour + 255 - a, 255)
    return np.repeat(colour, 4 - colour.shape[2] if colour.shape[2] == 1 else 1, 2)[..., :3].astype(
        np.uint8
    )


def padded(image: np.ndarray, y: int, x: int, h: int, w: int) -> np.ndarray:
    """Window of an image with white outside, by brute force."""
    margin = 300
    big = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), constant_values=255)
    return big[margin + y : margin + y + h, margin + x : margin + x + w]


def noise(shape: tuple[int, ...], dtype: Any = np.uint8, seed: int = 0) -> np.ndarray:
    top = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, top, shape, dtype, endpoint=True)


@st.composite
def tiffs(draw: st.DrawFn) -> dict[str, Any]:
    samples = draw(st.sampled_from([1, 2, 3, 4]))
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    codec = draw(st.sampled_from([None, "deflate", "lzw", "zstd", "packbits", "jpeg2000", "webp"]))
    if codec == "webp" and (samples < 3 or dtype != np.uint8):
        codec = "deflate"
    is_image_codec = codec in ("jpeg2000", "webp")
    planar = samples > 2 and not is_image_codec and draw(st.booleans())
    tile = draw(st.sampled_from([None, (16, 16), (32, 48), (64, 16)]))
    return {
        "shape": (draw(st.integers(1, 150)), draw(st.integers(1, 150)), samples),
        "dtype": dtype,
        "codec": codec,
        "planar": planar,
        "tile": tile,
        "rows": draw(st.integers(1, 40)),
        "predictor": draw(st.booleans()) and codec in ("deflate", "lzw", "zstd"),
        # tifffile 2026.3 hands big-endian samples to the JPEG 2000 encoder as if they were native
        "byteorder": "<" if codec == "jpeg2000" else draw(st.sampled_from("<>")),
        "bigtiff": draw(st.booleans()),
        "alpha": draw(st.sampled_from(["unassalpha", "assocalpha"])),
        "levels": draw(st.integers(0, 2)),
        "subifds": draw(st.booleans()),
        "window": draw(st.tuples(*[st.integers(-60, 160)] * 2, *[st.integers(0, 120)] * 2)),
    }


def write_tiff(path: Path, spec: dict[str, Any]) -> list[np.ndarray]:
    """Write a pyramid of noise and return its levels as stored, finest first."""
    samples = spec["shape"][2]
    options: dict[str, Any] = {
        "photometric": "minisblack" if samples < 3 else "rgb",
        "planarconfig": "separate" if spec["planar"] else "contig",
        "compression": spec["codec"],
        "predictor": spec["predictor"],
        "extrasamples": [spec["alpha"]] if samples in (2, 4) else None,
        "metadata": None,
    }
    if spec["codec"] == "webp":
        options["compressionargs"] = {"lossless": True, "level": 0}
    if spec["codec"] == "jpeg2000":
        options["compressionargs"] = {"level": 0, "reversible": True}
    options |= {"tile": spec["tile"]} if spec["tile"] else {"rowsperstrip": spec["rows"]}
    levels = []
    with tifffile.TiffWriter(path, byteorder=spec["byteorder"], bigtiff=spec["bigtiff"]) as tif:
        for k in range(spec["levels"] + 1):
            h, w = (max(side >> k, 1) for side in spec["shape"][:2])
            level = noise((h, w, samples), spec["dtype"], seed=k)
            levels.append(level)
            first = {"subifds": spec["levels"]} if spec["subifds"] and k == 0 else {}
            stored = level.transpose(2, 0, 1) if spec["planar"] else level
            tif.write(
                stored[..., 0] if samples == 1 else stored,
                subfiletype=1 if k else 0,
                **options,
                **first,
            )
    return levels


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spec=tiffs())
def test_any_window_of_any_tiff_equals_numpy(
    tmp_path_factory: pytest.TempPathFactory, spec: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("t") / "slide.tif"
    bits = 8 * np.dtype(spec["dtype"]).itemsize
    # pages equally large as the first (1 px tall or wide slides) would be a stack, not a pyramid
    if min(spec["shape"][:2]) < 8:
        spec = {**spec, "levels": 0}
    levels = write_tiff(path, spec)
    with open_slide(path, mpp=0.5) as slide:
        assert slide.n_native == len(levels)
        for k, stored in enumerate(levels):
            truth = as_rgb(stored, bits, spec["alpha"])
            window = spec["window"]
            np.testing.assert_array_equal(slide.read(k, *window), padded(truth, *window))
            np.testing.assert_array_equal(np.asarray(slide.levels[k]), truth)


@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["cmu1_generic_pyramid.tif", "cmu1_subifd_pyramid.ome.tif"])
def test_jpeg_pyramid_is_tifffile_bit_for_bit(shared_data: Path, name: str, level: int) -> None:
    path = shared_data / "slides/derived_pyramids" / name
    truth = tifffile.imread(path, level=level)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read(level, 0, 0, *truth.shape[:2]), truth)


@pytest.mark.parametrize("name", [SVS, "slides/derived_pyramids/cmu1_generic_pyramid.tif"])
def test_tissue_is_openslide_bit_for_bit(shared_data: Path, name: str) -> None:
    with open_slide(shared_data / name) as slide, openslide.OpenSlide(shared_data / name) as other:
        h, w = slide.shape
        truth = np.asarray(other.read_region((0, 0), 0, (w, h)))[..., :3]
        assert truth.std() > 30  # tissue, not glass
        np.testing.assert_array_equal(slide.read(0, 0, 0, h, w), truth)
        assert slide.reader == "tiff"


def test_aperio_jpeg2000_is_openslide_bit_for_bit(shared_data: Path, tmp_path: Path) -> None:
    """33003 keeps YCbCr, 33005 RGB; tifffile decodes both as if they were RGB."""
    rgb = tifffile.imread(shared_data / SVS)[600:1112, 600:1112]
    ycbcr = np.asarray(Image.fromarray(rgb).convert("YCbCr"))
    for code, stored in ((33003, ycbcr), (33005, rgb)):
        path = tmp_path / f"{code}.svs"
        tiles = [stored[y : y + 256, x : x + 256] for y in (0, 256) for x in (0, 256)]
        encoded = (
            imagecodecs.jpeg2k_encode(
                np.ascontiguousarray(tile), level=0, codecformat="j2k", mct=False, reversible=True
            )
            for tile in tiles
        )
        tifffile.imwrite(
            path, encoded, shape=stored.shape, dtype="u1", tile=(256, 256), photometric="rgb",
            compression=code, description="Aperio Image Library v10\r\n512x512|MPP = 0.5",
            metadata=None,
        )  # fmt: skip
        with open_slide(path) as slide, openslide.OpenSlide(path) as other:
            truth = np.asarray(other.read_region((0, 0), 0, (512, 512)))[..., :3]
            np.testing.assert_array_equal(slide.read(0, 0, 0, 512, 512), truth)
        assert np.abs(truth.astype(int) - rgb).mean() < 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_tag_turns_every_window(tmp_path: Path, orientation: int) -> None:
    stored = noise((70, 100, 3))
    tifffile.imwrite(
        tmp_path / "o.tif", stored, photometric="rgb", tile=(32, 16), metadata=None,
        resolution=(1e4 / 0.25, 1e4 / 0.5), resolutionunit="CENTIMETER",
        extratags=[(274, "H", 1, orientation, True)],
    )  # fmt: skip
    tagged = Image.fromarray(stored)
    tagged.getexif()[0x0112] = orientation
    truth = np.asarray(ImageOps.exif_transpose(tagged))
    with open_slide(tmp_path / "o.tif") as slide:
        np.testing.assert_array_equal(np.asarray(slide.levels[0]), truth)
        np.testing.assert_array_equal(slide.read(0, 7, 11, 40, 30), truth[7:47, 11:41])
        assert slide.mpp == pytest.approx((0.25, 0.5) if orientation > 4 else (0.5, 0.25))


def test_tiles_that_are_not_stored_are_white(tmp_path: Path) -> None:
    tile = noise((64, 64, 3))
    tifffile.imwrite(
        tmp_path / "s.tif", iter([tile, None, None, tile]), shape=(128, 128, 3), dtype="u1",
        tile=(64, 64), photometric="rgb", compression="deflate",
    )  # fmt: skip
    with open_slide(tmp_path / "s.tif") as slide:
        truth = np.full((128, 128, 3), 255, np.uint8)
        truth[:64, :64] = truth[64:, 64:] = tile
        np.testing.assert_array_equal(slide.read(0, 0, 0, 128, 128), truth)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_huge_raw_strips_are_cut_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planar: str, dtype: Any
) -> None:
    stored = noise((90, 70, 3), dtype)
    tifffile.imwrite(
        tmp_path / "r.tif", stored if planar == "contig" else stored.transpose(2, 0, 1),
        photometric="rgb", planarconfig=planar, rowsperstrip=50, byteorder=">",
    )  # fmt: skip
    monkeypatch.setattr(tiff_page, "DIRECT_SEGMENT_BYTES", 1000)
    truth = as_rgb(stored, 8 * np.dtype(dtype).itemsize)
    with open_slide(tmp_path / "r.tif") as slide:
        monkeypatch.setattr(slide._backend._pages[0], "_decode", None)  # type: ignore[attr-defined]
        np.testing.assert_array_equal(slide.read(0, 40, 30, 30, 35), truth[40:70, 30:65])


def test_compressed_file_in_one_huge_piece_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "h.tif", noise((90, 70, 3)), photometric="rgb", compression="lzw")
    monkeypatch.setattr(tiff_page, "MAX_SEGMENT_BYTES", 1000)
    with pytest.raises(SlideError, match="convert it to a tiled pyramid"):
        open_slide(tmp_path / "h.tif")


def test_palette_white_is_zero_and_bits(tmp_path: Path) -> None:
    index = noise((40, 50))
    table = noise((3, 256), np.uint16)
    tifffile.imwrite(tmp_path / "p.tif", index, photometric="palette", colormap=table)
    tifffile.imwrite(tmp_path / "w.tif", index, photometric="miniswhite")
    bits = index > 127
    tifffile.imwrite(tmp_path / "b.tif", bits, photometric="minisblack")
    twelve = noise((40, 50), np.uint16) >> 4
    tifffile.imwrite(tmp_path / "12.tif", twelve, photometric="minisblack", bitspersample=12)
    with open_slide(tmp_path / "p.tif") as slide:
        truth = (table >> 8).astype(np.uint8).T[index]
        np.testing.assert_array_equal(slide.read(0, 0, 0, 40, 50), truth)
    with open_slide(tmp_path / "w.tif") as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 0, 40, 50)[..., 1], 255 - index)
    with open_slide(tmp_path / "b.tif") as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 0, 40, 50)[..., 1], bits * 255)
    with open_slide(tmp_path / "12.tif") as slide:
        truth = np.rint(twelve * (255 / 4095))
        np.testing.assert_array_equal(slide.read(0, 0, 0, 40, 50)[..., 1], truth)
        assert "value x 255 / 4095" in slide.warnings[0]


def test_ycbcr_without_jpeg(tmp_path: Path) -> None:
    ycbcr = noise((40, 50, 3))
    tifffile.imwrite(
        tmp_path / "y.tif", ycbcr, photometric="ycbcr", compression="deflate", subsampling=(1, 1)
    )
    y, cb, cr = (ycbcr[..., i].astype(float) for i in range(3))
    cb, cr = cb - 128, cr - 128
    truth = np.stack([y + 1.402 * cr, y - 0.34414 * cb - 0.71414 * cr, y + 1.772 * cb], axis=-1)
    with open_slide(tmp_path / "y.tif") as slide:
        difference = slide.read(0, 0, 0, 40, 50) - np.clip(truth, 0, 255)
        assert np.abs(difference).max() <= 0.51


def test_ome_significant_bits_set_the_scale(tmp_path: Path) -> None:
    stored = noise((40, 50), np.uint16) >> 4
    path = tmp_path / "bits.ome.tif"
    metadata = {"axes": "YX", "SignificantBits": 12, "PhysicalSizeX": 250, "PhysicalSizeY": 500}
    metadata |= {"PhysicalSizeXUnit": "nm", "PhysicalSizeYUnit": "nm"}
    tifffile.imwrite(path, stored, metadata=metadata, ome=True)
    with open_slide(path) as slide:
        truth = np.rint(stored * (255 / 4095))
        np.testing.assert_array_equal(slide.read(0, 0, 0, 40, 50)[..., 0], truth)
        assert slide.mpp == (0.5, 0.25)


def test_float_is_shown_for_the_two_sensible_ranges_only(tmp_path: Path) -> None:
    unit = np.random.default_rng(0).random((40, 50, 3), np.float32)
    for name, factor, told in (("a", 1, "/ 1"), ("b", 255, "/ 255"), ("c", -900, None)):
        tifffile.imwrite(tmp_path / f"{name}.tif", unit * factor, photometric="rgb")
        if told is None:
            with pytest.raises(SlideError, match="span -8"):
                open_slide(tmp_path / f"{name}.tif")
            continue
        with open_slide(tmp_path / f"{name}.tif") as slide:
            assert slide.warnings[0].endswith(told)
            truth = np.rint(unit.astype(np.float64) * 255)
            difference = slide.read(0, 0, 0, 40, 50) - truth
            assert np.abs(difference).max() <= 1  # float32 * 255 rounds


@pytest.mark.parametrize(
    ("options", "shape", "dtype", "reason"),
    [
        ({"photometric": "minisblack", "planarconfig": "contig"}, (40, 50, 3), "u1", "3 channels"),
        ({"photometric": "minisblack"}, (4, 40, 50), "u1", "4 images of the same size"),
        ({"photometric": "separated"}, (40, 50, 4), "u1", "SEPARATED"),
        ({"photometric": "minisblack"}, (40, 50), "i2", "int16"),
        ({"photometric": "minisblack"}, (40, 50), "u4", "uint32"),
        (VOLUME, (4, 40, 50, 3), "u1", "4 planes"),
    ],
)  # fmt: skip
def test_pixels_without_a_sensible_reading_are_refused(
    tmp_path: Path, options: dict[str, Any], shape: tuple[int, ...], dtype: str, reason: str
) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.zeros(shape, dtype), metadata=None, **options)
    with pytest.raises(SlideError, match=rf"cannot open x\.tif: .*{reason}"):
        open_slide(tmp_path / "x.tif")


@pytest.mark.parametrize(
    ("axes", "shape", "reason"),
    [("ZYX", (5, 40, 50), "5 focal planes"), ("TCYX", (2, 3, 40, 50), "2 time points, 3 channels")],
)
def test_ome_stacks_are_refused(
    tmp_path: Path, axes: str, shape: tuple[int, ...], reason: str
) -> None:
    path = tmp_path / "x.ome.tif"
    tifffile.imwrite(path, np.zeros(shape, "u1"), metadata={"axes": axes}, ome=True)
    with pytest.raises(SlideError, match=reason):
        open_slide(path)


def test_ome_finds_pyramid_and_associated_images(tmp_path: Path) -> None:
    main, macro = noise((120, 90, 3)), noise((30, 40, 3), seed=5)
    path = tmp_path / "x.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tif:
        tif.write(macro, photometric="rgb", metadata={"Name": "macro"})
        tif.write(main, photometric="rgb", subifds=1, tile=(32, 32), metadata={"Name": "tissue"})
        tif.write(main[::2, ::2], photometric="rgb", subfiletype=1, tile=(32, 32))
    with open_slide(path) as slide:
        assert [level.shape[:2] for level in slide.levels] == [(120, 90), (60, 45)]
        assert list(slide.associated) == ["macro"]
        np.testing.assert_array_equal(slide.associated["macro"], macro)
        np.testing.assert_array_equal(np.asarray(slide.levels[1]), main[::2, ::2])


@pytest.mark.parametrize(
    ("resolution", "unit", "mpp"),
    [
        ((40000, 20000), "CENTIMETER", (0.5, 0.25)),
        ((25400 / 0.25,) * 2, "INCH", (0.25, 0.25)),
        ((72, 72), "INCH", None),
        ((300, 300), "INCH", None),
        ((40000, 40000), "NONE", None),
    ],
)
def test_resolution_is_an_mpp_only_if_plausible(
    tmp_path: Path, resolution: tuple[float, float], unit: str, mpp: tuple[float, float] | None
) -> None:
    path = tmp_path / "m.tif"
    tifffile.imwrite(
        path, noise((40, 50, 3)), photometric="rgb", resolution=resolution, resolutionunit=unit
    )
    with open_slide(path) as slide:
        assert slide.mpp == (None if mpp is None else pytest.approx(mpp, rel=1e-6))
        assert any("--mpp" in warning for warning in slide.warnings) == (mpp is None)


def test_positioned_file_without_pread(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(range(200)))
    for use_pread in (False, True):
        file = PositionedFile(path, use_pread=use_pread)
        assert file.read_at(10, 5) == bytes(range(10, 15))
        with pytest.raises(SlideError, match="5 bytes short"):
            file.read_at(195, 10)
        file.close()
        file.close()
        with pytest.raises(SlideError, match="closed"):
            file.read_at(0, 1)


def test_cache_is_bounded_and_keeps_the_recent() -> None:
    cache = TileCache(max_bytes=3000)
    tiles = {k: np.full((10, 100), k, np.uint8) for k in range(4)}
    for k in (0, 1, 2):
        cache.put(k, tiles[k])
    assert cache.get(0) is tiles[0]  # now 1 is the oldest
    cache.put(3, tiles[3])
    assert cache.get(1) is None and cache.get(0) is tiles[0] and cache.n_bytes == 3000
    huge = np.zeros(9000, np.uint8)
    cache.put("huge", huge)
    assert cache.get("huge") is huge and cache.n_bytes == 9000  # alone, even above the bound


def test_unaligned_neighbours_decode_each_tile_once(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_slide(shared_data / SVS) as slide:
        page = slide._backend._pages[0]  # type: ignore[attr-defined]
        decode, decoded = page._decode, []

        def spy(data: bytes, index: int, **options: Any) -> Any:
            decoded.append(index)
            return decode(data, index, **options)

        monkeypatch.setattr(page, "_decode", spy)
        for y in range(100, 1000, 96):
            for x in range(100, 1000, 96):
                slide.read(0, y, x, 96, 96)
        assert len(decoded) == len(set(decoded)) == 25
