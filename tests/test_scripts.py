"""Scripts beside the package: what their tables and cards hold."""

from __future__ import annotations

import csv
import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from napari_ood.models import Bundle, load_bundle, save_bundle
from napari_ood.training import read_dataset

REPO = Path(__file__).resolve().parents[1]


def script(path: str) -> ModuleType:
    spec = spec_from_file_location(Path(path).stem, REPO / path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 images of three classes, in three splits, each of two patients, at 0.5 µm/px."""
    folder = tmp_path_factory.mktemp("labelled")
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "split", "label", "group", "mpp", "age"])
        for i in range(36):
            Image.fromarray(np.full((8, 8, 3), 7 * i, np.uint8)).save(folder / f"{i}.png")
            split = ("train", "valid", "test")[i // 12]
            writer.writerow([f"{i}.png", split, "abc"[i % 3], f"{split}{i % 2}", "0.5", "55"])
    return folder / "labels.csv"


def test_the_table_of_a_split_keeps_groups_and_scales(table: Path, tmp_path: Path) -> None:
    common = script("training/recipes/common.py")
    out = common.rows_of_split(table, "train", tmp_path / "new" / "train.csv")
    whole, part = read_dataset(table), read_dataset(out)
    rows = np.flatnonzero(whole.splits == "train")
    assert part.paths == tuple(whole.paths[i].resolve() for i in rows)
    assert part.groups.tolist() == whole.groups[rows].tolist()
    assert set(part.columns["mpp"].tolist()) == {"0.5"}
    assert not part.splits.any()
    plain = tmp_path / "plain.csv"
    plain.write_text(f"path,split,label\n{table.parent / '0.png'},train,a\n")
    bare = common.rows_of_split(plain, "train", tmp_path / "bare.csv")
    assert bare.read_text().splitlines()[0] == "path,label"


def test_the_class_left_out_is_in_no_table_to_train_with(table: Path, tmp_path: Path) -> None:
    common = script("training/recipes/common.py")
    leave_one_out = script("benchmarks/leave_one_out.py")
    dataset = read_dataset(table)
    for name in dataset.classes:
        left = dataset.labels == dataset.classes.index(name)
        foreign = {path.resolve() for path in dataset.subset(left).paths}
        tested = {path.resolve() for path in dataset.split("test").paths}
        others = tuple(c for c in dataset.classes if c != name)

        out = tmp_path / f"{name}.csv"
        leave_one_out.write_rows(dataset, ~left & (dataset.splits != "test"), out)
        part = read_dataset(out)
        assert not set(part.paths) & (foreign | tested)
        assert (len(part), part.classes) == (16, others)
        assert set(part.splits.tolist()) == {"train", "valid"}
        assert part.groups.tolist() == [
            g for g, f, s in zip(dataset.groups, left, dataset.splits, strict=True)
            if not f and s != "test"
        ]  # fmt: skip

        common.rows_of_split(table, "train", out, keep=lambda row, n=name: row["label"] != n)
        part = read_dataset(out)
        assert not set(part.paths) & (foreign | tested)
        assert (len(part), part.classes) == (8, others)


def test_results_on_a_card_stay_when_others_are_measured(
    tiny_bundle: Bundle, table: Path, tmp_path: Path
) -> None:
    import dataclasses

    from napari_ood.evaluation import evaluate

    results = script("benchmarks/results.py")
    card = dataclasses.replace(tiny_bundle.card, results={"held_out": {"n": 6}, "x": {"n": 1}})
    net = tiny_bundle.trained_network()
    bundle = save_bundle(tmp_path / "b", net, card, tiny_bundle.reference)
    tiles = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    images = tmp_path / "images"
    for i, tile in enumerate(tiles):
        (images / card.classes[i % 3]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(tile).save(images / card.classes[i % 3] / f"{i}.png")
    evaluation = evaluate(bundle, images, {"far": tiles // 2}, "default", 0)
    results._write_card(bundle, "x", evaluation)
    found = load_bundle(tmp_path / "b").card.results
    assert found["held_out"] == {"n": 6}
    assert found["x"]["n"] == 12
    assert json.dumps(found["ood_against_x"]).startswith('{"far": {"n": 12')
