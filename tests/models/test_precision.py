"""Precision and layout: measured once, kept in a file that may be anything; what bf16 changes."""

from __future__ import annotations

import csv
import json
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from napari_ood import Bundle, RunError, load_bundle
from napari_ood.errors import BundleError, TrainingError
from napari_ood.models import precision as under_test
from napari_ood.models import save_bundle, winograd
from napari_ood.models.choices import KnownChoices
from napari_ood.models.halved import (
    MOST_CHANGED,
    changed_decisions,
    halved_reference,
    recorded_changes,
    small_change,
)
from napari_ood.models.lanes import Lanes
from napari_ood.models.precision import (
    BF16,
    CHANNELS_FIRST,
    ENVIRONMENT,
    LEAST_ROUNDS,
    USUAL,
    Arithmetic,
    ArithmeticNet,
    candidates_for,
    choose,
    measure,
    resolve_arithmetic,
)
from napari_ood.models.prepared import InferenceNet
from napari_ood.scores import mean_probability
from napari_ood.training.halved import add_bf16, run_in

FIRST = Arithmetic("fp32", CHANNELS_FIRST)
HALF = Arithmetic(BF16)
Calls = list[list[Arithmetic]]


@pytest.fixture
def known(tmp_path: Path) -> KnownChoices:
    return KnownChoices(tmp_path / "cache" / "arithmetic.json")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Stands in for the measurement, in which the last candidate is twice as fast."""
    calls: Calls = []

    def fake(network: object, candidates: list[Arithmetic], *_: object) -> object:
        calls.append(candidates)
        return {c: [10.0 * (1 + (c == candidates[-1]))] * 3 for c in candidates}

    monkeypatch.setattr(under_test, "measure", fake)
    monkeypatch.delenv(ENVIRONMENT)
    return calls


# -------------------------------------------------------------------------------- choosing


def test_another_arithmetic_has_to_win_every_round_and_by_a_tenth() -> None:
    assert choose({USUAL: [10, 10, 10], FIRST: [12, 11.5, 13]}) == FIRST
    assert choose({USUAL: [10, 10, 10], FIRST: [12, 9.9, 13]}) == USUAL
    assert choose({USUAL: [10, 10, 10], FIRST: [10.5, 10.6, 10.7]}) == USUAL
    # A slow round is slow for both: ratios count, not medians of each.
    assert choose({USUAL: [10, 2, 10], FIRST: [12, 2.4, 12], HALF: [15, 3, 15]}) == HALF
    assert choose({USUAL: [10, 10], HALF: [30, 30]}) == USUAL  # two rounds tell nothing


def test_measuring_takes_turns_and_stops_in_time(tiny_bundle: Bundle) -> None:
    speeds = measure(tiny_bundle.network("cpu"), [USUAL, FIRST, HALF], "cpu", 8, budget_s=0.0)
    usual = speeds.pop(USUAL)
    assert len(usual) == max(map(len, speeds.values())) <= LEAST_ROUNDS
    for rates in speeds.values():
        wins = [rate > other for rate, other in zip(rates, usual, strict=False)]
        assert all(wins[:-1])  # it drops out with its first defeat
        assert len(wins) == len(usual) or not wins[-1]


def _slowed(monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[Arithmetic]:
    """Let the usual arithmetic take so long for any batch; who computed is told."""
    calls, begin, compute = [], ArithmeticNet.__init__, ArithmeticNet.__call__

    def init(self: ArithmeticNet, net: InferenceNet, arithmetic: Arithmetic) -> None:
        begin(self, net, arithmetic)
        vars(self)["arithmetic"] = arithmetic

    def call(self: ArithmeticNet, tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(vars(self)["arithmetic"])
        end = time.thread_time() + seconds * (calls[-1] == USUAL)
        while time.thread_time() < end:
            pass
        return compute(self, tiles)

    monkeypatch.setattr(ArithmeticNet, "__init__", init)
    monkeypatch.setattr(ArithmeticNet, "__call__", call)
    return calls


def test_a_slow_network_gets_its_rounds_and_a_much_too_slow_one_is_not_measured(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three rounds of a ResNet-50 take longer than the budget; it gains by them for hours."""
    net, calls = tiny_bundle.network("cpu"), _slowed(monkeypatch, 0.05)
    speeds = measure(net, [USUAL, HALF], "cpu", 8, budget_s=0.0)
    assert [len(rates) for rates in speeds.values()] == [LEAST_ROUNDS] * 2
    assert choose(speeds) == HALF
    calls.clear()
    monkeypatch.setattr(under_test, "SLOW_S", 0.04)
    assert choose(measure(net, [USUAL, HALF], "cpu", 8)) == USUAL
    assert HALF not in calls


def test_a_known_choice_that_cannot_be_had_here_is_measured_anew(
    tiny_bundle: Bundle, known: KnownChoices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One home of several machines, of which one keeps memory from being executed."""
    calls, fast = [], Arithmetic(convolution="winograd")

    def fake(network: object, candidates: list[Arithmetic], *_: object) -> object:
        calls.append(candidates)
        return {USUAL: [10.0] * 3} | ({fast: [20.0] * 3} if len(calls) == 1 else {})

    def refused(stride: int) -> None:
        raise PermissionError("memory cannot be made executable")

    monkeypatch.setattr(under_test, "measure", fake)
    monkeypatch.delenv(ENVIRONMENT)
    for _ in range(2):
        assert resolve_arithmetic("auto", tiny_bundle, "cpu", 8, known) == fast
    monkeypatch.setattr(winograd, "compiled", refused)
    assert resolve_arithmetic("auto", tiny_bundle, "cpu", 8, known) == USUAL
    assert len(calls) == 2


def test_what_is_measured_shares_the_weights(tiny_bundle: Bundle) -> None:
    net = tiny_bundle.network("cpu")
    nets = under_test._nets(net, [USUAL, FIRST])
    usual, first = (copy._net.state_dict() for copy in nets.values())
    conv = next(name for name, tensor in usual.items() if tensor.ndim == 4 and tensor.shape[1] > 1)
    assert usual[conv].data_ptr() == net.state_dict()[conv].data_ptr()
    assert usual[conv].is_contiguous(memory_format=torch.channels_last)
    assert not first[conv].is_contiguous(memory_format=torch.channels_last)  # turned for itself


def test_auto_goes_without_winograd_where_llvmlite_is_not_installed(
    tiny_bundle: Bundle, known: KnownChoices, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.delenv(ENVIRONMENT)
    monkeypatch.setattr(under_test, "version", absent)
    monkeypatch.setitem(sys.modules, "napari_ood.models.machine_code", None)  # cannot be imported
    found = resolve_arithmetic("auto", tiny_bundle, "cpu", 8, known)
    assert found.convolution == "direct"
    assert json.loads(known.path.read_text())["choices"][0]["key"]["llvmlite"] is None


def test_what_other_programs_take_from_the_core_is_not_counted(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, compute, pause_s = tiny_bundle.network("cpu"), ArithmeticNet.__call__, 0.2

    def interrupted(self: ArithmeticNet, tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        time.sleep(pause_s)
        return compute(self, tiles)

    monkeypatch.setattr(ArithmeticNet, "__call__", interrupted)
    with closing(Lanes(1)) as lane:
        (rates,) = lane.submit(lambda: measure(net, [USUAL], "cpu", 8, 0.0)).result().values()
    assert min(rates) > 8 / pause_s


def test_what_was_measured_is_measured_once(
    tiny_bundle: Bundle,
    known: KnownChoices,
    measured: Calls,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert resolve_arithmetic("auto", tiny_bundle, "cpu", 8, known) == FIRST
    assert resolve_arithmetic("auto", tiny_bundle, "cpu", 8, known) == FIRST
    assert len(measured) == 1
    resolve_arithmetic("auto", tiny_bundle, "cpu", 16, known)  # another batch size
    monkeypatch.setattr(torch, "__version__", "99.0")
    resolve_arithmetic("auto", tiny_bundle, "cpu", 16, known)  # another torch
    assert len(measured) == 3
    monkeypatch.setenv(ENVIRONMENT, "measure")
    resolve_arithmetic("auto", tiny_bundle, "cpu", 16, known)
    assert len(measured) == 4
    assert len(json.loads(known.path.read_text())["choices"]) == 3


def test_winograd_is_tried_only_where_it_is_a_candidate(
    tiny_bundle: Bundle, measured: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InferenceNet, "use_winograd", lambda self: pytest.fail("tried"))
    under_test._measured(tiny_bundle.network("cpu"), [USUAL, FIRST], "mps", 2)
    assert measured == [[USUAL, FIRST]]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"format_version": 1}', '{"format_version": 2, "choices": []}',
     '{"format_version": 1, "choices": [1, {"key": 3}]}', "\udcff"],
)  # fmt: skip
def test_a_cache_that_is_no_cache_is_measured_anew(
    tiny_bundle: Bundle, known: KnownChoices, measured: Calls, text: str
) -> None:
    known.path.parent.mkdir()
    known.path.write_text(text, "utf-8", errors="surrogateescape")
    assert resolve_arithmetic("auto", tiny_bundle, "cpu", 8, known) == FIRST
    assert resolve_arithmetic("auto", tiny_bundle, "cpu", 8, known) == FIRST
    assert len(measured) == 1


def test_a_choice_that_no_candidate_is_any_more_is_measured_anew(
    tiny_bundle: Bundle, known: KnownChoices, measured: Calls
) -> None:
    resolve_arithmetic("auto", tiny_bundle, "cpu", 8, known)
    stored = json.loads(known.path.read_text())
    stored["choices"][0]["choice"] = "fp8, sideways"
    known.path.write_text(json.dumps(stored))
    assert resolve_arithmetic("auto", tiny_bundle, "cpu", 8, known) == FIRST
    assert len(measured) == 2


def test_a_cache_that_cannot_be_written_stops_nothing(
    tiny_bundle: Bundle, tmp_path: Path, measured: Calls
) -> None:
    (tmp_path / "file").write_text("in the way")
    known = KnownChoices(tmp_path / "file" / "arithmetic.json")
    assert resolve_arithmetic("auto", tiny_bundle, "cpu", 8, known) == FIRST


def test_threads_that_write_the_cache_leave_it_readable(known: KnownChoices) -> None:
    threads = [
        threading.Thread(target=known.put, args=({"n": i}, "fp32, channels_last", {}))
        for i in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(known.path.parent.iterdir()) == [known.path]  # nothing half-written is left
    assert any(known.get({"n": i}) == "fp32, channels_last" for i in range(12))


def test_the_environment_and_the_caller_decide_before_any_measurement(
    tiny_bundle: Bundle,
    known: KnownChoices,
    measured: Calls,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert resolve_arithmetic("fp32", tiny_bundle, "cpu", 8, known) == USUAL
    assert resolve_arithmetic("bf16", tiny_bundle, "cpu", 8, known) == HALF
    monkeypatch.setenv(ENVIRONMENT, "bf16")
    assert resolve_arithmetic("auto", tiny_bundle, "cpu", 8, known) == HALF
    assert resolve_arithmetic("fp32", tiny_bundle, "cpu", 8, known) == USUAL
    monkeypatch.setenv(ENVIRONMENT, "fp64")
    with pytest.raises(RunError, match="NAPARI_OOD_PRECISION is 'fp64'"):
        resolve_arithmetic("auto", tiny_bundle, "cpu", 8, known)
    with pytest.raises(RunError, match="choose auto, fp32 or bf16"):
        resolve_arithmetic("int8", tiny_bundle, "cpu", 8, known)
    assert not measured and not known.path.exists()


# -------------------------------------------------------------------------------- computing


def test_each_arithmetic_computes_the_same_function(tiny_bundle: Bundle) -> None:
    tiles = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)
    logits, features = run_in(tiny_bundle, tiles, USUAL)
    first = run_in(tiny_bundle, tiles, FIRST)
    np.testing.assert_allclose(first[0], logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(first[1], features, rtol=1e-4, atol=1e-5)
    for half in (HALF, Arithmetic(BF16, CHANNELS_FIRST)):
        found = run_in(tiny_bundle, tiles, half)
        assert found[0].dtype == found[1].dtype == np.float32
        assert not np.array_equal(found[1], features)  # it really is another arithmetic
        np.testing.assert_allclose(found[1], features, atol=0.05 * np.abs(features).max())


def test_channels_first_reaches_the_convolutions(tiny_bundle: Bundle) -> None:
    seen = {}
    for arithmetic in (USUAL, FIRST):
        net = tiny_bundle.network("cpu")
        convolution = next(m for m in net.modules() if isinstance(m, torch.nn.Conv2d))
        convolution.register_forward_pre_hook(
            lambda _, x, a=arithmetic: seen.__setitem__(a, x[0].is_contiguous())
        )
        ArithmeticNet(net, arithmetic)(torch.zeros(2, 32, 32, 3, dtype=torch.uint8))
    assert seen == {USUAL: False, FIRST: True}


# -------------------------------------------------------------------------------- the reference


@pytest.fixture(scope="module")
def halved(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle with its held-out tiles in bf16; they are found among others, shuffled."""
    rng = np.random.default_rng(0)
    tiles = rng.integers(60, 250, (150, 1, 1, 3)) + rng.normal(0, 15, (150, 32, 32, 3))
    images = tiles.clip(0, 255).astype(np.uint8)[rng.permutation(150)]
    return add_bf16(tiny_bundle, images, tmp_path_factory.mktemp("halved") / "tiny")


def test_runs_in_bf16_are_judged_by_held_out_tiles_in_bf16(
    tiny_bundle: Bundle, halved: Bundle
) -> None:
    assert halved.hashes == tiny_bundle.hashes  # stored runs stay runs of this bundle
    assert halved.in_precision("fp32") is halved
    assert tiny_bundle.in_precision("bf16") is tiny_bundle  # which has no such tiles
    other = halved.in_precision("bf16")
    assert halved.in_precision("bf16") is other is other.in_precision("bf16")
    assert other.hashes == halved.hashes
    before, after = halved.require_reference(), other.require_reference()
    rng = np.random.default_rng(0)
    tiles = rng.integers(60, 250, (150, 1, 1, 3)) + rng.normal(0, 15, (150, 32, 32, 3))
    held = tiles.clip(0, 255).astype(np.uint8)[100:]
    logits, features = run_in(halved, held, HALF)
    moved = np.abs(features - before.validation_features).max(axis=0)
    assert (np.abs(after.validation_features - features) <= 0.01 * moved + 1e-6).all()
    np.testing.assert_allclose(after.validation_logits, logits, rtol=2e-3, atol=1e-4)
    np.testing.assert_array_equal(after.train_features, before.train_features)
    assert after.quantile("mahalanobis@layer1", 0.95) != before.quantile("mahalanobis@layer1", 0.95)


def test_the_changes_that_a_bundle_records_are_those_of_its_tiles(halved: Bundle) -> None:
    before, after = halved.require_reference(), halved_reference(halved)
    assert after is not None
    changes = recorded_changes(halved)
    assert changes == pytest.approx(changed_decisions(before, after, dict(halved.card.scores)))
    assert set(changes) == {"prediction", "uncertainty", "ood"}
    classes = [
        mean_probability(r.validation_logits, r.temperature).argmax(1) for r in (before, after)
    ]
    assert changes["prediction"] == pytest.approx((classes[0] != classes[1]).mean())


def test_auto_takes_bf16_only_from_bundles_that_say_it_changes_next_to_nothing(
    tiny_bundle: Bundle, halved: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert recorded_changes(tiny_bundle) is None and not small_change(tiny_bundle)
    assert HALF not in candidates_for(tiny_bundle, "cpu")
    for change, allowed in ((MOST_CHANGED, True), (MOST_CHANGED + 0.001, False)):
        changes = {"prediction": 0.0, "ood": change}
        monkeypatch.setattr("napari_ood.models.halved.recorded_changes", lambda _, c=changes: c)
        assert (HALF in candidates_for(halved, "cpu")) is allowed


def test_tiles_of_another_bundle_are_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="50 of the 50 held-out tiles"):
        add_bf16(tiny_bundle, np.zeros((4, 32, 32, 3), np.uint8), tmp_path / "b")


def test_an_extra_of_another_reference_is_refused(halved: Bundle, tmp_path: Path) -> None:
    from napari_ood.models import add_to_bundle
    from napari_ood.models.card import HALVED

    arrays = {k: v[:10] for k, v in (halved.arrays(HALVED) or {}).items()}
    bad = add_to_bundle(halved, {HALVED: arrays}, tmp_path / "bad")
    with pytest.raises(BundleError, match="does not fit the bundle's reference"):
        _ = bad.in_precision("bf16").reference


def test_saving_anew_drops_what_belonged_to_the_old_reference(
    halved: Bundle, tmp_path: Path
) -> None:
    card = replace(halved.card, name="anew")
    saved = save_bundle(tmp_path / "b", halved.trained_network(), card, halved.reference)
    assert recorded_changes(saved) is None


# -------------------------------------------------------------------------------- real tiles


def pcam_tiles(shared_data: Path, n: int) -> np.ndarray:
    """Tiles of PatchCamelyon's validation split, which no bundle has seen."""
    folder = shared_data / "pcam"
    with (folder / "labels.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "valid"]
    chosen = rows[:: max(1, len(rows) // n)][:n]
    return np.stack([np.asarray(Image.open(folder / row["path"])) for row in chosen])


def lesions(shared_data: Path, n: int) -> np.ndarray:
    from napari_ood.training.dataset import read_dataset

    dataset = read_dataset(shared_data / "isic2017").split("valid")
    return dataset.subset(np.arange(n)).read_tiles(load_bundle("dermoscopy").card.tile_size).tiles


@pytest.mark.parametrize(
    ("name", "tiles"), [("lymph-node-he", pcam_tiles), ("dermoscopy", lesions)]
)
def test_what_bf16_and_float16_change_is_bounded_on_real_tiles(
    shared_data: Path, name: str, tiles: Callable[[Path, int], np.ndarray]
) -> None:
    """Bounds are about twice what benchmarks/precision.py finds on many more tiles."""
    bundle = load_bundle(name)
    images = tiles(shared_data, 96)
    logits, features = run_in(bundle, images, USUAL)
    half = run_in(bundle, images, HALF)
    stored = features.astype(np.float16).astype(np.float32)
    before = bundle.require_reference()
    after = bundle.in_precision("bf16").require_reference()
    temperature = bundle.card.temperature
    p, q = (mean_probability(z, temperature) for z in (logits, half[0]))
    assert np.abs(p - q).max() <= 0.2 and np.abs(p - q).mean() <= 0.02
    doubtful = p.argmax(1) != q.argmax(1)
    first, second = np.sort(p, axis=1)[:, -1], np.sort(p, axis=1)[:, -2]
    assert (first - second)[doubtful].max(initial=0) <= 0.2  # only undecided tiles turn
    assert doubtful.mean() <= 0.05
    for score in bundle.card.scores.values():
        limit, low = before.quantile(score, 0.95), before.quantile(score, 0.05)
        unit = limit - low
        exact = before.score(score, logits, features)
        rough = after.score(score, *half)
        # Far beyond the threshold it is a share of the score that changes.
        assert (np.abs(rough - exact) <= 0.9 * unit + 0.2 * np.abs(exact - limit)).all(), score
        assert np.quantile(np.abs(rough - exact), 0.95) <= 0.35 * unit, score
        turned = (exact > limit) != (rough > after.quantile(score, 0.95))
        assert turned.mean() <= 0.06, score
        assert np.abs(exact - limit)[turned].max(initial=0) <= 0.5 * unit, score
        kept = before.score(score, logits, stored)
        assert np.abs(kept - exact).max() <= 0.02 * unit, score
        turned = (exact > limit) != (kept > limit)
        assert np.abs(exact - limit)[turned].max(initial=0) <= 0.02 * unit, score
        assert turned.mean() <= 0.02, score
