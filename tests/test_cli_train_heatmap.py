"""``napari-ood train-heatmap``: from folders of tiles to maps finer than a tile."""

from __future__ import annotations

import json
import shutil
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_ood import load_bundle
from napari_ood.cli import main
from napari_ood.errors import TrainingCancelled
from napari_ood.evaluation.scoring import score_names
from napari_ood.models import Bundle
from napari_ood.models.card import HEATMAP, LOCATIONS, TILES
from napari_ood.training.heatmap import HeatmapConfig
from napari_ood.training.heatmap_make import HeatmapRequest, add_heatmap

FAST = ("--epochs", "2", "--tiles", "24", "--device", "cpu")


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty tiles of 32 px in folders of the tiny bundle's classes."""
    return write(tmp_path_factory.mktemp("known"), 60, 150, 200, ("red", "green", "blue"))


@pytest.fixture(scope="module")
def dark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("dark"), 20, 20, 60, ("",))


def write(folder: Path, n: int, low: int, high: int, classes: tuple[str, ...]) -> Path:
    rng = np.random.default_rng(low)
    for i in range(n):
        pixels = rng.uniform(low, high, 3) + rng.normal(0, 8, (32, 32, 3))
        path = folder / classes[i % len(classes)] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return folder


def run(*arguments: object) -> int:
    return main(["train-heatmap", *map(str, arguments)])


@pytest.fixture(scope="module")
def made(tiny_bundle: Bundle, known: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "tiny"
    summary = out.with_suffix(".json")
    assert run(tiny_bundle.path, "--id", known, "--out", out, *FAST, "--json", summary) == 0
    return out


def test_the_bundle_gets_both_files_and_stays_what_it_was(made: Path, tiny_bundle: Bundle):
    bundle = load_bundle(made)
    assert set(bundle.card.files) == {*tiny_bundle.card.files, HEATMAP, LOCATIONS}
    assert bundle.hashes == tiny_bundle.hashes  # runs of the one are runs of the other
    assert not {HEATMAP, LOCATIONS} & set(tiny_bundle.card.files)
    record = json.loads(made.with_suffix(".json").read_text())
    assert record["id"] == {"train": 48, "held_out": 6}
    assert [h["epoch"] for h in record["heatmap"]["history"]] == [1, 2]
    assert record["bytes"][HEATMAP] == bundle.card.files[HEATMAP].size


def test_evaluate_knows_the_scores_where_the_bundle_has_the_files(
    made: Path, tiny_bundle: Bundle, known: Path, dark: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    file = tmp_path / "result.json"
    asked = ["--id", str(known), "--ood", f"dark={dark}", "--scores", "heatmap,locations"]
    common = [*asked, "--bootstrap", "0", "--device", "cpu", "--json", str(file)]
    assert main(["evaluate", str(made), *common]) == 0
    rows = {row["score"]: row["auroc"] for row in json.loads(file.read_text())["rows"]}
    assert rows["locations"] > 0.9
    assert 0 <= rows["heatmap"] <= 1
    capsys.readouterr()
    assert main(["evaluate", str(tiny_bundle.path), *common]) == 0
    said = capsys.readouterr().err
    assert "left out: heatmap" in said
    assert "--locations-only" in said
    both = {"heatmap", "locations"}
    assert both <= set(score_names(load_bundle(made).card, "all"))
    assert not both & set(score_names(tiny_bundle.card, "all"))


def test_places_alone_and_given_foreign_images(
    tiny_bundle: Bundle, known: Path, dark: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    out = tmp_path / "tiny"
    bundle = tiny_bundle.path
    assert run(bundle, "--id", known, "--out", out, *FAST, "--locations-only") == 0
    assert "--scores locations" in capsys.readouterr().out
    places = load_bundle(out).card.files[LOCATIONS]
    assert HEATMAP not in load_bundle(out).card.files
    # a second time into the same folder: what is there stays
    assert run(out, "--id", known, "--ood", dark, "--out", out, *FAST) == 0
    assert load_bundle(out).card.files[LOCATIONS] == places
    assert HEATMAP in load_bundle(out).card.files
    assert "must not be what it is evaluated on" in capsys.readouterr().err


def test_unlabelled_images_do(tiny_bundle: Bundle, dark: Path, tmp_path: Path):
    notices: list[str] = []
    request = HeatmapRequest(
        tiny_bundle, dark / "", tmp_path / "x", locations_only=True,
        config=HeatmapConfig(n_tiles=10, device="cpu"),
    )  # fmt: skip
    made = add_heatmap(request, on_notice=notices.append)
    assert "20 of 20 images have no label" in notices[0]
    assert made.bundle.arrays(LOCATIONS) is not None


def test_bad_requests_are_told_before_the_work(
    tiny_bundle: Bundle, known: Path, dark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    bundle = tiny_bundle.path
    full = tmp_path / "full"
    shutil.copytree(dark, full)
    cases = [
        (("--id", known, "--out", full), "exists and is"),
        (("--id", known, "--ood", known / "red", "--out", tmp_path / "o"), "are in --id, too"),
        (("--id", tmp_path / "none", "--out", tmp_path / "o"), "does not exist"),
        (("--id", known, "--out", tmp_path / "o", "--device", "tpu"), "no device 'tpu'"),
        (("--id", known, "--out", tmp_path / "o", "--json", tmp_path / "no" / "x"), "its folder"),
    ]
    for arguments, message in cases:
        assert run(bundle, *FAST, *arguments) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
        assert not (tmp_path / "o").exists()


def test_a_cancelled_training_writes_nothing(tiny_bundle: Bundle, known: Path, tmp_path: Path):
    cancel = threading.Event()
    config = HeatmapConfig(epochs=100, n_tiles=24, device="cpu")
    with pytest.raises(TrainingCancelled):
        add_heatmap(
            HeatmapRequest(tiny_bundle, known, tmp_path / "o", config=config),
            lambda p: cancel.set() if p.epoch == 3 else None,
            cancel=cancel,
        )
    assert not (tmp_path / "o").exists()


def test_control_c_ends_it_with_its_code(
    tiny_bundle: Bundle, known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from napari_ood.cli import train_heatmap

    def interrupted(line: object, progress: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(train_heatmap, "show", interrupted)
    arguments = (tiny_bundle.path, "--id", known, "--out", tmp_path / "o", *FAST)
    assert run(*arguments) == 130
    assert not (tmp_path / "o").exists()


def test_other_extras_stay(made: Path, known: Path, tmp_path: Path):
    from napari_ood.models import add_to_bundle

    with_tiles = add_to_bundle(
        load_bundle(made), {TILES: {"x": np.zeros(3, np.uint8)}}, tmp_path / "b"
    )
    assert run(with_tiles.path, "--id", known, "--out", with_tiles.path, *FAST) == 0
    assert load_bundle(with_tiles.path).arrays(TILES) is not None
