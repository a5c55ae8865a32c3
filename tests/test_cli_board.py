"""``napari-ood board`` and the dashboards that cohorts say they do not have."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from napari_ood import Bundle, open_slide, run_slide
from napari_ood.cli import main
from napari_ood.cli.parser_cohort import baseline
from napari_ood.cohort.client import dashboard


@pytest.fixture
def runs(tmp_path: Path, tiny_bundle: Bundle) -> Path:
    pixels = np.random.default_rng(0).integers(60, 220, (256, 256, 3), np.uint8)
    pixels[:, 128:] = (20, 60, 200)
    path = tmp_path / "a <b>.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(128, 128),
                     resolution=(10_000, 10_000), resolutionunit="CENTIMETER")  # fmt: skip
    with open_slide(path) as slide:
        run_slide(slide, tiny_bundle, tmp_path / "runs" / "a.ood.zarr", tissue=False, device="cpu")
    return tmp_path / "runs"


def test_board_writes_one_file(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["board", str(runs)]) == 0
    said = capsys.readouterr().out
    assert "1 slide, 1 with an OOD share" in said and "Not enough dates" in said
    text = (runs / "board.html").read_text("utf-8")
    assert "data:image/jpeg" in text and "a \\u003cb>.tif" in text
    assert sorted(p.name for p in runs.iterdir()) == ["a.ood.zarr", "board.html", "board.jsonl"]


def test_board_as_json(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["board", str(runs), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (slide,) = found["slides"]
    assert 0 <= slide["ood"] <= 1 and slide["n_tiles"] == slide["n_total"] == 64
    assert found["drift"]["scanners"] == [] and not (runs / "board.html").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{runs}/gone"], "holds neither cohort.json nor runs"),
        (["{runs}/a.ood.zarr"], "holds neither cohort.json nor runs"),
        (["{runs}", "--out", "{runs}/gone/b.html"], "its folder does not exist"),
        (["{runs}", "--out", "{runs}"], "it is a folder, name a file"),
        (["{runs}", "--open", "b"], "has no slide 'b'"),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: list[str], said: str, runs: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("napari_ood.cli.board.has_display", lambda: True)
    assert main(["board", *(text.format(runs=runs) for text in arguments)]) == 2
    assert said in capsys.readouterr().err


def test_without_a_display_no_window(
    runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_ood.cli.board.has_display", lambda: False)
    assert main(["board", str(runs), "--open", "a"]) == 2
    assert "no display" in capsys.readouterr().err


def test_baselines(capsys: pytest.CaptureFixture[str]) -> None:
    assert baseline("20") == (20, None, None)
    assert baseline("2026-01-01..2026-03-31") == (0, "2026-01-01", "2026-03-31")
    assert baseline("2026-01-01..") == (0, "2026-01-01", None)
    for text in ("0", "..", "January..", "2026-02-30..2026-03-01"):
        with pytest.raises(SystemExit):
            main(["board", "somewhere", "--baseline", text])
        assert "neither a number of slides nor two days" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("applications", "shown"), [({"/status": object()}, "http://here:8787/status"), ({}, None)]
)
def test_a_dashboards_address_is_told_only_where_the_scheduler_serves_one(
    applications: dict[str, object], shown: str | None
) -> None:
    scheduler = SimpleNamespace(http_application=SimpleNamespace(applications=applications))
    client = SimpleNamespace(
        dashboard_link="http://here:8787/status", run_on_scheduler=lambda look: look(scheduler)
    )
    assert dashboard(client) == shown  # type: ignore[arg-type]
