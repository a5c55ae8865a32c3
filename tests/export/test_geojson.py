"""GeoJSON: by the rules of RFC 7946 and QuPath, and back again without loss."""

from __future__ import annotations

import gzip
import json
import math
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from napari_ood import Bundle
from napari_ood.analysis.regions import find_regions
from napari_ood.errors import ExportError
from napari_ood.export.geojson import write_prediction, write_regions, write_verdicts
from napari_ood.export.geojson_import import read_geojson, roi_mask
from napari_ood.export.results import Results, qupath_origin
from napari_ood.export.verdict_import import as_verdicts
from napari_ood.review import Artefact, Kind, Verdict
from napari_ood.scores.thresholds import Threshold, value_threshold
from napari_ood.slides.bounds import scanned_bounds
from napari_ood.slides.grid import TileGrid

MakeRun = Callable[..., Any]
SCHEMA = json.loads(Path(__file__).with_name("rfc7946.schema.json").read_text("utf-8"))


def load(path: Path) -> dict[str, Any]:
    """Parse strictly (no NaN), and hold against RFC 7946."""

    def refuse(text: str) -> float:
        raise AssertionError(f"{text} is no JSON")

    content = json.loads(path.read_text("utf-8"), parse_constant=refuse)
    jsonschema.validate(content, SCHEMA)
    for feature in content["features"]:
        geometry = feature["geometry"]
        polygons = geometry["coordinates"]
        if geometry["type"] == "Polygon":
            polygons = [polygons]
        else:
            assert len(polygons) > 1, "QuPath wants a MultiPolygon to have several parts"
        for shell, *holes in polygons:
            assert all(ring[0] == ring[-1] for ring in (shell, *holes))
            assert shapely.is_ccw(shapely.LinearRing(shell))
            assert not any(shapely.is_ccw(shapely.LinearRing(hole)) for hole in holes)
        assert shapely.geometry.shape(geometry).is_valid
    ids = [feature["id"] for feature in content["features"]]
    assert len(set(ids)) == len(ids) and all(str(uuid.UUID(i)) == i for i in ids)
    return content


def results_of(scored: Any, *, value: float = 0.8, **options: Any) -> Results:
    threshold = value_threshold(scored.roles["uncertainty"], value)
    return Results(scored, {"uncertainty": threshold}, **options)


@pytest.fixture
def results(make_run: MakeRun, scattered: NDArray[np.bool_]) -> Results:
    return results_of(make_run(scattered))


def test_regions_are_as_qupath_writes_annotations(results: Results, tmp_path: Path) -> None:
    content = load(write_regions(results, tmp_path / "r.geojson"))
    regions = results.regions["uncertainty"]
    assert len(content["features"]) == len(regions) > 3
    for feature, region in zip(content["features"], regions, strict=True):
        said = feature["properties"]
        assert said["objectType"] == "annotation"
        assert said["name"] == f"Uncertain {region.number}"
        assert said["classification"] == {"name": "Uncertain", "color": [241, 105, 19]}
        assert said["measurements"]["uncertainty peak"] == pytest.approx(region.peak)
        assert said["measurements"]["Tiles"] == region.n_tiles
        area = shapely.geometry.shape(feature["geometry"]).area
        assert area == pytest.approx(region.n_tiles * 64 * 64)
        assert said["measurements"]["Area mm^2"] == pytest.approx(area * 0.5 * 0.5 * 1e-6)
        assert all(isinstance(value, str) for value in said["metadata"].values())
        assert None not in said.values(), "QuPath stops at null names"


def test_ids_stay_the_same_from_export_to_export(results: Results, tmp_path: Path) -> None:
    first, second = (load(write_regions(results, tmp_path / n)) for n in ("a.json", "b.json"))
    assert [f["id"] for f in first["features"]] == [f["id"] for f in second["features"]]


def test_predictions_cover_each_class_once(results: Results, tmp_path: Path) -> None:
    path = write_prediction(results, tmp_path / "p.geojson")
    content = load(path)
    scored = results.scored
    names = {f["properties"]["classification"]["name"] for f in content["features"]}
    assert names <= set(scored.classes)
    back = read_geojson(path).annotations
    for annotation in back:
        number = scored.classes.index(annotation.names[0])
        mask = roi_mask([annotation], scored.run.grid)
        assert np.array_equal(mask, scored.run.prediction_map() == number)
    assert sum(roi_mask([a], scored.run.grid).sum() for a in back) == len(scored.index)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    done=hnp.arrays(bool, st.tuples(st.integers(1, 8), st.integers(1, 8))),
    origin=st.tuples(st.integers(0, 3000), st.integers(0, 3000)),
    stride=st.sampled_from([16, 32, 33, 50]),
    step=st.floats(0.35, 3.9),
    value=st.floats(0.0, 1.1),
)
def test_exact_round_trip_of_tiles_and_geometry(
    done: NDArray[np.bool_],
    origin: tuple[int, int],
    stride: int,
    step: float,
    value: float,
    tiny_bundle: Bundle,
    run_writer: MakeRun,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Holes, islands, any stride and scale, counted from a corner of the scanned part."""
    folder = tmp_path_factory.mktemp("trip")
    n_rows, n_cols = done.shape
    # The last tile in each direction reaches a little beyond the slide.
    shape = tuple(int(((n - 1) * stride + 30) * step) + 3000 for n in (n_rows, n_cols))
    region = (3000.0, 3000.0, shape[0] - 3000.0, shape[1] - 3000.0)
    grid = TileGrid.over(shape, 32, (step, step), region, stride)
    done = np.resize(done, (grid.rows, grid.cols))
    scored = run_writer(folder / "t.ood.zarr", tiny_bundle, done, grid=grid)
    results = results_of(scored, value=value, origin=origin)
    path = write_regions(results, folder / "r.geojson")
    load(path)
    regions = results.regions["uncertainty"]
    if not regions:
        with pytest.raises(ExportError, match="no GeoJSON with objects"):
            read_geojson(path)
        return
    annotations = read_geojson(path).annotations
    for region_, annotation in zip(regions, annotations, strict=True):
        mask = roi_mask([annotation], grid)
        assert np.array_equal(np.argwhere(mask), region_.cells)
    flagged = scored.on_grid(results.flagged["uncertainty"], False)
    assert np.array_equal(roi_mask(annotations, grid), flagged)
    drawn = shapely.union_all([shapely.box(*_cell(results, r, c)) for r, c in np.argwhere(flagged)])
    came_back = shapely.union_all([annotation.outline for annotation in annotations])
    assert shapely.hausdorff_distance(drawn, came_back) < 1e-6
    assert came_back.area == pytest.approx(drawn.area)


def _cell(results: Results, row: int, col: int) -> tuple[float, float, float, float]:
    x, y = results.lattice.x, results.lattice.y
    return x[col], y[row], x[col + 1], y[row + 1]


def test_a_slide_with_bounds_is_counted_from_its_scanned_part(
    make_run: MakeRun, scattered: NDArray[np.bool_], tmp_path: Path
) -> None:
    """QuPath's OpenSlide server crops to openslide.bounds-*, so its origin is that corner."""
    done = scattered
    plain = make_run(done, name="plain")
    cropped = make_run(done, name="cropped", bounds=(100, 37, 600, 900))
    assert qupath_origin(plain) == ((0, 0), None)
    assert qupath_origin(cropped) == ((100, 37), None)
    paths = []
    for scored in (plain, cropped):
        results = results_of(scored, origin=qupath_origin(scored)[0])
        paths.append(write_regions(results, tmp_path / f"{results.name}.geojson"))
    for a, b in zip(*(load(path)["features"] for path in paths), strict=True):
        moved = shapely.transform(
            shapely.geometry.shape(b["geometry"]), lambda p: p + np.array([37, 100])
        )
        assert shapely.equals(moved, shapely.geometry.shape(a["geometry"]))
    assert np.array_equal(*(roi_mask(read_geojson(p).annotations, plain.run.grid) for p in paths))
    # QuPath's own export does not say where it counts from: the run's record does.
    content = json.loads(paths[1].read_text("utf-8"))
    del content["napari_ood"]
    bare = tmp_path / "qupath.geojson"
    bare.write_text(json.dumps(content), "utf-8")
    origin = qupath_origin(cropped)[0]
    mask = roi_mask(read_geojson(bare, origin).annotations, plain.run.grid)
    assert np.array_equal(mask, roi_mask(read_geojson(paths[0]).annotations, plain.run.grid))


def test_bounds_count_only_when_all_four_are_whole_numbers() -> None:
    stated = {f"openslide.bounds-{k}": str(i) for i, k in enumerate(("y", "x", "height", "width"))}
    assert scanned_bounds(stated) == (0, 1, 2, 3)
    assert scanned_bounds(stated | {"openslide.bounds-x": "12.5"}) is None
    assert scanned_bounds({k: v for k, v in stated.items() if "width" not in k}) is None


def test_an_old_run_without_bounds_and_slide_gets_a_note(make_run: MakeRun) -> None:
    scored = make_run(np.ones((2, 2), bool))
    del scored.run.provenance["slide"]["bounds"]
    origin, note = qupath_origin(scored)
    assert origin == (0, 0) and note is not None and "--slide" in note


def _verdicts(results: Results) -> tuple[Verdict, ...]:
    regions = results.regions["uncertainty"]
    kinds: list[dict[str, Any]] = [
        {"kind": Kind.AGREE},
        {"kind": Kind.WRONG_CLASS},
        {"kind": Kind.ARTEFACT, "artefact": Artefact.PEN, "comment": 'blue "ink", µ\n2nd line'},
        {"kind": Kind.UNKNOWN_TISSUE, "comment": "nerve?"},
        {"kind": Kind.SKIP},
    ]
    made = []
    for region, options in zip(regions, kinds, strict=False):
        if options["kind"] is Kind.WRONG_CLASS:
            others = [c for c in results.scored.classes if c != region.label]
            options["label"] = others[0]
        made.append(Verdict.of(region, reviewer="Dr. Ä", threshold=0.8, **options))
    return tuple(made)


def test_verdicts_come_back_as_they_were(results: Results, tmp_path: Path) -> None:
    verdicts = _verdicts(results)
    assert len({v.kind for v in verdicts}) == 5
    judged = Results(results.scored, results.thresholds, {"Dr. Ä": verdicts}, origin=(12, 34))
    path = write_verdicts(judged, tmp_path / "v.geojson")
    classified = [f["properties"]["classification"] for f in load(path)["features"]]
    assert classified[2] == {"names": ["Artefact", "pen"], "color": [120, 120, 120]}
    assert classified[0]["name"] == verdicts[0].prediction
    back = as_verdicts(read_geojson(path).annotations, results.scored)
    assert back.verdicts == verdicts and not back.passed_over
    regions = load(write_regions(judged, tmp_path / "r.geojson"))["features"]
    assert regions[2]["properties"]["metadata"]["verdict of Dr. Ä"].startswith("artefact: pen (")


def test_what_was_reclassified_in_qupath_is_a_new_verdict(results: Results, tmp_path: Path) -> None:
    verdicts = _verdicts(results)
    path = write_verdicts(
        Results(results.scored, results.thresholds, {"A": verdicts}), tmp_path / "v.geojson"
    )
    content = load(path)
    said = content["features"][0]["properties"]
    said["classification"] = {"name": "Artifact", "color": [0, 0, 0]}
    path.write_text(json.dumps(content), "utf-8")
    back = as_verdicts(read_geojson(path).annotations, results.scored, "B")
    assert (back.verdicts[0].kind, back.verdicts[0].artefact) == (Kind.ARTEFACT, Artefact.OTHER)
    assert back.verdicts[0].time > verdicts[0].time and back.verdicts[0].reviewer == "B"
    assert back.verdicts[1].kind is Kind.WRONG_CLASS and back.verdicts[1].time == verdicts[1].time


def _drawn(scored: Any, *, name: str | None, rings: Any = None, **more: Any) -> dict[str, Any]:
    lattice_box = [[[0, 0], [200, 0], [200, 200], [0, 200], [0, 0]]]
    properties: dict[str, Any] = {"objectType": "annotation", **more}
    if name:
        properties["classification"] = {"name": name, "color": [200, 0, 0]}
    return {
        "type": "Feature",
        "id": str(uuid.uuid4()),
        "geometry": {"type": "Polygon", "coordinates": rings or lattice_box},
        "properties": properties,
    }


def test_what_was_drawn_in_qupath_is_a_verdict_by_its_class(
    make_run: MakeRun, tmp_path: Path
) -> None:
    logits = np.zeros((36, 3, 3), np.float32)
    logits[..., 1] = 4.0  # all tiles are predicted to be "green"
    scored = make_run(np.ones((6, 6), bool), logits=logits)
    file = tmp_path / "drawn.geojson"
    drawn = [
        _drawn(scored, name="Green"),
        _drawn(scored, name="red*"),
        _drawn(scored, name="Stroma"),
        _drawn(scored, name=None),
        _drawn(scored, name="red", rings=[[[0, 0], [5, 0], [5, 5], [0, 0]]]),
    ]
    file.write_text(json.dumps(drawn), "utf-8")
    back = as_verdicts(read_geojson(file).annotations, scored, "A")
    assert [v.kind for v in back.verdicts] == [Kind.AGREE, Kind.WRONG_CLASS]
    assert back.verdicts[1].label == "red" and back.verdicts[1].prediction == "green"
    assert back.verdicts[0].tiles == tuple((r, c) for r in range(3) for c in range(3))
    assert back.verdicts[0].region_key != back.verdicts[1].region_key, "none replaces another"
    assert back.verdicts[0].box == (0, 0, 192, 192)
    assert len(back.passed_over) == 3
    assert "'Stroma' is no class of the bundle" in back.passed_over[0]
    assert "no finished tile" in back.passed_over[2]


@pytest.mark.parametrize("wrap", ["collection", "list", "single", "gz", "zip", "geometry"])
def test_every_form_that_qupath_writes_is_read(
    wrap: str, make_run: MakeRun, tmp_path: Path
) -> None:
    scored = make_run(np.ones((6, 6), bool))
    feature = _drawn(scored, name="red", measurements={"a": float("nan"), "b": 2})
    content: Any = {
        "list": [feature],
        "single": feature,
        "geometry": feature["geometry"],
    }.get(wrap, {"type": "FeatureCollection", "features": [feature]})
    text = ("\ufeff" + json.dumps(content)).encode()
    file = tmp_path / f"a.geojson{'.gz' if wrap == 'gz' else ''}"
    if wrap == "zip":
        file = tmp_path / "a.zip"
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a.geojson", text)
    else:
        file.write_bytes(gzip.compress(text) if wrap == "gz" else text)
    (annotation,) = read_geojson(file).annotations
    assert annotation.outline.area == 200 * 200
    assert roi_mask([annotation], scored.run.grid).sum() == 9
    if wrap != "geometry":
        assert annotation.names == ("red",) and annotation.measurements == {"b": 2.0}


def test_old_classifications_and_measurements_are_read(tmp_path: Path) -> None:
    feature = _drawn(None, name=None, measurements=[{"name": "a", "value": 1.5}])
    feature["properties"]["classification"] = {"name": "Tumor: Positive", "colorRGB": -3670016}
    (tmp_path / "a.geojson").write_text(json.dumps(feature), "utf-8")
    (annotation,) = read_geojson(tmp_path / "a.geojson").annotations
    assert annotation.names == ("Tumor", "Positive") and annotation.measurements == {"a": 1.5}


def test_what_qupath_0_7_writes_is_read(tmp_path: Path) -> None:
    """Member by member as in its exports: no key that is empty, NaN as text, cells and ellipses."""
    text = """[{"type":"Feature","id":"11111111-1111-4111-8111-111111111111","geometry":{"type":
    "Polygon","coordinates":[[[10, 20],[10, 70],[60, 70],[60, 20],[10, 20]]],"plane":{"c":-1,"z":2,
    "t":1}},"properties":{"objectType":"annotation","name":"a","classification":{"names":["Tumor",
    "Positive"],"color":[200, 50, 50]},"isLocked":true,"measurements":{"Area px^2":2500.0,"Mean":
    "NaN"},"metadata":{"ANNOTATION_DESCRIPTION":"seen"},"metadata":{"ANNOTATION_DESCRIPTION":"seen"},
    "childObjects":[{"type":"Feature","geometry":{"type":"Polygon","coordinates":[[[12, 22],[12, 30]
    ,[20, 30],[12, 22]]],"isEllipse":true},"properties":{"objectType":"annotation"}}]}},
    {"type":"Feature","geometry":{"type":"Polygon","coordinates":[[[0, 0],[0, 9],[9, 9],[0, 0]]]},
    "nucleusGeometry":{"type":"Polygon","coordinates":[[[1, 2],[1, 4],[2, 4],[1, 2]]]},
    "properties":{"objectType":"cell","classification":{"name":"Tumor","color":[200, 0, 0]}}},
    {"type":"Feature","id":"PathCellObject","geometry":{"type":"Polygon","coordinates":
    [[[0, 0],[0, 9],[9, 9],[0, 0]]]},"properties":{}},
    {"type":"Feature","geometry":{"type":"MultiPoint","coordinates":[[1, 2],[3, 4],[5, 6]]},
    "properties":{"objectType":"annotation"}}]"""
    path = tmp_path / "a.geojson"
    path.write_text(text, "utf-8")
    found = read_geojson(path)
    first, second = found.annotations
    assert (first.names, first.name) == (("Tumor", "Positive"), "a")
    assert first.measurements == {"Area px^2": 2500.0} and first.outline.area == 2500
    assert first.metadata == {"ANNOTATION_DESCRIPTION": "seen"}
    assert second.names == () and second.outline.area == 32
    assert found.passed_over == ("feature 5 is a MultiPoint", "2 cells, not annotations")


def test_a_drawing_that_crosses_itself_is_repaired(tmp_path: Path) -> None:
    bow_tie = [[[0, 0], [100, 100], [100, 0], [0, 100], [0, 0]]]
    (tmp_path / "a.geojson").write_text(json.dumps(_drawn(None, name=None, rings=bow_tie)), "utf-8")
    (annotation,) = read_geojson(tmp_path / "a.geojson").annotations
    assert annotation.outline.is_valid and annotation.outline.area == pytest.approx(5000)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no GeoJSON"),
        ('{"a": 1}', "no GeoJSON with objects"),
        ("[1, 2]", "no GeoJSON with objects"),
        ('{"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}}', "nothing"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}', "feature 1 is damaged"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [NaN, 1], [1, 1], [0, 0]]]}', "not a num"),
        ('{"type": "Polygon", "coordinates": 5}', "feature 1 is damaged"),
        ('{"type": "Polygon"}', "feature 1 is damaged"),
        ('{"type": "Polygon", "coordinates": [[["a", 0], [1, 1], [2, 2]]]}', "feature 1"),
    ],
)
def test_bad_files_get_one_line(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.geojson").write_text(content, "utf-8")
    with pytest.raises(ExportError, match=message) as caught:
        read_geojson(tmp_path / "a.geojson")
    assert "\n" not in str(caught.value)


def test_no_number_that_json_lacks(make_run: MakeRun, tmp_path: Path) -> None:
    """Tiles whose logits are NaN are in no region, and no measurement is NaN."""
    logits = np.random.default_rng(0).normal(0, 2, (25, 3, 3)).astype(np.float32)
    logits[:5] = np.nan
    scored = make_run(np.ones((5, 5), bool), logits=logits, mpp=None)
    results = results_of(scored, value=-1.0)
    content = load(write_regions(results, tmp_path / "r.geojson"))
    assert sum(f["properties"]["measurements"]["Tiles"] for f in content["features"]) == 20
    content = load(write_prediction(results, tmp_path / "p.geojson"))
    measured = [f["properties"]["measurements"] for f in content["features"]]
    assert sum(m["Tiles"] for m in measured) == 20
    assert not any("Area mm^2" in m for m in measured)
    assert all(math.isfinite(v) for m in measured for v in m.values())


@pytest.mark.parametrize("n", [0, 1])
def test_runs_of_no_tile_and_of_one(n: int, make_run: MakeRun, tmp_path: Path) -> None:
    done = np.zeros((3, 3), bool)
    done.flat[:n] = True
    results = results_of(make_run(done), value=-1.0)
    assert len(load(write_regions(results, tmp_path / "r.geojson"))["features"]) == n
    assert len(load(write_prediction(results, tmp_path / "p.geojson"))["features"]) == n


def test_regions_of_several_roles_do_not_mix(
    make_run: MakeRun, scattered: NDArray[np.bool_], tmp_path: Path
) -> None:
    scored = make_run(scattered)
    thresholds = {
        "uncertainty": value_threshold("entropy", 0.7),
        "ood": Threshold("mahalanobis@layer1", float(np.median(scored.score("ood")))),
    }
    content = load(write_regions(Results(scored, thresholds), tmp_path / "r.geojson"))
    by_role = {"uncertainty": 0, "ood": 0}
    for feature in content["features"]:
        by_role[feature["properties"]["metadata"]["role"]] += 1
    for role, threshold in thresholds.items():
        flagged = scored.flagged(threshold)
        assert by_role[role] == len(find_regions(scored, flagged, role)) > 0
