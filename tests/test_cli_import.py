"""``napari-ood import``, and ``run`` inside of outlines."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_ood import open_run, open_slide, run_slide
from napari_ood.cli import main
from napari_ood.export import read_geojson, roi_mask


@pytest.fixture(scope="module")
def run(procedural_slide: Path, tiny_bundle: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "procedural.ood.zarr"
    with open_slide(procedural_slide) as slide:
        run_slide(slide, tiny_bundle, path, device="cpu")
    return path


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """An outline with a hole, as QuPath writes it."""
    rings = [
        [[100, 100], [800, 100], [800, 700], [100, 700], [100, 100]],
        [[300, 300], [500, 300], [500, 500], [300, 500], [300, 300]],
    ]
    properties = {"objectType": "annotation", "classification": {"names": ["Artefact", "pen"]}}
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": rings},
        "properties": properties,
    }
    path = tmp_path / "drawn.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}), "utf-8")
    return path


def command(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_outlines_are_summed_up_and_tabled(
    run: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--run", run, "--as", "roi", "--threshold", "ood=coverage:50%")
    table = tmp_path / "roi.csv"
    assert command("import", drawn, *options, "--out", table, "--json", tmp_path / "r.json") == 0
    said = capsys.readouterr().out
    record = json.loads((tmp_path / "r.json").read_text("utf-8"))
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    inside = roi_mask(read_geojson(drawn).annotations, open_run(run).grid) & open_run(run).done
    assert len(rows) == record["n_tiles"] == inside.sum() > 20
    ood = record["roles"]["ood"]
    assert ood["n_flagged"] == sum(row["flagged_ood"] == "1" for row in rows) > 0
    assert ood["threshold"]["meaning"] == "coverage"
    assert sum(record["per_class"].values()) == len(rows)
    assert f"{len(rows)}, {record['mm2']:.3g} mm²" in said and str(table) in said


def test_a_review_is_imported_once(
    run: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--run", run, "--reviewer", "Ann", "--review", tmp_path / "review")
    assert command("import", drawn, *options, "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["n_added_per_reviewer"] == {"Ann": 1}
    assert command("import", drawn, *options) == 0
    assert "0 verdicts added, 1 known already" in capsys.readouterr().out


def test_only_tiles_inside_of_the_outlines_are_run(
    run: Path, drawn: Path, procedural_slide: Path, tiny_bundle: Any, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    whole = open_run(run)
    asked = ("run", procedural_slide, "--model", tiny_bundle.path, "--device", "cpu")
    assert command(*asked, "--out", tmp_path, "--roi", drawn) == 0
    part = open_run(tmp_path / "procedural.ood.zarr")
    inside = roi_mask(read_geojson(drawn).annotations, whole.grid)
    np.testing.assert_array_equal(part.done, whole.done & inside)
    assert 0 < part.n_tiles < whole.n_tiles and part.complete
    np.testing.assert_allclose(part.logits, whole.logits[inside[whole.done]], atol=1e-4)
    capsys.readouterr()
    assert command(*asked, "--out", tmp_path) == 2
    assert "another region of interest" in capsys.readouterr().err
    assert command(*asked, "--out", tmp_path, "--roi", drawn) == 0
    assert "nothing was left to do" in capsys.readouterr().out


def test_errors_are_one_line(
    run: Path, drawn: Path, procedural_slide: Path, image_bundle: Any, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    roi = ("import", drawn, "--run", run, "--as", "roi")
    inside = ("--out", tmp_path / "o", "--roi", drawn)
    for arguments, message in (
        (("import", drawn, "--run", run), "name the reviewer"),
        (("import", tmp_path / "no.json", "--run", run), "cannot read"),
        ((*roi, "--reviewer", "A"), "--reviewer means nothing with --as roi"),
        ((*roi, "--out", tmp_path / "a.xlsx"), "end its name in .csv"),
        ((*roi, "--out", tmp_path / "no" / "a.csv"), "its folder does not exist"),
        ((*roi, "--class", "Tumor"), "no annotation of class Tumor: it has Artefact: pen"),
        (("import", drawn, "--run", run, "--class", "A", "--reviewer", "A"), "means nothing"),
        (("run", "a.tif", "b.tif", "--model", image_bundle.path, *inside), "one by one"),
        (("run", procedural_slide, "--model", image_bundle.path, *inside), "judges an image as a"),
    ):
        assert command(*arguments) == 2
        said = [line for line in capsys.readouterr().err.splitlines() if message in line]
        assert len(said) == 1, message
    assert not (tmp_path / "o" / "procedural.ood.zarr").exists()
