"""``napari-ood evaluate``: what it prints and writes, and how it fails."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_ood.cli import main
from napari_ood.models import Bundle


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``known`` with a folder per class, ``noise`` and ``large`` without; 12 images each."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for i in range(12):
        known = rng.integers(60, 250, 3) + rng.normal(0, 15, (32, 32, 3))
        name = ("red", "green", "blue")[i % 3]
        noise, large = (rng.integers(0, 256, (side, side, 3)) for side in (32, 80))
        for path, pixels in ((f"known/{name}", known), ("noise", noise), ("large", large)):
            (folder / path).mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            image.save(folder / path / f"{i}.png")
    return folder


def test_tables_json_and_figures(
    tiny_bundle: Bundle, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(
        "evaluate", tiny_bundle.path, "--id", data / "known",
        "--ood", f"noise={data / 'noise'}", f"large={data / 'large'}", "--bootstrap", 50,
        "--json", tmp_path / "e.json", "--figures", tmp_path / "figures", "--device", "cpu",
    )  # fmt: skip
    out, err = capsys.readouterr()
    assert code == 0, err
    record = json.loads((tmp_path / "e.json").read_text("utf-8"))
    assert {row["set"] for row in record["rows"]} == {"noise", "large"}
    row = next(
        r for r in record["rows"] if (r["set"], r["score"]) == ("noise", "mahalanobis@layer1")
    )
    low, high = row["auroc_ci"]
    line = next(line for line in out.splitlines() if line.split()[:2] == ["noise", "12"])
    assert f" {row['auroc']:.3f} ({low:.3f}–{high:.3f}) " in line
    assert f"12 tiles, accuracy {record['id']['accuracy']:.3f}" in out
    assert out.index("ood: mahalanobis@layer1") < out.index("uncertainty: entropy")
    assert "large: of 12 images, 12 resized as a whole" in err
    assert "noise: 12/12 tiles" in err
    figures = sorted((tmp_path / "figures").iterdir())
    assert [path.name for path in figures] == [
        "histogram-ood.png", "histogram-uncertainty.png", "risk-coverage.png", "roc-ood.png",
        "roc-uncertainty.png",
    ]  # fmt: skip
    for path in figures:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        assert min(pixels.shape[:2]) > 400
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


def test_scores_that_are_asked_for_are_printed(
    tiny_bundle: Bundle, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = f"noise={data / 'noise'}"
    options = ("--bootstrap", 0, "--scores", "msp,energy", "--device", "cpu")
    assert run("evaluate", tiny_bundle.path, "--id", data / "known", "--ood", noise, *options) == 0
    out, err = capsys.readouterr()
    for name in ("msp", "energy"):
        table = out[out.index(f"\n{name} (flags ") + 1 :].splitlines()
        assert table[2].split()[:2] == ["noise", "12"] and table[2].endswith(" %")
    assert "0 more scores" not in err


def test_json_on_stdout_is_alone_there(
    tiny_bundle: Bundle, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--bootstrap", 0, "--scores", "msp", "--json", "-", "--device", "cpu")
    noise = f"noise={data / 'noise'}"
    assert run("evaluate", tiny_bundle.path, "--id", data / "known", "--ood", noise, *options) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["bundle"] == "tiny"
    assert {row["score"] for row in record["rows"]} == {"msp", "entropy", "mahalanobis@layer1"}
    assert record["rows"][0]["auroc_ci"] is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--ood", "a={noise}", "a={large}"], "names 'a' twice"),
        (["--ood", "a={noise}", "--mpp", "0.5", "--mpp", "a=1"], "either once for all"),
        (["--json", "{noise}/no/where.json"], "its folder does not exist"),
        (["--figures", "{noise}/0.png"], "is no folder"),
        (["--ood", "a={noise}/0.png/nothing"], "does not exist"),
        (["--scores", "entropy@layer1"], "reads logits"),
        (["--split", "test"], "no split 'test'"),
    ],
)
def test_bad_arguments_are_one_line(
    options: list[str],
    said: str,
    tiny_bundle: Bundle,
    data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [text.format(noise=data / "noise", large=data / "large") for text in options]
    assert run("evaluate", tiny_bundle.path, "--id", data / "known", *given) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_a_file_that_cannot_be_written_is_named(
    tiny_bundle: Bundle, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = ("--id", data / "known", "--bootstrap", 0, "--device", "cpu")
    assert run("evaluate", tiny_bundle.path, *known, "--json", tmp_path) == 2
    assert f"{tmp_path} cannot be written: it is a folder" in capsys.readouterr().err


@pytest.mark.parametrize("pair", ["noise", "=noise", "noise="])
def test_a_set_needs_a_name(pair: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        run("evaluate", "tiny", "--id", data, "--ood", pair)
    assert exit_info.value.code == 2
    assert "is not NAME=DATA" in capsys.readouterr().err


def test_real_tiles(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The shipped bundle on 60 tiles of its kind and on photographs."""
    lines = (shared_data / "pcam" / "labels.csv").read_text("utf-8").splitlines()
    valid = [line for line in lines[1:] if line.split(",")[1] == "valid"][::50]
    table = tmp_path / "pcam.csv"
    rows = [f"{shared_data / 'pcam'}/{line}" for line in valid]
    table.write_text("\n".join([lines[0], *rows]), "utf-8")
    options = ("--bootstrap", 20, "--scores", "default", "--json", "-")
    natural = f"natural={shared_data / 'ood' / 'natural'}"
    assert run("evaluate", "lymph-node-he", "--id", table, "--ood", natural, *options) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["id"]["accuracy"] > 0.7
    default = record["default_scores"]["ood"]
    row = next(r for r in record["rows"] if r["score"] == default)
    assert row["auroc"] > 0.95
    assert record["flagged"]["natural"]["ood"] > record["flagged"]["id"]["ood"]
