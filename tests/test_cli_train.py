"""``napari-ood train``: from folders of tiles to a bundle, interrupted and resumed."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from napari_ood import load_bundle
from napari_ood.cli import main
from napari_ood.cli.parser import build_parser
from napari_ood.cli.train import config
from napari_ood.errors import BundleError
from napari_ood.explain.thumbnails import ReferenceTiles
from napari_ood.models import add_to_bundle
from napari_ood.models.card import HALVED, LOCATIONS, TILES
from napari_ood.models.halved import recorded_changes
from napari_ood.training import TrainConfig, read_dataset, split_dataset
from napari_ood.training.layers import default_blocks
from napari_ood.training.make import EQUALLY_OFTEN, refit_bundle
from napari_ood.training.report import _write_held_out
from napari_ood.training.request import CHECKPOINT, Request
from resting import interrupted

TINY = ("--arch", "test_resnet", "--tile", "32", "--heads", "3", "--device", "cpu", "--mpp", "1")
FAST = (*TINY, "--batch-size", "16", "--lr", "0.003")


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty tiles of 32 px in two class folders: fine and coarse stripes."""
    folder = tmp_path_factory.mktemp("tiles")
    rng = np.random.default_rng(0)
    x = np.arange(32)
    for i in range(60):
        name, period = (("coarse", 12), ("fine", 4))[i % 2]
        wave = np.sin(2 * np.pi * x / period + rng.uniform(0, 6)) * 40
        shade = rng.uniform(130, 190, 3)
        pixels = shade + wave[:, None] + rng.normal(0, 8, (32, 32, 3))
        path = folder / name / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return folder


def run(*arguments: object) -> int:
    return main(["train", *map(str, arguments)])


@pytest.fixture(scope="module")
def made(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, str]:
    """A bundle, its summary, and what the process that made it said on stderr."""
    out = tmp_path_factory.mktemp("made") / "stripes"
    summary = out.with_suffix(".json")
    command = [sys.executable, "-m", "napari_ood", "train", tiles, "--out", out, *FAST]
    done = subprocess.run(
        [
            *map(str, command),
            "--epochs",
            "2",
            "--seed",
            "3",
            "--json",
            str(summary),
            "--precision",
            "bf16",
            "--bf16",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert str(out) in done.stdout
    assert "on cpu (bf16); report: " in done.stdout
    assert f"napari-ood evaluate {out} --id {out}.report/held_out.csv" in done.stdout
    return out, json.loads(summary.read_text("utf-8")), done.stderr


def test_a_reference_is_fitted_anew_with_the_same_weights(
    made: tuple[Path, Any, str], tiles: Path, tmp_path: Path
) -> None:
    """With the same blocks it is the same reference; others may be chosen.

    What belongs to the weights stays, thumbnails come only when asked for.
    """
    out = tmp_path / "again"
    shutil.copytree(made[0], out)
    before = add_to_bundle(load_bundle(out), {LOCATIONS: {"vectors": np.arange(6.0)}})
    assert TILES not in before.card.files
    assert HALVED in before.card.files
    specs = tuple((b.name, b.layer, b.pool) for b in before.card.blocks)
    config = TrainConfig(before.card.architecture, specs, n_heads=3, seed=3, device="cpu")
    request = Request(data=tiles, out=out, config=config, tile=32, mpp=1.0, thumbnails=True)
    again = refit_bundle(request, before)
    assert again.card.files[LOCATIONS] == before.card.files[LOCATIONS]
    assert HALVED not in again.card.files  # it belonged to the old reference
    assert len(ReferenceTiles(again)) == len(again.require_reference().train_features)
    assert again.hashes["model.safetensors"] == before.hashes["model.safetensors"]
    old, new = (bundle.require_reference() for bundle in (before, again))
    for name, array in old.tensors().items():
        np.testing.assert_allclose(new.tensors()[name], array, atol=2e-3, err_msg=name)
    wider = (*specs, ("deep", "layer3", "mean"))
    more = dataclasses.replace(
        request, thumbnails=False, config=dataclasses.replace(config, blocks=wider)
    )
    bundle = refit_bundle(more, again)
    assert [block.name for block in bundle.card.blocks] == [name for name, _, _ in wider]
    assert LOCATIONS in bundle.card.files and TILES not in bundle.card.files
    assert bundle.hashes["model.safetensors"] == before.hashes["model.safetensors"]
    fewer = dataclasses.replace(request, config=dataclasses.replace(config, blocks=specs[:1]))
    with pytest.raises(BundleError, match="features that are not stored"):
        refit_bundle(fewer, bundle)


def test_a_bundle_is_made_complete(made: tuple[Path, Any, str]) -> None:
    out, summary, _ = made
    bundle = load_bundle(out)
    card = bundle.card
    assert card.warnings == ()
    assert (card.name, card.classes, card.tile_size) == ("stripes", ("coarse", "fine"), 32)
    assert (card.mpp, card.n_heads) == (1.0, 3)
    assert card.scores["uncertainty"] == "entropy"
    assert card.training["data"]["train"] == {"coarse": 27, "fine": 27}
    assert card.training["data"]["held_out"] == {"coarse": 3, "fine": 3}
    assert len(card.training["data"]["files_sha256"]["train"]) == 64
    assert card.training["config"]["seed"] == 3
    assert card.results["held_out"] == summary["held_out"]
    reference = bundle.require_reference()
    assert len(reference.train_labels) == 54
    changes = recorded_changes(bundle)  # --bf16: its held-out tiles in bf16
    assert changes is not None and set(changes) == {"prediction", *card.scores}
    half = bundle.in_precision("bf16").require_reference()
    assert not np.array_equal(half.validation_features, reference.validation_features)
    tiles = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        logits, features = (out.numpy() for out in bundle.network("cpu")(tiles))
    for score in card.scores.values():
        low, high = reference.display_range(score)
        assert low < high
        assert np.isfinite(reference.score(score, logits, features)).all()


def test_the_summary_and_the_report_say_what_happened(made: tuple[Path, Any, str]) -> None:
    out, summary, stderr = made
    assert Path(summary["bundle"]) == out
    assert (summary["n_train"], summary["n_val"]) == (54, 6)
    assert [record["epoch"] for record in summary["history"]] == [0, 1]
    assert len(summary["usage"]["win_share"]) == 3
    assert (summary["device"], summary["precision"]) == ("cpu", "bf16")
    assert summary["seconds"] > 0
    for n in (1, 2):
        assert f"epoch {n}/2: loss" in stderr
    assert "column group" in stderr  # nobody said which tiles come from one slide
    report = Path(summary["report"])
    names = {file.name for file in report.iterdir()}
    assert {"report.md", "report.json", "history.png", "heads.png"} <= names
    assert CHECKPOINT not in names
    assert json.loads((report / "report.json").read_text("utf-8")) == summary
    text = (report / "report.md").read_text("utf-8")
    for record in summary["history"]:
        assert f"{record['nll']:.4f}" in text


def test_probabilities_are_those_of_equally_frequent_classes(made: tuple[Path, Any, str]) -> None:
    assert EQUALLY_OFTEN in load_bundle(made[0]).card.limitations


def test_the_held_out_tiles_are_listed_for_evaluate(
    made: tuple[Path, Any, str], tiles: Path, tmp_path: Path
) -> None:
    _, summary, _ = made
    listed = read_dataset(Path(summary["held_out_list"]))
    whole = read_dataset(tiles)
    _, held = split_dataset(whole, seed=3)
    assert listed.split("valid").paths == tuple(whole.paths[i].resolve() for i in held)
    assert listed.classes == whole.classes
    assert listed.labels.tolist() == whole.labels[held].tolist()
    # Groups and scales go with them.
    rows = [
        f"{p},{whole.classes[i]},{p.stem},1.0"
        for p, i in zip(whole.paths, whole.labels, strict=True)
    ]
    (tmp_path / "all.csv").write_text("path,label,group,mpp\n" + "\n".join(rows))
    part = read_dataset(tmp_path / "all.csv").subset(held)
    _write_held_out(tmp_path / "held_out.csv", part)
    again = read_dataset(tmp_path / "held_out.csv")
    assert again.groups.tolist() == part.groups.tolist()
    assert again.columns["mpp"].tolist() == ["1.0"] * len(held)


def test_what_exists_is_not_overwritten(
    made: tuple[Path, Any, str], tiles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, summary, _ = made
    assert run(tiles, "--out", out, *FAST) == 2
    assert "holds a bundle: choose another --out" in capsys.readouterr().err
    same = (tiles, "--out", out, *FAST, "--epochs", "2", "--resume")
    assert run(*same, "--seed", "4") == 2
    assert "seed 3 → 4" in capsys.readouterr().err
    before = load_bundle(out).hashes
    assert run(*same, "--seed", "3") == 0  # finished: nothing is left to do
    assert load_bundle(out).hashes == before
    said = capsys.readouterr().out
    assert f"{summary['held_out']['nll']:.4f}" in said
    assert run(*same, "--seed", "3", "--json", "-") == 0
    assert json.loads(capsys.readouterr().out) == summary


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
def test_ctrl_c_keeps_the_last_epoch_and_resume_goes_on_from_it(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (tiles, *FAST, "--epochs", "3")
    out = tmp_path / "cut"
    checkpoint = tmp_path / "cut.report" / CHECKPOINT
    status, stderr = interrupted(["train", *arguments, "--out", out])
    assert status == 130
    assert "--resume goes on" in stderr
    assert checkpoint.exists()
    assert not out.exists()
    assert run(*arguments, "--out", out) == 2
    assert "--resume goes on with it" in capsys.readouterr().err
    assert run(*arguments, "--out", out, "--resume") == 0
    resumed = capsys.readouterr().err
    assert "epoch 3/3" in resumed
    assert "epoch 1/3" not in resumed


def test_photographs_make_a_bundle_for_whole_images(tiles: Path, tmp_path: Path) -> None:
    for path in tiles.rglob("*.png"):
        copy = tmp_path / "photos" / path.parent.name / f"{path.stem}.jpg"
        copy.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).resize((80, 60)).save(copy)
    size = ("--arch", "test_resnet", "--tile", "32", "--heads", "2", "--device", "cpu")
    learning = ("--augment", "photo", "--lr", "0.003", "--epochs", "1")
    assert run(tmp_path / "photos", "--out", tmp_path / "o", *size, *learning) == 0
    card = load_bundle(tmp_path / "o").card
    assert (card.field, card.mpp) == ("image", None)
    assert any("resized as a whole" in text for text in card.limitations)


def test_a_training_starts_from_a_bundle_or_a_file(
    made: tuple[Path, Any, str],
    tiles: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from napari_ood.training import TrainConfig
    from napari_ood.training.initial import initial_network

    out, _, _ = made
    trained = load_bundle(out).trained_network()
    blocks = default_blocks("test_resnet", 32)
    settings = TrainConfig(architecture="test_resnet", blocks=blocks, n_heads=3)
    whole = initial_network(str(out), settings, 32, ("coarse", "fine"))
    assert "trunk and heads" in whole.origin
    for a, b in zip(whole.net.parameters(), trained.parameters(), strict=True):
        assert torch.equal(a, b)
    other = initial_network(str(out), settings, 32, ("fine", "coarse"))
    assert "other classes" in other.origin
    assert torch.equal(other.net.trunk.conv1[0].weight, trained.trunk.conv1[0].weight)
    assert not torch.equal(other.net.heads.weights[0], trained.heads.weights[0])

    # A trunk as its library names it, as other programs save it.
    weights = load_file(out / "model.safetensors")
    trunk = {k.removeprefix("trunk."): v for k, v in weights.items() if k.startswith("trunk.")}
    save_file(trunk, tmp_path / "trunk.safetensors")
    split = TrainConfig(
        architecture="test_resnet",
        blocks=default_blocks("test_resnet", 32, head_blocks=1),
        n_heads=3,
        head_blocks=1,
    )
    from_file = initial_network(str(tmp_path / "trunk.safetensors"), split, 32, ("a", "b"))
    for tail in from_file.net.tails:
        assert torch.equal(
            tail.state_dict()["layer4.0.conv1.weight"], trunk["layer4.0.conv1.weight"].float()
        )
    del trunk["conv1.0.weight"]
    save_file(trunk, tmp_path / "part.safetensors")
    for init, message in (
        (tmp_path / "part.safetensors", "'conv1.0.weight' of timm:test_resnet is absent"),
        (tmp_path / "gone.safetensors", "cannot be read"),
        ("no-such-bundle", "no-such-bundle"),
    ):
        assert run(tiles, "--out", tmp_path / "o", *FAST, "--init", init) == 2
        assert message in capsys.readouterr().err
    other_arch = ("--arch", "test_vit", "--tile", "160", "--init", out, "--device", "cpu")
    assert run(tiles, "--out", tmp_path / "o", *other_arch) == 2
    assert "use --arch timm:test_resnet" in capsys.readouterr().err


def test_a_trunk_is_fed_as_it_was_when_it_learned(
    made: tuple[Path, Any, str], tiles: Path, tmp_path: Path
) -> None:
    out, _, _ = made
    dark = tmp_path / "dark"
    for path in tiles.rglob("*.png"):
        copy = dark / path.parent.name / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).point(lambda v: v // 2).save(copy)
    short = (*FAST, "--epochs", "1", "--precision", "fp32", "--init", out)
    assert run(dark, "--out", tmp_path / "o", *short) == 0
    then, now = load_bundle(out).card, load_bundle(tmp_path / "o").card
    assert (now.mean, now.std) == (then.mean, then.std)
    assert now.training["config"]["mean_std"] == [list(then.mean), list(then.std)]


@pytest.mark.parametrize(
    ("architecture", "mean"),
    [
        ("timm:resnet18", (0.485, 0.456, 0.406)),
        ("timm:tf_efficientnet_lite0", (0.5, 0.5, 0.5)),
        ("torchvision:resnet18", (0.485, 0.456, 0.406)),
        ("torchvision:inception_v3", (0.5, 0.5, 0.5)),
        ("torchvision:efficientnet_v2_l", (0.5, 0.5, 0.5)),
    ],
)
def test_published_weights_tell_what_they_were_fed_with(
    architecture: str, mean: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_ood.training import TrainConfig, initial

    monkeypatch.setattr(initial, "_build", lambda *_, **__: object())  # nothing is downloaded
    found = initial.initial_network("timm", TrainConfig(architecture=architecture), 96, ("a", "b"))
    assert found.mean_std is not None
    assert found.mean_std[0] == mean


def test_published_weights_that_cannot_be_had(
    tiles: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("timm.create_model", offline)
    monkeypatch.setattr("napari_ood.training.make.default_blocks", lambda *_: ())
    assert run(tiles, "--out", tmp_path / "o", *FAST, "--init", "timm") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "no route to host" in said
    assert "check the network" in said
    assert run(tiles, "--out", tmp_path / "o", "--arch", "mheads_densenet", "--init", "timm") == 2
    assert "no weights are published" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--arch", "resnet1000"), "unknown architecture"),
        (("--tile", "4"), "8 to 2048 px"),
        (("--name", "a b"), "cannot name a bundle"),
        (("--head-depth", "40"), "head depth must be at most"),
        (("--epsilon", "1.5"), "epsilon"),
        (("--held-out", "2"), "between 0 and 1"),
        (("--device", "cuda:99"), "cpu"),
        (("--json", "/no/such/folder/x.json"), "does not exist"),
        (("--resume",), "no training to resume"),
    ],
)
def test_bad_requests_are_refused_in_one_line_before_anything_is_written(
    arguments: tuple[str, ...],
    message: str,
    tiles: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(tiles, "--out", tmp_path / "o", *FAST, *arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("napari-ood: ") == 1
    assert not list(tmp_path.iterdir())


def test_bad_data_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "gone", "--out", tmp_path / "o") == 2
    assert "does not exist" in capsys.readouterr().err
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    assert run(tmp_path, "--out", tmp_path / "o") == 2
    assert "one folder per class" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [("--lr", "fast"), ("--lr", "0"), ("--heads", "0")])
def test_malformed_arguments(wrong: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run("data", "--out", "o", *wrong)
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_arguments_become_settings() -> None:
    parse = build_parser().parse_args
    plain = config(parse(["train", "d", "--out", "o"]))
    assert (plain.n_heads, plain.head_epochs, plain.pretrained) == (10, 0, False)
    assert (plain.learning_rate, plain.loss, plain.epsilon) == ("auto", "mean", 0.05)
    assert plain.precision == "auto"
    assert config(parse(["train", "d", "--out", "o", "--precision", "bf16"])).precision == "bf16"
    options = "--init timm --head-depth 2 --lr 1e-3 --augment photo --loss annealed --epochs 7"
    begun = config(parse(["train", "d", "--out", "o", *options.split()]))
    assert (begun.pretrained, begun.head_blocks, begun.learning_rate) == (True, 2, 1e-3)
    assert (begun.augment_kind, begun.loss) == ("photo", "annealed")
    assert begun.head_epochs > 0
    assert begun.layer_decay < 1
    assert begun.cycles == 3  # 1 + 2 + 4 epochs


LAYERS = {
    "timm:resnet18": ("layer1", "layer2"),
    "torchvision:vgg11": ("features.9", "features.14"),
    "torchvision:densenet121": ("features.denseblock1", "features.denseblock2"),
    "torchvision:googlenet": ("conv3", "inception3b"),
    "timm:inception_v3": ("Conv2d_4a_3x3", "Mixed_5d"),
    "torchvision:efficientnet_b0": ("features.2", "features.3"),
    "timm:convnext_tiny": ("stages.0", "stages.1"),
    "timm:vit_tiny_patch16_224": ("blocks.2", "blocks.5"),
    "napari_ood:mheads_densenet": ("block1", "block2"),
}


@pytest.mark.parametrize("architecture", LAYERS)
def test_default_blocks_are_an_early_and_a_middle_layer(architecture: str) -> None:
    blocks = default_blocks(architecture, 96)
    assert [name for name, _, _ in blocks] == ["early", "middle", "penultimate"]
    assert tuple(layer for _, layer, _ in blocks[:2]) == LAYERS[architecture]


@pytest.mark.parametrize(
    ("architecture", "head_blocks"), [("timm:resnet18", 6), ("timm:vit_tiny_patch16_224", 8)]
)
def test_default_blocks_lie_before_the_heads(architecture: str, head_blocks: int) -> None:
    from napari_ood.models import BlockSpec, MultiHeadNet

    blocks = default_blocks(architecture, 96, head_blocks)
    specs = [BlockSpec(*block) for block in blocks]
    net = MultiHeadNet(architecture, specs, n_heads=2, tile_size=96, head_blocks=head_blocks)
    assert len({layer for _, layer, _ in blocks}) == len(net.blocks) == 3
