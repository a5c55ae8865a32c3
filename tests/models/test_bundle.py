from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_ood.errors import BundleError
from napari_ood.models import (
    Bundle,
    BundleEntry,
    Card,
    Reference,
    add_to_bundle,
    list_bundles,
    load_bundle,
    save_bundle,
)
from napari_ood.models.card import LOCATIONS, TILES


@pytest.fixture
def copy(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle.path, tmp_path / "tiny"))


def edit(folder: Path, **ours: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["napari_ood"].update(ours)
    (folder / "config.json").write_text(json.dumps(config))


def test_a_saved_bundle_computes_what_the_network_computed(tiny_bundle: Bundle, tmp_path: Path):
    original = tiny_bundle.trained_network().eval()
    again = save_bundle(tmp_path / "again", original, tiny_bundle.card, tiny_bundle.reference)
    tiles = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8)
    x = (tiles.permute(0, 3, 1, 2) / 255 - torch.tensor(again.card.mean).view(3, 1, 1)) / (
        torch.tensor(again.card.std).view(3, 1, 1)
    )
    with torch.inference_mode():
        logits, features = again.network("cpu")(tiles)
        expected_logits, expected_features = original(x)
    assert logits.shape == (5, 3, 3)
    assert features.shape == (5, again.card.n_features)
    assert logits.dtype == features.dtype == torch.float32
    torch.testing.assert_close(logits, expected_logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(features, expected_features, rtol=1e-4, atol=1e-4)
    assert again.hashes["model.safetensors"] == tiny_bundle.hashes["model.safetensors"]
    assert again.reference is not None
    assert tiny_bundle.reference is not None
    np.testing.assert_array_equal(
        again.reference.validation_scores("mahalanobis@layer1"),
        tiny_bundle.reference.validation_scores("mahalanobis@layer1"),
    )


def test_what_is_stored_does_not_depend_on_the_layout_in_memory(
    tiny_bundle: Bundle, tmp_path: Path
):
    # A network's logits lie head by head in memory; written as they lie they came back scrambled.
    original = tiny_bundle.require_reference()
    names = ("train_features", "train_labels", "head_weight", "head_bias")
    names += ("validation_logits", "validation_features", "validation_labels")
    arrays = {name: np.asfortranarray(getattr(original, name)) for name in names}
    net = tiny_bundle.trained_network()
    reference = Reference(**arrays, blocks=net.blocks)
    saved = save_bundle(tmp_path / "f", net, tiny_bundle.card, reference).require_reference()
    for name in names:
        np.testing.assert_allclose(getattr(saved, name), arrays[name], rtol=1e-3)


def test_the_card_survives_a_round_trip(tiny_bundle: Bundle):
    assert Card.from_config(tiny_bundle.card.to_config()) == tiny_bundle.card
    assert tiny_bundle.card.warnings == ()


@pytest.mark.parametrize("name", ["model.safetensors", "reference.safetensors"])
def test_one_changed_byte_is_refused(copy: Path, name: str):
    data = bytearray((copy / name).read_bytes())
    data[-1] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(BundleError, match="download it again"):
        load_bundle(copy)


def test_a_file_changed_after_loading_is_refused(copy: Path):
    bundle = load_bundle(copy)
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    with pytest.raises(BundleError, match="download it again"):
        bundle.network("cpu")


def test_a_missing_file_is_named(copy: Path):
    (copy / "reference.safetensors").unlink()
    with pytest.raises(BundleError, match=r"reference\.safetensors: download it again"):
        load_bundle(copy)


def test_without_a_reference_scores_of_features_say_what_to_do(tiny_bundle: Bundle, tmp_path: Path):
    bundle = save_bundle(tmp_path / "bare", tiny_bundle.trained_network(), tiny_bundle.card)
    assert bundle.reference is None
    with pytest.raises(BundleError, match="has no reference"):
        bundle.require_reference()


def test_weights_of_another_architecture_are_named(copy: Path):
    edit(copy, n_heads=4)
    with pytest.raises(BundleError, match=r"heads\.weights\.0.*\(3, 3, 96\).*\(4, 3, 96\)"):
        load_bundle(copy).network("cpu")


def test_bundles_at_hand_include_broken_ones(
    copy: Path, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NAPARI_OOD_BUNDLES", str(tmp_path))
    shutil.copytree(copy, tmp_path / "broken")
    (tmp_path / "broken" / "config.json").write_text("{")
    entries: dict[str, BundleEntry] = {entry.name: entry for entry in list_bundles()}
    assert entries["tiny"].card == tiny_bundle.card
    assert "not valid JSON" in str(entries["broken"].error)
    assert load_bundle("tiny").path == copy
    with pytest.raises(BundleError, match=r"at hand: .*tiny"):
        load_bundle("no-such-bundle")


def test_loading_a_bundle_and_its_reference_loads_no_torch(tiny_bundle: Bundle):
    code = (
        "import sys; from napari_ood.models import load_bundle, list_bundles, Card\n"
        f"b = load_bundle({str(tiny_bundle.path)!r}); list_bundles()\n"
        "b.reference.score('mahalanobis@layer1', None, b.reference.train_features)\n"
        "assert not {'torch', 'napari', 'qtpy', 'timm'} & set(sys.modules), 'heavy import'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_save_does_not_overwrite_what_is_no_bundle(tiny_bundle: Bundle, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match="no bundle"):
        save_bundle(tmp_path, tiny_bundle.trained_network(), tiny_bundle.card)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def thumbnails() -> dict[str, np.ndarray]:
    return {"pixels": np.arange(12, dtype=np.uint8).reshape(3, 4).T}


def test_an_extra_leaves_weights_reference_and_runs_as_they_are(copy: Path):
    before = load_bundle(copy)
    text = json.loads((copy / "config.json").read_text())
    text["of_another_tool"] = {"kept": True}
    (copy / "config.json").write_text(json.dumps(text))
    after = add_to_bundle(load_bundle(copy), {TILES: thumbnails()})
    assert after.hashes == before.hashes
    arrays = after.arrays(TILES)
    assert arrays is not None
    np.testing.assert_array_equal(arrays["pixels"], thumbnails()["pixels"])
    assert json.loads((copy / "config.json").read_text())["of_another_tool"] == {"kept": True}
    assert after.arrays("heatmap.safetensors") is None
    assert not list(copy.glob(".*"))


def test_an_extra_goes_into_a_copy_and_a_second_one_beside_the_first(copy: Path, tmp_path: Path):
    first = add_to_bundle(load_bundle(copy), {TILES: thumbnails()}, tmp_path / "out")
    both = add_to_bundle(load_bundle(copy), {LOCATIONS: thumbnails()}, tmp_path / "out")
    assert first.path == both.path == (tmp_path / "out").resolve()
    assert set(both.card.files) >= {TILES, LOCATIONS}
    assert TILES not in load_bundle(copy).card.files


def test_an_extra_needs_a_known_name_and_a_folder_of_the_same_bundle(copy: Path, tmp_path: Path):
    bundle = load_bundle(copy)
    with pytest.raises(BundleError, match="no extra"):
        add_to_bundle(bundle, {"other.safetensors": thumbnails()})
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("x")
    with pytest.raises(BundleError, match="not this bundle"):
        add_to_bundle(bundle, {TILES: thumbnails()}, tmp_path / "notes")


def test_an_altered_extra_is_refused(copy: Path):
    add_to_bundle(load_bundle(copy), {TILES: thumbnails()})
    with (copy / TILES).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    with pytest.raises(BundleError, match="is not the file"):
        load_bundle(copy)


def test_a_bundle_that_cannot_be_saved_leaves_the_old_one_whole(copy: Path):
    bundle = load_bundle(copy)
    card = dataclasses.replace(bundle.card, scores={"uncertainty": "entropy", "ood": "knn@nowhere"})
    with pytest.raises(BundleError):
        save_bundle(copy, bundle.trained_network(), card, bundle.reference)
    assert load_bundle(copy).hashes == bundle.hashes
