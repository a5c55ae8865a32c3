"""``evaluate``: from data on disk to rows."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_ood import OodError
from napari_ood.evaluation import evaluate, fpr_at_tpr, ood_auroc
from napari_ood.evaluation.outputs import BundleRunner, Outputs
from napari_ood.evaluation.scoring import score_names, split_names
from napari_ood.evaluation.tileset import tile_set
from napari_ood.models import Bundle, load_bundle
from napari_ood.models.card import REFERENCE
from napari_ood.scores import HEAD_SCORES, mean_probability
from napari_ood.training import TileDataset, read_dataset

CLASSES = ("red", "green", "blue")


def tiles(n: int, seed: int, low: int = 60, side: int = 32) -> np.ndarray:
    rng = np.random.default_rng(seed)
    colour = rng.integers(low, 250, (n, 1, 1, 3))
    return (colour + rng.normal(0, 15, (n, side, side, 3))).clip(0, 255).astype(np.uint8)


def write(images: np.ndarray, folder: Path, rows: list[dict[str, str]] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i}.png")
    if rows is None:
        return folder
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", *rows[0]])
        writer.writeheader()
        writer.writerows({"path": f"{i}.png", **row} for i, row in enumerate(rows))
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 tiles of three classes: 24 train, 18 valid, 18 test; six slides of ten; two scanners."""
    rows = [
        {
            "label": CLASSES[i % 3],
            "split": "train" if i < 24 else "valid" if i < 42 else "test",
            "slide": f"s{i // 10}",
            "scanner": "AB"[i % 2],
        }
        for i in range(60)
    ]
    return write(tiles(60, 1), tmp_path_factory.mktemp("known"), rows)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = np.random.default_rng(2).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    return write(images, tmp_path_factory.mktemp("noise"))


def test_rows_are_the_metrics_of_the_bundles_scores(tiny_bundle: Bundle, known: Path, noise: Path):
    found = evaluate(tiny_bundle, known, {"noise": noise}, n_bootstrap=50, split="all")
    assert found.quality.n == 60
    runner = BundleRunner(tiny_bundle, "cpu", 7)
    reference = tiny_bundle.require_reference()
    outputs = [
        runner.run(tile_set(name, read_all(path), tiny_bundle.card))[0]
        for name, path in (("id", known.parent), ("noise", noise))
    ]
    names = {row.score for row in found.rows}
    assert {"entropy", "energy", "mahalanobis@layer1"} <= names
    for row in found.rows:
        a, b = (reference.score(row.score, o.logits, o.features) for o in outputs)
        assert (row.n_id, row.n_ood) == (60, 20)
        assert row.auroc == pytest.approx(ood_auroc(a, b), abs=1e-6)
        assert row.fpr95 == pytest.approx(fpr_at_tpr(a, b), abs=1e-6)
        assert row.auroc_ci is not None
        assert row.auroc_ci[0] <= row.auroc <= row.auroc_ci[1]
        threshold = reference.quantile(row.score, 0.95)
        if row.score == "mahalanobis@layer1":
            assert found.flagged["noise"]["ood"] == pytest.approx((b > threshold).mean())
    assert found.default_scores == {"ood": "mahalanobis@layer1", "uncertainty": "entropy"}


def read_all(folder: Path) -> np.ndarray:
    n = len(list(folder.glob("*.png")))
    return np.stack([np.asarray(Image.open(folder / f"{i}.png")) for i in range(n)])


def test_the_json_has_the_agreed_keys_and_no_nan(tiny_bundle: Bundle, known: Path, noise: Path):
    found = evaluate(tiny_bundle, known, {"noise": noise}, "entropy,ood", n_bootstrap=20)
    record = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert set(record) == {
        "bundle", "rows", "default_scores", "id", "versions", "seconds", "flagged",
    }  # fmt: skip
    assert set(record["rows"][0]) == {
        "set", "score", "n_id", "n_ood", "auroc", "auroc_ci", "fpr95", "fpr95_ci",
    }  # fmt: skip
    assert set(record["id"]) == {"n", "accuracy", "auroc", "ece", "nll", "aurc", "augrc"}
    assert set(record["id"]["aurc"]) == {"entropy", "mahalanobis@layer1"}
    assert set(record["flagged"]) == {"id", "noise"}
    assert record["versions"]["torch"]


def test_the_split_is_test_then_valid_unless_told(tiny_bundle: Bundle, known: Path):
    def n(split: str | None) -> tuple[int, str]:
        found = evaluate(tiny_bundle, known, {}, "entropy", 0, split=split)
        return found.quality.n, found.notes[0]

    assert n(None) == (18, "id: 18 images of labels.csv, split test (not train, valid: --split "
                       "chooses)")  # fmt: skip
    assert n("val")[0] == 18
    assert n("all")[0] == 60
    with pytest.raises(OodError, match="no split 'fold3'"):
        n("fold3")


def test_groups_widen_and_contrasts_compare(tiny_bundle: Bundle, known: Path, noise: Path):
    options = {"split": "all", "contrast": "scanner"}
    found = evaluate(tiny_bundle, known, {"noise": noise}, "entropy", 50, "slide", **options)
    assert "noise: no column 'slide', so intervals resample single images" in found.notes
    row = found.rows[-1]
    assert (row.set, row.n_id, row.n_ood) == ("contrast: scanner B against A", 30, 30)
    scores, odd = found.id_scores["entropy"], np.arange(60) % 2 == 1
    last = next(r for r in found.rows if r.set == row.set and r.score == "entropy")
    assert last.auroc == pytest.approx(ood_auroc(scores[~odd], scores[odd]))
    with pytest.raises(OodError, match="none of the data has a column 'patient'"):
        evaluate(tiny_bundle, known, {"noise": noise}, "entropy", 0, "patient")
    with pytest.raises(OodError, match="no column 'centre' to contrast; it has: slide, scanner"):
        evaluate(tiny_bundle, known, {"noise": noise}, "entropy", 0, contrast="centre")
    with pytest.raises(OodError, match="'scanner' has 1 values"):
        evaluate(tiny_bundle, one_scanner(known), {}, "entropy", 0, contrast="scanner")


def one_scanner(table: Path) -> TileDataset:
    dataset = read_dataset(table)
    return dataset.subset(dataset.column("scanner") == "A")


def test_unlabelled_data_has_rows_but_no_accuracy(tiny_bundle: Bundle, known: Path, noise: Path):
    found = evaluate(tiny_bundle, noise, {"known": known}, "entropy", 20)
    record = found.as_json()
    assert {record["id"][k] for k in ("accuracy", "auroc", "ece", "nll")} == {None}
    assert record["id"]["aurc"] == {"mahalanobis@layer1": None, "entropy": None}
    assert all(row["auroc"] is not None for row in record["rows"])


def test_foreign_labels_are_named(tiny_bundle: Bundle, noise: Path, tmp_path: Path):
    for name in ("green", "purple", "mauve"):
        write(tiles(2, 3), tmp_path / name)
    with pytest.raises(OodError, match="no classes of bundle 'tiny': 'mauve', 'purple'; its clas"):
        evaluate(tiny_bundle, tmp_path, {"noise": noise}, "entropy", 0)
    (tmp_path / "purple").rename(tmp_path / "blue")
    (tmp_path / "mauve").rename(tmp_path / "red")
    found = evaluate(tiny_bundle, tmp_path, {"noise": noise}, "entropy", 0)
    # Folders sort as blue, green, red; the bundle's classes are red, green, blue.
    p = found.quality
    assert p.n_labelled == 6
    assert found.rows[0].auroc_ci is None


def test_labels_are_the_bundles_whatever_their_order(tiny_bundle: Bundle, tmp_path: Path):
    images = tiles(40, 5)
    outputs, _ = BundleRunner(tiny_bundle, "cpu").run(tile_set("x", images, tiny_bundle.card))
    probabilities = mean_probability(outputs.logits)
    said = [CLASSES[i] for i in probabilities.argmax(axis=1)]
    table = write(images, tmp_path, [{"label": name} for name in said])
    assert evaluate(tiny_bundle, table, {}, "entropy", 0).quality.accuracy == 1.0


def test_images_of_another_size_are_resized_or_scaled_and_this_is_told(
    tiny_bundle: Bundle, known: Path, tmp_path: Path
):
    large = write(tiles(5, 7, side=64), tmp_path / "large")
    found = evaluate(tiny_bundle, known, {"large": large}, "entropy", 0)
    assert any("large: of 5 images, 5 resized as a whole" in note for note in found.notes)
    found = evaluate(tiny_bundle, known, {"large": large}, "entropy", 0, mpp={"large": 0.5})
    assert any("5 scaled to 1 µm/px and cut around the centre" in note for note in found.notes)
    with pytest.raises(OodError, match="'lage', which is no set"):
        evaluate(tiny_bundle, known, {"large": large}, "entropy", 0, mpp={"lage": 0.5})


def test_shared_images_are_told(tiny_bundle: Bundle, known: Path, noise: Path):
    found = evaluate(tiny_bundle, noise, {"noise": noise}, "entropy", 0)
    assert any("20 of the 20 images of 'noise' are in-distribution" in n for n in found.notes)
    assert found.rows[0].auroc == 0.5


def test_a_bundle_without_reference_gives_scores_of_its_heads(
    tiny_bundle: Bundle, known: Path, noise: Path, tmp_path: Path
):
    copy = tmp_path / "bare"
    shutil.copytree(tiny_bundle.path, copy)
    (copy / REFERENCE).unlink()
    config = json.loads((copy / "config.json").read_text())
    del config["napari_ood"]["files"][REFERENCE]
    (copy / "config.json").write_text(json.dumps(config))
    found = evaluate(load_bundle(copy), known, {"noise": noise}, "all", 20)
    assert {row.score for row in found.rows} == set(HEAD_SCORES)
    assert any("(the bundle has no reference)" in note for note in found.notes)
    assert set(found.flagged["noise"]) == {"ood", "uncertainty", *HEAD_SCORES} - {"entropy"}
    assert set(found.flagged["noise"].values()) == {None}


def test_default_scores_are_called_as_in_the_rows(
    tiny_bundle: Bundle, known: Path, noise: Path, tmp_path: Path
):
    copy = tmp_path / "short"
    shutil.copytree(tiny_bundle.path, copy)
    config = json.loads((copy / "config.json").read_text())
    config["napari_ood"]["scores"]["ood"] = "mahalanobis"  # without its block
    (copy / "config.json").write_text(json.dumps(config))
    found = evaluate(load_bundle(copy), known, {"noise": noise}, "default", 0)
    assert found.default_scores["ood"] in {row.score for row in found.rows}
    assert found.flagged["noise"]["ood"] is not None


def test_data_without_splits_may_have_trained_the_bundle_and_that_is_told(
    tiny_bundle: Bundle, noise: Path
):
    found = evaluate(tiny_bundle, noise, {}, "entropy", 0)
    assert "none of them should have trained the bundle" in found.notes[0]


def test_all_means_every_method_and_block(tiny_bundle: Bundle, known: Path, noise: Path):
    found = evaluate(tiny_bundle, known, {"noise": noise}, "all", 0)
    names = set(found.id_scores)
    for block in ("layer1", "penultimate", "layer1+penultimate"):
        assert {f"mahalanobis@{block}", f"knn@{block}", f"relative@{block}"} <= names
    left_out = [note for note in found.notes if note.startswith("left out: ")]
    assert any("invariant@layer1" in note for note in left_out)
    assert len(found.rows) == len(names)


def test_a_tile_scores_the_same_whatever_set_it_is_in(
    two_kinds_bundle: Bundle, known: Path, tmp_path: Path
):
    # The seeds' code normalised foreign tiles with the foreign set's own mean and spread.
    first, dark, bright = tiles(6, 3), tiles(30, 4) // 4, 255 - tiles(30, 5) // 4
    sets = {
        "alone": first,
        "among dark": np.concatenate([first, dark]),
        "among bright": np.concatenate([first, bright]),
    }
    found = evaluate(two_kinds_bundle, known, sets, "all", 0)
    own = write(first, tmp_path / "own")
    inside = evaluate(two_kinds_bundle, own, {"dark": dark}, "all", 0)
    for score, expected in found.ood_scores["alone"].items():
        for values in (*(found.ood_scores[n][score] for n in sets), inside.id_scores[score]):
            np.testing.assert_allclose(values[:6], expected, rtol=1e-3, atol=1e-4, err_msg=score)


def test_controls_compare_changed_tiles(tiny_bundle: Bundle, known: Path):
    found = evaluate(tiny_bundle, known, {}, "entropy", 20, controls=True)
    sets = {row.set for row in found.rows}
    assert "control: blurred (σ 1 px)" in sets
    assert sets >= {"control: gamma 1.25", "control: noise (σ 6)"}
    blur = next(r for r in found.rows if r.set.endswith("(σ 1 px)") and r.score.startswith("maha"))
    assert blur.auroc is not None
    assert blur.auroc > 0.8  # it takes the noise away that all training tiles have


def test_a_network_that_answers_nan_is_refused(
    tiny_bundle: Bundle, known: Path, monkeypatch: pytest.MonkeyPatch
):
    forward = BundleRunner._forward

    def broken(self: BundleRunner, chunk: np.ndarray) -> Outputs:
        outputs = forward(self, chunk)
        outputs.features[3, 0] = np.nan
        return outputs

    monkeypatch.setattr(BundleRunner, "_forward", broken)
    with pytest.raises(OodError, match=r"not finite for 1 of 18 tiles of 'id', first .*45\.png"):
        evaluate(tiny_bundle, known, {}, "entropy", 0)


def test_bad_arguments_are_told(tiny_bundle: Bundle, known: Path, noise: Path, tmp_path: Path):
    with pytest.raises(OodError, match="unknown score 'entropie'"):
        evaluate(tiny_bundle, known, {}, "entropie", 0)
    with pytest.raises(OodError, match="cannot be called 'id'"):
        evaluate(tiny_bundle, known, {"id": noise}, "entropy", 0)
    with pytest.raises(OodError, match="holds no images"):
        evaluate(tiny_bundle, known, {"empty": tmp_path}, "entropy", 0)
    with pytest.raises(OodError, match="must be uint8 tiles"):
        evaluate(tiny_bundle, np.zeros((2, 16, 16, 3), np.uint8), {}, "entropy", 0)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")
    with pytest.raises(OodError, match=r"broken\.png"):
        evaluate(tiny_bundle, known, {"broken": tmp_path}, "entropy", 0)


def test_names_are_split_outside_of_parentheses(tiny_bundle: Bundle):
    assert split_names("max(a,max(b,c)), d,") == ["max(a,max(b,c))", "d"]
    card = tiny_bundle.card
    assert score_names(card, "ood,msp") == ["entropy", "mahalanobis@layer1", "msp"]
    with pytest.raises(OodError, match="at least one"):
        score_names(card, ",")
