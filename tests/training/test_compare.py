"""Comparing methods: networks trained once, resumed exactly, seeded draws, honest intervals."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from napari_ood.errors import OodError, TrainingCancelled, TrainingError
from napari_ood.evaluation.comparison import SeedScores, measure, t_interval
from napari_ood.evaluation.comparison_table import tables
from napari_ood.training import TrainConfig, read_dataset
from napari_ood.training import networks as networks_module
from napari_ood.training.compare import COSTS, Comparison, ComparisonRequest, compare_methods
from napari_ood.training.compare_clock import Clock
from napari_ood.training.compare_data import split_three_ways
from napari_ood.training.config import TrainProgress
from napari_ood.training.mcdropout import add_inner_dropout, sampled_logits
from napari_ood.training.methods import parse_methods
from napari_ood.training.networks import Learning, NetworkStore, build

BASE = TrainConfig(
    architecture="timm:test_resnet",
    head_blocks=1,
    loss="wta_batch",
    epochs=2,
    batch_size=16,
    augment=0.0,
    precision="fp32",
    device="cpu",
)
ALL = ("single", "mcdropout", "ensemble", "mheads:annealed")


def save_tiles(folder: Path, n: int, colour: tuple[int, int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for i in range(n):
        pixels = np.array(colour) + rng.normal(0, 40, 3) + rng.normal(0, 30, (32, 32, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i:03}.png")


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tiles")
    save_tiles(root / "data" / "pink", 30, (200, 90, 130), 0)
    save_tiles(root / "data" / "blue", 30, (110, 90, 190), 1)
    save_tiles(root / "green", 12, (60, 220, 60), 2)
    return root


def request(tiles: Path, out: Path, **changes: object) -> ComparisonRequest:
    made = ComparisonRequest(
        data=tiles / "data",
        ood={"green": tiles / "green"},
        out=out,
        methods=ALL,
        config=BASE,
        seeds=2,
        members=2,
        samples=3,
        tile=32,
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
def trained_configs(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """Record what is really trained."""
    seen: list[TrainConfig] = []
    train: Callable[..., object] = networks_module.train

    def counted(*args: object, **options: object) -> object:
        trained = train(*args, **options)
        config = args[4]
        assert isinstance(config, TrainConfig)
        seen.append(config)
        return trained

    monkeypatch.setattr(networks_module, "train", counted)
    return seen


@pytest.fixture(scope="module")
def undisturbed(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return compare_methods(request(tiles, tmp_path_factory.mktemp("undisturbed")))


def without_times(comparison: Comparison) -> dict[str, list[dict[str, object]]]:
    """All records but what a clock measured."""
    return {
        method: [{k: v for k, v in record.items() if k != "cost"} for record in records]
        for method, records in comparison.records.items()
    }


def test_a_comparison_cut_off_again_and_again_equals_an_undisturbed_one(
    tiles: Path, tmp_path: Path, undisturbed: Comparison, trained_configs: list[TrainConfig]
) -> None:
    for _ in range(3):
        asked = iter([False] * 4)  # in the second epoch of the first, then of the next network
        with pytest.raises(TrainingCancelled):
            compare_methods(request(tiles, tmp_path), cancel=lambda asked=asked: next(asked, True))
    before = len(trained_configs)
    resumed = compare_methods(request(tiles, tmp_path))
    assert before > 0
    assert without_times(resumed) == without_times(undisturbed)
    # per seed: single, mcdropout, the ensemble's second, mheads; none of them twice
    assert len(trained_configs) == 8
    assert not list((tmp_path / "networks").glob("*checkpoint*"))


def test_an_ensemble_begins_with_the_single_network(undisturbed: Comparison) -> None:
    cost = {name: records[0]["cost"] for name, records in undisturbed.records.items()}
    assert cost["ensemble"]["networks"] == 2
    assert cost["ensemble"]["weights_mb"] == 2 * cost["single"]["weights_mb"]
    assert cost["ensemble"]["answering_mb"] > cost["single"]["answering_mb"] > 0
    # One network after the other is trained: what counts is the largest.
    assert cost["ensemble"]["training_mb"] == cost["single"]["training_mb"]
    (mheads,) = (found for name, found in cost.items() if name.startswith("mheads"))
    assert mheads["training_mb"] > cost["single"]["training_mb"] > 0
    assert cost["ensemble"]["training_minutes"] > cost["single"]["training_minutes"]
    seeds = [
        [plan.config.seed for plan in parse_methods(("ensemble",), BASE, 3, 2, 0.1)[0].networks(s)]
        for s in range(2)
    ]
    assert seeds == [[0, 1000, 2000], [1, 1001, 2001]]


def test_new_sets_and_samples_need_no_training(
    tiles: Path, tmp_path: Path, trained_configs: list[TrainConfig]
) -> None:
    small = request(tiles, tmp_path, methods=("mcdropout",), seeds=1)
    first = compare_methods(small)
    again = dataclasses.replace(
        small, samples=5, ood={"green": tiles / "green", "test": tiles / "green"}
    )
    second = compare_methods(again)
    assert len(trained_configs) == 1
    assert first.records["mcdropout"][0]["heads"]["n"] == 3
    record = second.records["mcdropout"][0]
    assert record["heads"]["n"] == 5
    assert record["entropy"]["test"] == record["entropy"]["green"] == record["entropy"]["mean"]


def test_one_seed_claims_no_interval(tiles: Path, tmp_path: Path) -> None:
    comparison = compare_methods(request(tiles, tmp_path, methods=("single",), seeds=1))
    ours = comparison.text.split("## For orientation")[0]
    rows = [line for line in ours.splitlines() if line.startswith("| `single`")]
    assert rows and not any("(" in row for row in rows)
    summary = json.loads((tmp_path / "compare.json").read_text())["methods"]["single"]["summary"]
    assert summary["id.accuracy"]["n"] == 1 and summary["id.accuracy"]["ci95"] is None
    assert {path.name for path in comparison.files} == {
        "compare.md", "compare.json", "roc.png", "histograms.png", "risk-coverage.png",
    }  # fmt: skip
    assert all(path.stat().st_size > 0 for path in comparison.files)


def test_the_papers_numbers_stay_apart(undisturbed: Comparison) -> None:
    ours, theirs = undisturbed.text.split("## For orientation")
    assert "84.2" in theirs and "28.9" in theirs and "Not comparable" in theirs
    measured = {"single", *ALL}
    assert all(f"| `{name}` | 2 |" in ours for name in measured)
    assert "`" not in theirs.split("|", 1)[1]


def test_t_interval_is_scipys() -> None:
    values = [0.81, 0.84, 0.79, 0.9]
    found = t_interval(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.mean == pytest.approx(0.835) and found.n == 4
    assert t_interval([0.5]).low is None
    with pytest.raises(ValueError):
        t_interval([])


def mc_network() -> tuple[Learning, networks_module.NetworkPlan]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(20) % 2
    (method,) = parse_methods(("mcdropout",), BASE, 2, 4, 0.2)
    return Learning.of(images, labels, images, labels), method.plan


def test_mc_dropout_draws_differ_and_are_seeded() -> None:
    data, plan = mc_network()
    net = build(plan, data)
    colours = ((0.5,) * 3, (0.25,) * 3)
    first = sampled_logits(net, *colours, data.images, 4, seed=7)
    same = sampled_logits(net, *colours, data.images, 4, seed=7)
    other = sampled_logits(net, *colours, data.images, 4, seed=8)
    assert first.shape == (20, 4, 2)
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 1e-4
    assert (first.std(axis=1) > 1e-5).all()
    # The network itself stays as it was, and its batch norms never see a batch.
    assert not any(module.training for module in net.eval().modules())
    alone = sampled_logits(net, *colours, data.images[:1], 400, seed=1)
    crowd = sampled_logits(net, *colours, data.images, 400, seed=2)[:1]
    spread = alone.std() / 400**0.5
    np.testing.assert_allclose(alone.mean(axis=1), crowd.mean(axis=1), atol=8 * spread)


def test_inner_dropout_is_off_in_evaluation_and_changes_no_weight() -> None:
    data, plan = mc_network()
    noisy = build(plan, data).eval()
    plain = build(dataclasses.replace(plan, inner_dropout=0.0), data).eval()
    assert noisy.state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(noisy.logits(x), plain.logits(x))
        assert not torch.equal(noisy.train().logits(x), plain.train().logits(x))
    assert add_inner_dropout(plain, 0.1) > 2


def test_head_variants_and_bad_names() -> None:
    names = ("mheads", "mheads:mean", "mheads:annealed@2", "mheads@0+bootstrap")
    plans = [method.plan.config for method in parse_methods(names, BASE, 5, 2, 0.1)]
    assert [(c.loss, c.head_blocks, c.bootstrap) for c in plans] == [
        ("wta_batch", 1, False),
        ("mean", 1, False),
        ("annealed", 2, False),
        ("wta_batch", 0, True),
    ]
    assert {c.n_heads for c in plans} == {5}
    for bad in ("mhead", "mheads:best", "mheads@", "single@1", "single:mean"):
        with pytest.raises(TrainingError, match=r"unknown (method|loss)"):
            parse_methods((bad,), BASE, 5, 2, 0.1)
    with pytest.raises(TrainingError, match="twice"):
        parse_methods(("single", "single"), BASE, 5, 2, 0.1)


def test_what_a_network_depends_on_is_in_its_key() -> None:
    data = {"tiles": "a"}
    (single,) = parse_methods(("single",), BASE, 5, 2, 0.1)
    key = single.plan.key(data)
    moved = dataclasses.replace(single.plan, config=dataclasses.replace(BASE, device="cuda"))
    here = dataclasses.replace(single.plan, config=BASE)
    assert moved.key(data) == here.key(data)
    assert single.plan.key({"tiles": "b"}) != key
    longer = dataclasses.replace(single.plan.config, epochs=3)
    assert dataclasses.replace(single.plan, config=longer).key(data) != key
    assert dataclasses.replace(single.plan, inner_dropout=0.1).key(data) != key


def test_tests_are_never_what_was_chosen_with(tmp_path: Path) -> None:
    for i in range(40):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{i}.png")

    def listed(split: Callable[[int], str]) -> tuple[set[int], set[int], set[int]]:
        lines = [f"{i}.png,{'ab'[i % 2]},{split(i)}" for i in range(40)]
        (tmp_path / "list.csv").write_text("\n".join(["path,label,split", *lines]))
        *rows, _ = split_three_ways(read_dataset(tmp_path / "list.csv"))
        parts = tuple(set(part.tolist()) for part in rows)
        assert sum(map(len, parts)) == len(set.union(*parts))
        return parts  # type: ignore[return-value]

    train, held, test = listed(lambda i: "train" if i < 30 else "valid")
    assert test == set(range(30, 40)) and train | held == set(range(30)) and held
    train, held, test = listed(lambda i: ("train", "valid", "test")[min(i // 14, 2)])
    assert (train, held, test) == (set(range(14)), set(range(14, 28)), set(range(28, 40)))
    train, held, test = listed(lambda i: "")
    assert 11 <= len(test) <= 15 and held and train
    with pytest.raises(OodError, match="needs train"):
        listed(lambda i: "other" if i else "test")


def test_foreign_tiles_may_not_be_in_distribution(tiles: Path, tmp_path: Path) -> None:
    bad = request(tiles, tmp_path, ood={"mine": tiles / "data" / "pink"})
    with pytest.raises(OodError, match="'mine' are in"):
        compare_methods(bad)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"of": 1}', '{"of": "%s", "costs": {"single": {"relative_time": 1.0}}}'],
)
def test_damaged_times_are_measured_again(
    content: str, undisturbed: Comparison, tiles: Path
) -> None:
    out = undisturbed.files[0].parent
    file = out / COSTS
    identity = json.loads(file.read_text("utf-8"))["of"]
    file.write_text(content.replace("%s", identity), "utf-8")
    again = compare_methods(request(tiles, out))
    assert without_times(again) == without_times(undisturbed)
    assert json.loads(file.read_text("utf-8"))["costs"].keys() == again.records.keys()


def test_a_damaged_network_says_what_to_do(tiles: Path, tmp_path: Path) -> None:
    one = request(tiles, tmp_path, methods=("single",), seeds=1)
    compare_methods(one)
    (file,) = (tmp_path / "networks").glob("*.safetensors")
    file.write_bytes(b"no network")
    with pytest.raises(TrainingError, match="delete it"):
        compare_methods(one)


def test_measures_of_a_perfect_and_a_useless_score() -> None:
    labels = np.arange(40) % 2
    sure = np.where(labels[:, None] == np.arange(2), 5.0, -5.0)[:, None].astype(np.float32)
    unsure = np.zeros((10, 1, 2), np.float32)
    record = measure(sure, labels, {"far": unsure, "same": sure}, temperature=1.0)
    assert record["entropy"]["far"] == {"auroc": 1.0, "fpr95": 0.0}
    assert record["entropy"]["same"] == {"auroc": 0.5, "fpr95": 1.0}
    assert record["entropy"]["mean"] == {"auroc": 0.75, "fpr95": 0.5}
    assert record["id"]["accuracy"] == 1 and "disagreement" not in record
    other = {**record, "id": {**record["id"], "accuracy": 0.5}}
    text = tables({"single": [record, record], "ensemble": [other, record]}, ["far", "same"])
    # the mean difference of (−0.5, 0) is −0.25, its t interval ± 12.7062 · 0.25
    assert "| `ensemble` | 2 | −0.250 (−3.427 to +2.927)" in text


def test_time_left_counts_every_network_once() -> None:
    clock = Clock({"a": "single", "b": "ensemble", "c": "mheads"}, {"a": 10.0, "gone": 99.0})
    progress = TrainProgress("all", 1, 4, 1, 9, 0.5, 0.5, seconds=1.0, seconds_left=7.0)
    assert clock.left("b", progress) == 7 + 10  # mheads: as all did
    clock.end("b", 30.0)
    assert clock.left("c", progress) == 7
    assert clock.place("c") == (3, 3)
    fresh = Clock({"a": "single", "b": "ensemble"}, {})
    assert fresh.left("a", progress) == 7 + 8  # as this one
    assert fresh.left("a", dataclasses.replace(progress, seconds_left=None)) is None


def test_store_knows_what_is_trained(tmp_path: Path) -> None:
    data, plan = mc_network()
    assert NetworkStore(tmp_path).seconds(plan, data) is None


def test_figures_take_constant_scores(tmp_path: Path) -> None:
    from napari_ood.evaluation.comparison_figures import write_figures

    flat = np.zeros(5, np.float32)
    seeds = [SeedScores(flat, np.zeros(5, bool), {"far": flat})]
    assert len(write_figures({"single": seeds}, ["far"], tmp_path)) == 3
