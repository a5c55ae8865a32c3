"""What QuPath gives back: as review and as region of interest of a run."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from napari_ood import Bundle
from napari_ood.analysis.scored import ScoredRun
from napari_ood.analysis.summary import summarise, summarise_part
from napari_ood.errors import ExportError, ReviewError
from napari_ood.export import import_review, import_roi, qupath_origin, write_roi
from napari_ood.export.exporter import export_run, read_verdicts
from napari_ood.review import Kind, ReviewStore, Verdict, review_folder, run_identity
from napari_ood.scores.thresholds import value_threshold

MakeRun = Callable[..., ScoredRun]
THRESHOLD = {"uncertainty": value_threshold("entropy", 0.8)}
BOUNDS = (100, 37, 600, 900)


def judge(scored: ScoredRun, reviewer: str, n: int = 4) -> tuple[Verdict, ...]:
    """Verdicts of every kind on the first regions, in the store beside the run."""
    from napari_ood.analysis.regions import find_regions

    threshold = THRESHOLD["uncertainty"]
    regions = find_regions(scored, scored.flagged(threshold), threshold.score)
    store = ReviewStore(review_folder(scored.run.path), run_identity(scored.run), reviewer)
    kinds: list[dict[str, Any]] = [
        {"kind": Kind.AGREE},
        {"kind": Kind.ARTEFACT, "artefact": "pen", "comment": "ink\n“blue”"},
        {"kind": Kind.UNKNOWN_TISSUE},
        {"kind": Kind.SKIP},
    ]
    for region, options in zip(regions, kinds[:n], strict=False):
        store.add(Verdict.of(region, reviewer=reviewer, threshold=threshold.value, **options))
    return store.verdicts()


def as_qupath_writes(path: Path, change: Callable[[dict[str, Any]], None] | None = None) -> Path:
    """What QuPath makes of a file: a bare collection without our own member, locked objects."""
    content = json.loads(path.read_text("utf-8"))
    features = content["features"]
    for feature in features:
        feature["properties"]["isLocked"] = True
        if change is not None:
            change(feature)
    out = path.with_name("qupath.geojson")
    out.write_text(json.dumps({"type": "FeatureCollection", "features": features}), "utf-8")
    return out


def polygon(*rings: list[tuple[float, float]], name: str | None = None) -> dict[str, Any]:
    properties: dict[str, Any] = {"objectType": "annotation", "isLocked": False}
    if name:
        properties["classification"] = {"name": name, "color": [200, 0, 0]}
    coordinates = [[*ring, ring[0]] for ring in rings]
    geometry = {"type": "Polygon", "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def box(x0: float, y0: float, x1: float, y1: float) -> list[tuple[float, float]]:
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def saved(path: Path, *features: dict[str, Any]) -> Path:
    path.write_text(json.dumps(list(features)), "utf-8")
    return path


@pytest.mark.parametrize("through_qupath", [False, True])
@pytest.mark.parametrize("bounds", [None, BOUNDS])
def test_a_review_moves_to_another_computer(
    make_run: MakeRun,
    scattered: NDArray[np.bool_],
    tmp_path: Path,
    bounds: tuple[int, int, int, int] | None,
    through_qupath: bool,
) -> None:
    scored = make_run(scattered, bounds=bounds)
    given_ = {name: judge(scored, name) for name in ("Dr. Ä", "B")}
    export_run(scored, tmp_path, ["geojson"], THRESHOLD)
    path = tmp_path / "drawn.review.geojson"
    path = as_qupath_writes(path) if through_qupath else path
    elsewhere = tmp_path / "elsewhere"
    summary = import_review(path, scored, "C", review=elsewhere)
    assert set(summary.added) == {v for given__ in given_.values() for v in given__}
    assert read_verdicts(scored, elsewhere) == given_, "C drew nothing, so nothing is C's"
    again = import_review(path, scored.run.path, "C", review=elsewhere)
    assert (again.added, again.n_known, again.conflicts) == ((), 8, ())
    assert read_verdicts(scored, elsewhere) == given_
    assert "8 known already" in again.words


def test_of_two_that_differ_the_later_counts_and_undo_brings_back_the_other(
    make_run: MakeRun, scattered: NDArray[np.bool_], tmp_path: Path
) -> None:
    scored = make_run(scattered)
    before = judge(scored, "A", 2)
    export_run(scored, tmp_path, ["geojson"], THRESHOLD)

    def is_fold(feature: dict[str, Any]) -> None:
        feature["properties"]["classification"] = {"names": ["Artefact", "fold"]}

    path = as_qupath_writes(tmp_path / "drawn.review.geojson", is_fold)
    os.utime(path, (time.time() + 3600, time.time() + 3600))  # a clock that is ahead
    summary = import_review(path, scored, "A")
    assert [v.category for v in summary.added] == ["artefact: fold"] * 2
    assert [(c.stored, c.replaced) for c in summary.conflicts] == [(v, True) for v in before]
    assert "later and counts now" in summary.conflicts[0].words
    store = ReviewStore(review_folder(scored.run.path), run_identity(scored.run), "A")
    assert store.verdicts()[0].time <= time.strftime("%Y-%m-%dT%H:%M:%S.999", time.gmtime())
    store.undo()
    assert before[1] in store.verdicts()
    os.utime(path)
    time.sleep(0.002)  # what comes now is later than the file, which changes nothing any more
    store.add(Verdict.of(_region(before[1]), Kind.SKIP, reviewer="A"))
    again = import_review(path, scored, "A")
    assert (again.added, again.n_known) == ((), 1)
    assert [(c.stored.kind, c.replaced) for c in again.conflicts] == [(Kind.SKIP, False)]
    assert "1 left out for later ones" in again.words


def _region(verdict: Verdict) -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(
        key=verdict.region_key, box=verdict.box, cells=verdict.cells, score="entropy",
        label=verdict.prediction,
    )  # fmt: skip


def test_what_is_drawn_needs_a_name_and_is_added_once_at_any_temperature(
    make_run: MakeRun, tmp_path: Path
) -> None:
    scored = make_run(np.ones((6, 6), bool))
    path = saved(
        tmp_path / "d.json",
        polygon(box(0, 0, 200, 200), name="Artefact: pen"),
        polygon(box(200, 200, 390, 390), name="Unknown tissue"),
        polygon(box(0, 200, 60, 390), name="Stroma"),
    )
    with pytest.raises(ExportError, match="name the reviewer"):
        import_review(path, scored)
    with pytest.raises(ReviewError, match="reviewer's name"):
        import_review(path, scored, "  ")
    summary = import_review(path, scored, "A")
    assert [v.kind for v in summary.added] == [Kind.ARTEFACT, Kind.UNKNOWN_TISSUE]
    assert len(summary.passed_over) == 1 and "1 object passed over" in summary.words
    hot = scored.with_temperature(50.0)
    assert import_review(path, hot, " a ").n_known == 2, "peaks move, places do not"


def test_a_file_of_another_slide_is_refused(
    make_run: MakeRun, scattered: NDArray[np.bool_], tmp_path: Path
) -> None:
    scored = make_run(scattered)
    judge(scored, "A")
    export_run(scored, tmp_path, ["geojson"], THRESHOLD)
    other = make_run(scattered, name="other", slide={"fingerprint": "1" * 64, "name": "other"})
    for read in (import_review, import_roi):
        with pytest.raises(ExportError, match="of another slide, drawn, and the run is of other"):
            read(tmp_path / "drawn.review.geojson", other)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    outer=st.tuples(*[st.integers(0, 380)] * 2, *[st.integers(130, 500)] * 2),
    hole=st.tuples(*[st.floats(0.05, 0.45)] * 2, *[st.floats(0.55, 0.95)] * 2),
    island=st.booleans(),
    cropped=st.booleans(),
)
def test_a_roi_has_the_tiles_whose_middle_lies_in_it(
    outer: tuple[int, int, int, int],
    hole: tuple[float, float, float, float],
    island: bool,
    cropped: bool,
    tiny_bundle: Bundle,
    run_writer: MakeRun,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Holes, a second polygon, a slide with bounds: by shapely, tile by tile."""
    folder = tmp_path_factory.mktemp("roi")
    done = np.random.default_rng(0).random((16, 16)) < 0.8
    scored = run_writer(
        folder / "r.ood.zarr", tiny_bundle, done, bounds=BOUNDS if cropped else None
    )
    x, y, w, h = outer
    inner = box(x + hole[0] * w, y + hole[1] * h, x + hole[2] * w, y + hole[3] * h)
    shape = polygon(box(x, y, x + w, y + h), inner)
    if island:
        part = polygon(box(900, 900, 1000, 1000))["geometry"]["coordinates"]
        coordinates = [shape["geometry"]["coordinates"], part]
        shape["geometry"] = {"type": "MultiPolygon", "coordinates": coordinates}
    top, left = qupath_origin(scored)[0]
    area = shapely.transform(
        shapely.geometry.shape(shape["geometry"]), lambda p: p + np.array([left, top])
    )
    middles = scored.boxes[:, [1, 0]] + 32
    inside = shapely.contains_xy(area, middles)
    path = saved(folder / "roi.geojson", shape)
    if not shapely.contains_xy(area, scored.run.grid.boxes()[:, [1, 0]] + 32).any():
        with pytest.raises(ExportError, match="the middle of no tile"):
            import_roi(path, scored, THRESHOLD)
        return
    roi = import_roi(path, scored, THRESHOLD)
    np.testing.assert_array_equal(roi.tiles, np.flatnonzero(inside))
    flagged = scored.score("entropy") > THRESHOLD["uncertainty"].value32
    assert roi.summaries["uncertainty"].n_flagged == (flagged & inside).sum()
    counts = np.bincount(scored.prediction()[inside], minlength=3)
    assert dict(roi.per_class) == dict(zip(scored.classes, counts.tolist(), strict=True))
    assert roi.outline_mm2 == pytest.approx(area.area * 0.25e-6)
    assert roi.mm2 == pytest.approx(inside.sum() * 64 * 64 * 0.25e-6)


def test_the_whole_slide_as_a_roi_is_the_whole_run(
    make_run: MakeRun, scattered: NDArray[np.bool_], tmp_path: Path
) -> None:
    logits = np.random.default_rng(0).normal(0, 2, (scattered.sum(), 3, 3)).astype(np.float32)
    logits[::7] = np.nan
    scored = make_run(scattered, logits=logits)
    path = saved(tmp_path / "all.geojson", polygon(box(-10, -10, 2000, 2000)))
    roi = import_roi(path, scored, THRESHOLD)
    whole = summarise(scored, THRESHOLD["uncertainty"])
    assert roi.summaries["uncertainty"] == whole
    nothing = summarise_part(scored, THRESHOLD["uncertainty"], np.zeros(0, np.int64))
    assert (nothing.n_tiles, nothing.words()) == (0, "no tiles yet")


def test_tables_of_a_roi_are_rows_of_the_export(
    make_run: MakeRun, scattered: NDArray[np.bool_], tmp_path: Path
) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    scored = make_run(scattered)
    judge(scored, "A")
    export_run(scored, tmp_path, ["csv"], THRESHOLD)
    path = saved(
        tmp_path / "roi.geojson",
        polygon(box(100, 100, 500, 500), name="Tumor"),
        polygon(box(0, 0, 2000, 2000), name="Ignore*"),
    )
    roi = import_roi(path, scored, THRESHOLD, classes=["tumor"])
    assert 0 < roi.n_tiles < len(scored.index)
    with (tmp_path / "drawn.tiles.csv").open(newline="") as file:
        every = list(csv.DictReader(file))
    with write_roi(roi, tmp_path / "roi.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [every[i] for i in roi.tiles]
    table = pq.read_table(write_roi(roi, tmp_path / "roi.parquet")).to_pylist()
    record = json.loads(write_roi(roi, tmp_path / "roi.json").read_text("utf-8"))
    assert len(record["tiles"]) == record["n_tiles"] == roi.n_tiles == len(table)
    for from_json, from_parquet in zip(record["tiles"], table, strict=True):
        assert from_json.keys() == from_parquet.keys()
        for name, value in from_json.items():
            if isinstance(value, float):
                assert np.float32(value) == np.float32(from_parquet[name])
            else:
                assert value == from_parquet[name]
    with pytest.raises(ExportError, match=r"\.csv, \.parquet, \.json"):
        write_roi(roi, tmp_path / "roi.xlsx")
    with pytest.raises(ExportError, match="no annotation of class Necrosis: it has Ignore"):
        import_roi(path, scored, THRESHOLD, classes=["Necrosis"])
