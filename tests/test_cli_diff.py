"""``napari-ood diff``: two runs of one slide, of two bundles and of two tile grids."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from napari_ood import Bundle, open_run, open_slide, run_slide
from napari_ood.cli import main


@pytest.fixture(scope="module")
def runs(
    procedural_slide: Path,
    tiny_bundle: Bundle,
    two_kinds_bundle: Bundle,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Path, Path]:
    """A run, one of another bundle, and one with tiles that overlap by half."""
    folder = tmp_path_factory.mktemp("runs")
    region = (300, 300, 700, 900)
    paths = (folder / "a.ood.zarr", folder / "b.ood.zarr", folder / "c.ood.zarr")
    with open_slide(procedural_slide) as slide:
        run_slide(slide, tiny_bundle, paths[0], region, device="cpu", tissue=False)
        run_slide(slide, two_kinds_bundle, paths[1], region, device="cpu", tissue=False)
        run_slide(slide, tiny_bundle, paths[2], region, device="cpu", tissue=False, stride=16)
    return paths


def test_a_run_does_not_differ_from_itself(
    runs: tuple[Path, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "tiles.csv"
    assert main(["diff", str(runs[0]), str(runs[0]), "--out", str(table)]) == 0
    out = capsys.readouterr().out
    n = open_run(runs[0]).n_tiles
    assert f"Same tiles: {n} in both" in out
    assert "100.0 % of tiles" in out
    assert "They diverge nowhere" in out
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert len(rows) == n
    assert {row["difference"] for row in rows} == {"0"}
    np.testing.assert_allclose(
        [float(row["score_a"]) for row in rows], open_run(runs[0]).score("ood"), rtol=1e-5
    )


def test_another_bundle_and_another_grid(
    runs: tuple[Path, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", str(runs[0]), str(runs[1]), "--json", "-"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["standardised"] and record["names"][0] != record["names"][1]
    assert record["agreed"] == 1.0, "the same network under another name"
    assert record["bundles"] == ["tiny", "tiny-two"]
    assert main(["diff", str(runs[0]), str(runs[2]), "--score", "entropy", "--json", "-"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert not record["same_grid"] and not record["standardised"]
    assert record["n_pairs"] == open_run(runs[2]).n_tiles
    peaks = [abs(region["peak"]) for region in record["regions"]]
    assert peaks == sorted(peaks, reverse=True)


def test_what_cannot_be_compared_is_said(
    runs: tuple[Path, ...], slide_other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", str(runs[0]), str(slide_other)]) == 2
    assert "different slides" in capsys.readouterr().err
    assert main(["diff", str(runs[0]), str(runs[1]), "--score", "tissue"]) == 2
    assert "no 'tissue' at hand" in capsys.readouterr().err
    assert main(["diff", str(runs[0]), str(runs[1]), "--out", "nowhere/x.csv"]) == 2
    assert "does not exist" in capsys.readouterr().err


@pytest.fixture
def slide_other(procedural_slide: Path, tiny_bundle: Bundle, tmp_path: Path) -> Path:
    """A run of a smaller slide."""
    import tifffile

    path = tmp_path / "other.tif"
    pixels = np.full((256, 256, 3), 180, np.uint8)
    tifffile.imwrite(
        path, pixels, photometric="rgb", resolution=(1e4, 1e4), resolutionunit="CENTIMETER"
    )
    out = tmp_path / "other.ood.zarr"
    with open_slide(path) as slide:
        run_slide(slide, tiny_bundle, out, device="cpu", tissue=False)
    return out
