"""``napari-ood export``."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from napari_ood import open_run, open_slide, run_slide
from napari_ood.cli import main
from napari_ood.cli.arguments import role_threshold


@pytest.fixture(scope="module")
def run(procedural_slide: Path, tiny_bundle: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "procedural.ood.zarr"
    with open_slide(procedural_slide) as slide:
        run_slide(slide, tiny_bundle, path, region=(0, 0, 1024, 1024), device="cpu")
    return path


def export(*arguments: object) -> int:
    return main(["export", *map(str, arguments)])


def test_what_was_written_is_said(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--threshold", "ood=coverage:80%", "--threshold", "uncertainty=0.5")
    assert export(run, "--out", tmp_path, "--formats", "csv,geojson", *asked, "--json", "-") == 0
    record = json.loads(capsys.readouterr().out)
    with (tmp_path / "procedural.tiles.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == record["n_tiles"] == open_run(run).n_tiles > 20
    ood = record["thresholds"]["ood"]
    n_flagged = sum(row["flagged_ood"] == "1" for row in rows)
    assert ood["meaning"] == "coverage" and ood["n_flagged"] == n_flagged
    assert n_flagged == pytest.approx(0.2 * len(rows), abs=1)
    assert record["thresholds"]["uncertainty"]["value"] == 0.5
    assert all(Path(path).exists() for path in record["files"])
    assert export(run, "--out", tmp_path, "--formats", "csv", "--json", tmp_path / "r.json") == 0
    said = capsys.readouterr().out
    assert "keeps 95 % of in-distribution tiles" in said and "procedural.tiles.csv" in said
    assert json.loads((tmp_path / "r.json").read_text("utf-8"))["n_tiles"] == len(rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--formats", "csv,xlsx"], "take of geojson,csv"),
        (["--threshold", "ood"], "ROLE=keep:95%"),
        (["--threshold", "ood=keep:95"], "ROLE=keep:95%"),
        (["--threshold", "ood=best:5%"], "ROLE=keep:95%"),
    ],
)
def test_bad_arguments_are_explained(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        export("a.ood.zarr", "--out", "o", *arguments)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_errors_are_one_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--out", tmp_path / "o", "--formats", "csv")
    for arguments, message in (
        ((tmp_path / "no.ood.zarr", *out), "does not exist"),
        ((run, *out, "--threshold", "tissue=0.5"), "has no such score; it has uncertainty, ood"),
        ((run, *out, "--threshold", "ood=1", "--threshold", "ood=2"), "twice"),
        ((run, *out, "--slide", tmp_path / "no.svs"), "no.svs"),
        ((run, *out, "--json", tmp_path / "no" / "r.json"), "its folder does not exist"),
    ):
        assert export(*arguments) == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_thresholds_are_read() -> None:
    assert role_threshold("ood=keep:95%") == ("ood", ("keep", pytest.approx(0.95)))
    assert role_threshold("ood=risk:0.05") == ("ood", ("risk", 0.05))
    assert role_threshold("uncertainty=-1.5e0") == ("uncertainty", ("value", -1.5))
