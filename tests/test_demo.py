"""The demo without a window, on a small slide with the bundle that ships."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from napari_ood import RunError, load_bundle, open_run, open_slide, run_slide
from napari_ood.demo import BUNDLE, TileTruth, foreign_auroc, run_demo, summarise, truth_of_tiles
from napari_ood.models.card import EXTRAS
from napari_ood.samples import load_truth
from napari_ood.samples.slide_file import SEED


@pytest.fixture(scope="module")
def demo(
    procedural_slide: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, object]]:
    out = tmp_path_factory.mktemp("demo")
    return out, run_demo(out, slide_path=procedural_slide, device="cpu")


def test_the_summary_is_written_and_of_the_run(demo: tuple[Path, dict[str, object]]) -> None:
    out, summary = demo
    assert json.loads((out / "summary.json").read_text()) == summary
    run = open_run(out / "procedural.ood.zarr")
    assert summary["run"] == str(run.path)
    assert summary["bundle"] == BUNDLE
    assert summary["n_tiles"] == run.n_tiles > 40
    assert summary["tiles_per_s"] > 0  # type: ignore[operator]
    assert summary["device"] == "cpu"
    assert summary["ood_score"] == run.card.scores["ood"]


def test_foreign_regions_are_found_and_tissue_is_told_apart(
    demo: tuple[Path, dict[str, object]],
) -> None:
    _, summary = demo
    found = summary["ood_auroc"]
    assert isinstance(found, dict)
    assert set(found) == {"overall", "pen", "blur", "fold", "ihc", "unknown"}
    assert found["overall"] > 0.9
    assert all(value is None or value > 0.75 for value in found.values()), found
    assert summary["accuracy"] > 0.85  # type: ignore[operator]


def test_tiles_count_by_what_covers_them(
    demo: tuple[Path, dict[str, object]], procedural_slide: Path
) -> None:
    run, truth = open_run(demo[0] / "procedural.ood.zarr"), load_truth(procedural_slide)
    tiles = truth_of_tiles(run, truth)
    for n in range(0, run.n_tiles, 7):
        y, x, h, w = (run.boxes[n] / 8).astype(int)
        box = truth.foreign[y : y + h, x : x + w]
        assert tiles.in_distribution[n] == (not box.any())
        for label, kind in truth.kinds.items():
            assert tiles.kinds[kind][n] == ((box == label).sum() >= h * w / 2)
    assert not (tiles.in_distribution & np.any(list(tiles.kinds.values()), axis=0)).any()


def test_auroc_per_kind() -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.9, 0.25], np.float32)
    inside = np.array([True, True, True, False, False])
    one, two, none = np.arange(5) == 3, np.arange(5) == 4, np.zeros(5, bool)
    tiles = TileTruth(inside, {"one": one, "two": two, "none": none}, np.zeros(5, np.int64))
    expected = {"overall": 0.8333, "one": 1.0, "two": 0.6667, "none": None}
    assert foreign_auroc(scores, tiles) == expected


def test_a_second_demo_replaces_the_first_and_nothing_else(
    demo: tuple[Path, dict[str, object]], procedural_slide: Path, tmp_path: Path
) -> None:
    first = open_run(demo[0] / "procedural.ood.zarr")
    again = run_demo(demo[0], slide_path=procedural_slide, device="cpu")
    assert again["ood_auroc"] == demo[1]["ood_auroc"]
    assert len(open_run(first.path).provenance["sessions"]) == 1
    mine = tmp_path / "procedural.ood.zarr"
    mine.mkdir()
    (mine / "notes.txt").touch()
    with pytest.raises(RunError):
        run_demo(tmp_path, slide_path=procedural_slide)
    assert (mine / "notes.txt").exists()


def test_an_unusable_folder_is_said(procedural_slide: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="--out"):
        run_demo(tmp_path / "file" / "demo", slide_path=procedural_slide)


def test_a_region_without_foreign_tiles_has_no_auroc(
    demo: tuple[Path, dict[str, object]], procedural_slide: Path, tmp_path: Path
) -> None:
    truth, whole = load_truth(procedural_slide), open_run(demo[0] / "procedural.ood.zarr")
    y, x, h, w = whole.boxes[truth_of_tiles(whole, truth).in_distribution][0]
    with open_slide(procedural_slide) as slide:
        region = (float(y), float(x), float(h), float(w))
        run = run_slide(slide, load_bundle(BUNDLE), tmp_path / "a.ood.zarr", region, "cpu")
    summary = summarise(run, truth)
    assert summary["tiles"]["in_distribution"] == run.n_tiles == 1
    assert summary["ood_auroc"]["overall"] is None


def test_the_bundle_never_saw_the_sample_slide() -> None:
    card = load_bundle(BUNDLE).card
    groups = [set(seeds) for seeds in card.training["seeds"].values()]
    assert len(groups) == 3
    assert all(groups)
    assert len(set.union(*groups, {SEED})) == sum(map(len, groups)) + 1
    assert (Path(__file__).parents[1] / card.training["recipe"]).is_file()
    assert "patients" in card.intended_use
    assert sum(f.size for name, f in card.files.items() if name not in EXTRAS) < 4_000_000
    assert sum(f.size for f in card.files.values()) < 10_000_000
