"""``napari-ood compare`` at the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_ood.cli import main
from resting import interrupted


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tiles")
    rng = np.random.default_rng(0)
    for name, n in (("data/a", 30), ("data/b", 30), ("far", 8)):
        (root / name).mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def arguments(tiles: Path, out: Path, epochs: int = 1) -> list[str]:
    return [
        *("compare", str(tiles / "data"), "--ood", f"far={tiles / 'far'}", "--out", str(out)),
        *("--methods", "single,mheads:mean", "--arch", "timm:test_resnet", "--tile", "32"),
        *("--epochs", str(epochs), "--batch-size", "16", "--members", "2", "--seeds", "1"),
        *("--head-depth", "0", "--device", "cpu"),
    ]


def test_compare_prints_and_writes_tables(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tiles, tmp_path)) == 0
    printed = capsys.readouterr()
    assert printed.out == (tmp_path / "compare.md").read_text("utf-8")
    assert "network 1/2, single of seed 0: epoch 1/1" in printed.err
    record = json.loads((tmp_path / "compare.json").read_text("utf-8"))
    assert record["seeds_done"] == 1
    assert set(record["methods"]) == {"single", "mheads:mean"}
    assert set(record["methods"]["single"]["per_seed"][0]["entropy"]) == {"far", "mean"}
    assert record["settings"]["mheads:mean"]["config"]["n_heads"] == 2


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["--methods", "single,nonsense"], "unknown method 'nonsense'"),
        (["--members", "1"], "members must be at least 2"),
        (["--ood", "far=x", "far=y"], "same name"),
        (["--arch", "no_such_net"], "unknown architecture 'no_such_net'"),
    ],
)
def test_bad_input_is_one_line(
    tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: list[str], says: str
) -> None:
    assert main([*arguments(tiles, tmp_path), *changes]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if says in line]
    assert len(said) == 1 and said[0].startswith("napari-ood: ")


@pytest.mark.skipif(os.name == "nt", reason="needs SIGINT to a child")
def test_ctrl_c_stops_and_the_same_command_goes_on(tiles: Path, tmp_path: Path) -> None:
    status, said = interrupted(arguments(tiles, tmp_path, epochs=3))
    assert status == 130, said
    assert "the same command goes on" in said
    assert len(list((tmp_path / "networks").glob("*.checkpoint.safetensors"))) == 1
