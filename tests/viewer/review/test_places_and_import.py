"""Places where two runs differ, and QuPath's verdicts, in the review queue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_ood import Bundle, Run, Slide, open_run
from napari_ood.analysis.difference import compare_runs
from napari_ood.analysis.diverging import By, diverging_regions
from napari_ood.analysis.scored import ScoredRun
from napari_ood.errors import ExportError
from napari_ood.review.verdicts import Kind
from napari_ood.viewer.outline_file import outline_layer_data
from napari_ood.viewer.places import Places, diverging_places, side_of
from napari_ood.viewer.review_queue import ReviewQueue
from napari_ood.viewer.review_state import Stage
from napari_ood.viewer.review_work import ReviewWork

from .conftest import PATCHES, TILE_PX, OpenQueue


class Turned:
    """A run whose network says the opposite about the patch ``large``."""

    def __init__(self, run: Run) -> None:
        self._run = run
        rows, cols = PATCHES["large"]
        inside = np.zeros(run.done.shape, bool)
        inside[rows, cols] = True
        self.logits = run.logits.copy()
        self.logits[inside[run.done]] *= -5

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run, name)


def places_of(queue: ReviewQueue, run: Run, bundle: Bundle) -> Places:
    a, b = ScoredRun(run, bundle), ScoredRun(Turned(open_run(run.path)), bundle)  # type: ignore[arg-type]
    difference = compare_runs(a, b, "entropy")
    assert queue.state.maps is not None
    assert side_of(difference, queue.state.maps) == "a"
    divergences = diverging_regions(difference, By.CLASS)
    return diverging_places(difference, divergences, By.CLASS, queue.state.maps)


def test_places_are_reviewed_and_their_verdicts_belong_to_the_run(
    open_queue: OpenQueue, run: Run, tiny_bundle: Bundle
) -> None:
    queue = open_queue()
    before = queue.state.regions
    places = places_of(queue, run, tiny_bundle)
    assert [region.n_tiles for region in places.regions] == [20]
    queue._session.set_places(places)
    assert queue.wait()
    assert queue.state.regions == places.regions
    queue.go_next()
    queue.judge(Kind.UNKNOWN_TISSUE)
    assert queue.state.n_done == 1
    queue.undo()
    assert queue.state.n_done == 0
    queue.redo()
    queue._session.set_places(None)
    assert queue.wait()
    assert [r.key for r in queue.state.regions] == [r.key for r in before]
    large = max(queue.state.regions, key=lambda region: region.n_tiles)
    assert queue.state.verdict_on(large).kind is Kind.UNKNOWN_TISSUE, "the tiles are the same"
    assert queue.state.n_done == 1


def test_places_of_another_run_are_not_reviewed(
    open_queue: OpenQueue, run: Run, tiny_bundle: Bundle
) -> None:
    queue, other = open_queue(), open_queue()
    queue._session.set_places(places_of(other, run, tiny_bundle))
    assert queue.wait()
    assert queue.state.places is None
    assert len(queue.state.regions) == 3


def write_geojson(path: Path, name: str, slices: tuple[slice, slice]) -> Path:
    """One classified rectangle, as QuPath writes it."""
    rows, cols = slices
    top, bottom = rows.start * TILE_PX, rows.stop * TILE_PX
    left, right = cols.start * TILE_PX, cols.stop * TILE_PX
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation", "classification": {"name": name}},
    }
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return path


def finish(work: ReviewWork) -> None:
    while work.poll():
        assert work.wait(30)


def test_verdicts_from_qupath_appear_in_the_queue(open_queue: OpenQueue, tmp_path: Path) -> None:
    queue = open_queue()
    work, told = ReviewWork(queue), []
    work.imported.connect(told.append)
    work.failed.connect(told.append)
    file = write_geojson(tmp_path / "drawn.geojson", "Unknown tissue", PATCHES["large"])
    work.import_from(file)
    finish(work)
    assert told[0].startswith("drawn.geojson: 1 verdict added")
    assert "Ada 1" in told[0]
    assert queue.state.n_done == 1
    work.import_from(file)
    finish(work)
    assert "1 known already" in told[1]
    work.import_from(tmp_path / "absent.geojson")
    finish(work)
    assert "cannot read" in told[2]
    assert queue.state.stage is Stage.READY
    queue.undo()
    assert queue.state.n_done == 0


def test_agreement_is_worked_out_in_a_thread(open_queue: OpenQueue) -> None:
    queue = open_queue()
    queue.go_next()
    queue.judge(Kind.AGREE)
    work, told = ReviewWork(queue), []
    work.figured.connect(told.append)
    work.figure()
    assert work.poll()
    assert told == []
    while work.poll():
        pass
    assert "Ada 1" in told[0]
    assert "Errors of the model" in told[0]


def test_outlines_lie_on_the_slide_in_micrometres(slide: Slide, tmp_path: Path) -> None:
    file = write_geojson(tmp_path / "roi.geojson", "Tumor", PATCHES["row"])
    (ring,), options, kind = outline_layer_data(file, slide)
    assert (kind, options["units"], options["features"]["class"]) == (
        "shapes",
        ("um", "um"),
        ["Tumor"],
    )
    # Row 1, columns 1 to 3 of tiles of 64 px at 0.5 µm; the edge of a pixel is half of one off.
    assert ring.min(axis=0).tolist() == [31.75, 31.75]
    assert ring.max(axis=0).tolist() == [63.75, 127.75]
    with pytest.raises(ExportError, match="open the slide"):
        outline_layer_data(file, None)
