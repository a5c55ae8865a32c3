"""Tables of tiles: what they hold, exactly."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from napari_ood.errors import ExportCancelled, ExportError
from napari_ood.export import tables
from napari_ood.export.files import watched
from napari_ood.export.results import Results
from napari_ood.export.tables import write_csv, write_parquet
from napari_ood.review import Artefact, Kind, Verdict
from napari_ood.scores.thresholds import value_threshold

MakeRun = Callable[..., Any]


@pytest.fixture
def results(make_run: MakeRun, scattered: NDArray[np.bool_]) -> Results:
    scored = make_run(scattered)
    thresholds = {"uncertainty": value_threshold("entropy", 0.8)}
    region = Results(scored, thresholds).regions["uncertainty"][1]
    verdict = Verdict.of(region, Kind.ARTEFACT, artefact=Artefact.PEN, reviewer="A, B")
    return Results(scored, thresholds, {"A, B": (verdict,)})


def check(row: dict[str, Any], i: int, results: Results) -> None:
    """One row against the run."""
    scored = results.scored
    assert (row["row"], row["col"]) == tuple(scored.index[i])
    y, x, h, w = scored.boxes[i]
    assert (row["x"], row["y"], row["width"], row["height"]) == (x, y, w, h)
    assert (row["mpp_x"], row["mpp_y"]) == (0.5, 0.5)
    assert row["prediction"] == scored.classes[scored.prediction()[i]]
    for number, label in enumerate(scored.classes):
        assert np.float32(row[f"probability_{label}"]) == scored.probabilities()[i, number]
    for role in ("uncertainty", "ood"):
        assert np.float32(row[f"score_{role}"]) == scored.score(role)[i]
    flagged = bool(scored.score("entropy")[i] > np.float32(0.8))
    assert row["flagged_uncertainty"] == flagged
    region = next((r for r in results.regions["uncertainty"] if i in r.tiles), None)
    assert (region is not None) == flagged
    assert row["region_uncertainty"] == (region and region.number)
    assert row["verdict_A, B"] == ("artefact: pen" if region and region.number == 2 else None)


def test_csv(results: Results, tmp_path: Path) -> None:
    path = write_csv(results, tmp_path / "t.csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(results.scored.index)
    for i, row in enumerate(rows):
        typed: dict[str, Any] = dict(row)
        for name, text in row.items():
            if name in ("prediction", "verdict_A, B"):
                typed[name] = text or None
            elif name.startswith("flagged"):
                typed[name] = {"0": False, "1": True}[text]
            else:
                typed[name] = float(text) if text else None
        check(typed, i, results)


def test_parquet_has_types_and_provenance(results: Results, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(write_parquet(results, tmp_path / "t.parquet"))
    for i, row in enumerate(table.to_pylist()):
        check(row, i, results)
    types = {field.name: str(field.type) for field in table.schema}
    assert types["row"] == "int32" and types["x"] == "double"
    assert types["score_ood"] == "float" and types["flagged_uncertainty"] == "bool"
    assert types["prediction"].startswith("dictionary<values=string")
    about = json.loads(table.schema.metadata[b"napari_ood"])
    assert about["thresholds"]["uncertainty"]["value"] == 0.8
    assert about["bundle"]["hashes"] == results.scored.run.provenance["bundle"]["hashes"]


def test_unknown_values_are_empty(make_run: MakeRun, tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(0, 2, (9, 3, 3)).astype(np.float32)
    logits[4] = np.nan
    results = Results(make_run(np.ones((3, 3), bool), logits=logits, mpp=None))
    path = write_csv(results, tmp_path / "t.csv")
    rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    for i, row in enumerate(rows):
        unknown = {"mpp_x", "mpp_y"}
        if i == 4:
            unknown |= {n for n in row if n.startswith("probability_")}
            unknown |= {"prediction", "score_uncertainty"}
        assert {name for name, text in row.items() if text == ""} == unknown
    pq = pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(write_parquet(results, tmp_path / "t.parquet"))
    assert table["prediction"].null_count == table["score_uncertainty"].null_count == 1
    assert table["mpp_x"].null_count == 9


@pytest.mark.parametrize("n", [0, 1])
def test_runs_of_no_tile_and_of_one(n: int, make_run: MakeRun, tmp_path: Path) -> None:
    done = np.zeros((3, 3), bool)
    done.flat[:n] = True
    results = Results(make_run(done), {"uncertainty": value_threshold("entropy", 0.5)})
    lines = write_csv(results, tmp_path / "t.csv").read_text("utf-8").splitlines()
    assert len(lines) == 1 + n and lines[0].startswith("row,col,x,y,width,height")
    pq = pytest.importorskip("pyarrow.parquet")
    assert pq.read_table(write_parquet(results, tmp_path / "t.parquet")).num_rows == n


def test_batches_join(results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write_csv(results, tmp_path / "a.csv").read_bytes()
    monkeypatch.setattr(tables, "BATCH_ROWS", 7)
    assert write_csv(results, tmp_path / "b.csv").read_bytes() == whole
    pq = pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(write_parquet(results, tmp_path / "t.parquet"))
    assert table.num_rows == len(results.scored.index)
    check(table.to_pylist()[20], 20, results)


def test_without_pyarrow_it_says_what_to_install(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ExportError, match=r"pip install 'napari-ood\[parquet\]'"):
        write_parquet(results, tmp_path / "t.parquet")
    assert list(tmp_path.glob("t.*")) == []


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_cancelled_midway_leaves_the_earlier_file(
    write: Any, results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(tables, "BATCH_ROWS", 7)
    path = tmp_path / "t.out"
    path.write_text("earlier")
    asked = []

    def cancel() -> bool:
        asked.append(True)
        return len(asked) > 3

    with pytest.raises(ExportCancelled):
        write(results, path, watched("csv", None, cancel))
    assert path.read_text() == "earlier"
    assert [p for p in tmp_path.iterdir() if "partial" in p.name] == []
