"""Maps in OME-Zarr and OME-TIFF: the right values at the right place, in every reader we have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray

from napari_ood.errors import ExportError
from napari_ood.export.maps import MapStack
from napari_ood.export.maps_import import is_maps, read_maps
from napari_ood.export.ome_tiff import write_ome_tiff
from napari_ood.export.ome_zarr import write_ome_zarr
from napari_ood.export.results import Results
from napari_ood.slides.grid import TileGrid
from napari_ood.viewer.geometry import map_placement

MakeRun = Callable[..., Any]
ABOUT = {"napari_ood": "test"}


@pytest.fixture
def results(make_run: MakeRun) -> Results:
    """Overlapping tiles in a part of a slide, with a hole; more cells than the smallest level."""
    grid = TileGrid.over((9000, 2000), 32, (2.0, 3.0), (130.0, 70.0, 8800.0, 1900.0), stride=14)
    done = np.ones((grid.rows, grid.cols), bool)
    done[3:90, 5:20] = False
    return Results(make_run(done, grid=grid, mpp=(0.25, 0.3)))


@pytest.fixture
def maps(results: Results) -> MapStack:
    return MapStack.of(results)


def test_channels_are_the_runs_maps(maps: MapStack, results: Results) -> None:
    run = results.scored.run
    values = dict(zip((c.name for c in maps.channels), maps.values, strict=True))
    assert list(values) == [
        "predicted class", "probability red", "probability green", "probability blue",
        "uncertainty", "ood",
    ]  # fmt: skip
    shown = values["predicted class"]
    assert np.array_equal(np.nan_to_num(shown, nan=0), run.prediction_map() + 1)
    assert np.array_equal(values["ood"], run.map("ood"), equal_nan=True)
    assert np.isnan(maps.values[:, 3:90, 5:20]).all() and not np.isnan(maps.values[:, 0]).any()


def test_levels_are_means_of_what_is_there(maps: MapStack) -> None:
    first, second, *rest = maps.levels()
    assert max(second.shape[1:]) <= max(first.shape[1:]) // 2 + 1 and len(rest) <= 1
    quad = first[5, 2:4, 4:6]
    assert second[5, 1, 2] == pytest.approx(np.nanmean(quad))
    assert np.isnan(second[5, 2:45, 3:10]).all()
    assert set(np.unique(second[0][~np.isnan(second[0])])) <= {1.0, 2.0, 3.0}


def _centre_of(maps: MapStack, level: int, row: int, col: int) -> tuple[float, float]:
    (h, w), (y, x) = maps.place(level)
    return y + row * h, x + col * w


def test_a_pixel_lies_on_its_tile_in_every_level(maps: MapStack, results: Results) -> None:
    y, x, h, w = results.scored.run.grid.boxes([[7, 11]])[0]
    middle = ((y + h / 2 - 0.5) * 0.25, (x + w / 2 - 0.5) * 0.3)
    assert _centre_of(maps, 0, 7, 11) == pytest.approx(middle)
    (y0, x0), (y1, x1) = _centre_of(maps, 0, 6, 10), _centre_of(maps, 0, 7, 11)
    assert _centre_of(maps, 1, 3, 5) == pytest.approx(((y0 + y1) / 2, (x0 + x1) / 2))
    place = map_placement(results.scored.run.grid, (0.25, 0.3))
    assert maps.pixel == pytest.approx(place.scale) and maps.centre == pytest.approx(
        place.translate
    )


def test_ome_zarr_by_its_specification(maps: MapStack, tmp_path: Path) -> None:
    models = pytest.importorskip("ome_zarr_models.v04.image")
    path = write_ome_zarr(maps, tmp_path / "m.ome.zarr", ABOUT)
    group = zarr.open_group(path, mode="r")
    assert group.metadata.zarr_format == 2
    image = models.Image.from_zarr(group)  # checks the metadata against OME-NGFF 0.4
    (scale,) = image.attributes.multiscales
    assert [axis.name for axis in scale.axes] == ["c", "y", "x"]
    assert [axis.unit for axis in scale.axes][1:] == ["micrometer", "micrometer"]
    for i, values in enumerate(maps.levels()):
        assert np.array_equal(group[str(i)][:], values, equal_nan=True)
        size, centre = maps.place(i)
        transforms = scale.datasets[i].coordinateTransformations
        assert transforms[0].scale == pytest.approx([1, *size])
        assert transforms[1].translation == pytest.approx([0, *centre])
    about = {**ABOUT, "maps": json.loads(json.dumps(maps.as_dict()))}
    assert group.attrs["napari_ood"] == about


def test_ome_zarr_opens_in_the_library_behind_napari_ome_zarr(
    maps: MapStack, tmp_path: Path
) -> None:
    reader = pytest.importorskip("ome_zarr.reader")
    from ome_zarr.io import parse_url

    path = write_ome_zarr(maps, tmp_path / "m.ome.zarr", ABOUT)
    (node,) = list(reader.Reader(parse_url(path))())
    assert len(node.data) == len(maps.levels())
    assert np.array_equal(np.asarray(node.data[0]), maps.values, equal_nan=True)
    assert [n.lower() for n in node.metadata["channel_names"]] == [c.name for c in maps.channels]


def test_ome_tiff_by_tifffile(maps: MapStack, tmp_path: Path) -> None:
    path = write_ome_tiff(maps, tmp_path / "m.ome.tif", ABOUT)
    with tifffile.TiffFile(path) as tif:
        assert tif.is_ome
        (series,) = tif.series
        assert series.axes == "CYX" and len(series.levels) == len(maps.levels())
        for level, values in zip(series.levels, maps.levels(), strict=True):
            assert np.array_equal(level.asarray(), values, equal_nan=True)
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
    assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeXUnit"]) == (maps.pixel[1], "µm")
    assert (pixels["PhysicalSizeY"], pixels["PhysicalSizeYUnit"]) == (maps.pixel[0], "µm")
    assert [channel["Name"] for channel in pixels["Channel"]] == [c.name for c in maps.channels]
    assert [plane["PositionX"] for plane in pixels["Plane"]] == pytest.approx([maps.centre[1]] * 6)


def test_our_own_reader_sees_sizes_and_scale(
    make_run: MakeRun, scattered: NDArray[np.bool_], tmp_path: Path
) -> None:
    """Fluorescence-like stacks are no slides, so our reader says so rather than guess colours."""
    from napari_ood import SlideError, open_slide

    maps = MapStack.of(Results(make_run(scattered)))
    for path in (
        write_ome_zarr(maps, tmp_path / "m.ome.zarr", ABOUT),
        write_ome_tiff(maps, tmp_path / "m.ome.tif", ABOUT),
    ):
        with pytest.raises(SlideError, match="channels"):
            open_slide(path)


def test_without_mpp_sizes_are_level_0_pixels(make_run: MakeRun, tmp_path: Path) -> None:
    maps = MapStack.of(Results(make_run(np.ones((3, 4), bool), mpp=None)))
    assert maps.pixel == (64, 64) and maps.unit == "pixel"
    group = zarr.open_group(write_ome_zarr(maps, tmp_path / "m.ome.zarr", ABOUT), mode="r")
    assert all("unit" not in axis for axis in group.attrs["multiscales"][0]["axes"])  # type: ignore[index, union-attr, call-overload]
    with tifffile.TiffFile(write_ome_tiff(maps, tmp_path / "m.ome.tif", ABOUT)) as tif:
        assert tif.ome_metadata is not None and 'PhysicalSizeXUnit="pixel"' in tif.ome_metadata


@pytest.mark.parametrize("n", [0, 1])
def test_runs_of_no_tile_and_of_one(n: int, make_run: MakeRun, tmp_path: Path) -> None:
    done = np.zeros((3, 3), bool)
    done.flat[:n] = True
    maps = MapStack.of(Results(make_run(done)))
    write_ome_zarr(maps, tmp_path / "m.ome.zarr", ABOUT)
    path = write_ome_tiff(maps, tmp_path / "m.ome.tif", ABOUT)
    assert np.isfinite(tifffile.imread(path)).sum() == n * len(maps.channels)


def test_an_earlier_export_is_replaced_and_nothing_else(maps: MapStack, tmp_path: Path) -> None:
    path = tmp_path / "m.ome.zarr"
    write_ome_zarr(maps, path, ABOUT)
    (path / "stale").write_text("x")
    write_ome_zarr(maps, path, {"napari_ood": "second"})
    assert not (path / "stale").exists()
    assert json.loads((path / ".zattrs").read_text())["napari_ood"]["napari_ood"] == "second"
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    other = tmp_path / "slide.ome.zarr"
    zarr.open_group(other, mode="w").attrs["ome"] = {}
    with pytest.raises(ExportError, match="no export of napari-ood"):
        write_ome_zarr(maps, other, ABOUT)
    assert (other / "zarr.json").exists()


@pytest.mark.parametrize("kind", ["zarr", "tif"])
def test_maps_come_back_and_other_files_are_none(
    kind: str, maps: MapStack, tmp_path: Path, procedural_slide: Path
) -> None:
    path = tmp_path / f"renamed.ome.{kind}"
    (write_ome_zarr if kind == "zarr" else write_ome_tiff)(maps, path, ABOUT)
    back = read_maps(path)
    assert back.as_dict() == maps.as_dict()
    assert np.array_equal(back.values, maps.values, equal_nan=True)
    assert is_maps(path) and not is_maps(procedural_slide) and not is_maps(tmp_path)
    with pytest.raises(ExportError, match="holds no maps"):
        read_maps(procedural_slide)
    piece = path / "0" / "0" / "0" / "0" if kind == "zarr" else path
    content = piece.read_bytes()
    piece.write_bytes(content[: len(content) // 2] if kind == "zarr" else content[:-20000])
    with pytest.raises(ExportError, match=r"damaged|no maps"):
        read_maps(path)


def test_napari_shows_maps_where_the_overlays_lie(
    maps: MapStack, results: Results, tmp_path: Path
) -> None:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_ood.viewer.plugin import get_reader

    path = write_ome_tiff(maps, tmp_path / "m.ome.tif", ABOUT)
    reader = get_reader(str(path))
    assert reader is not None
    viewer = ViewerModel()
    for data in reader(str(path)):
        viewer.add_layer(Layer.create(*data))
    assert [layer.name.split(" (")[0] for layer in viewer.layers] == [c.name for c in maps.channels]
    place = map_placement(results.scored.run.grid, (0.25, 0.3))
    layer = viewer.layers["ood (drawn)"]
    assert tuple(layer.scale) == pytest.approx(place.scale)
    assert tuple(layer.translate) == pytest.approx(place.translate)
    assert layer.visible and not viewer.layers["probability red (drawn)"].visible
    y, x, h, w = results.scored.run.grid.boxes([[100, 11]])[0]
    value = layer.get_value(((y + h / 2) * 0.25, (x + w / 2) * 0.3), world=True)
    assert value == results.scored.run.map("ood")[100, 11]
