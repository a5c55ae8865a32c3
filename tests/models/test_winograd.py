"""Winograd's convolutions are the usual ones but for rounding, and are used only where they are."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from napari_ood import RunError
from napari_ood.models import machine_code, network, prepared, winograd, winograd_code
from napari_ood.models.machine_code import Processor, this_processor
from napari_ood.models.network import PENULTIMATE_ONLY, BlockSpec, MultiHeadNet
from napari_ood.models.precision import FP32, WINOGRAD, Arithmetic, ArithmeticNet
from napari_ood.models.prepared import InferenceNet
from napari_ood.models.winograd import WinogradConv2d
from napari_ood.models.winograd_code import panel, room

MEAN, STD = (0.5,) * 3, (0.25,) * 3


PROCESSORS = {
    "any": Processor.named("", ""),
    "8 lanes": Processor.named("", "+avx,+avx2,+fma"),
    "this": this_processor(),
}
GUARD = 64
"""Floats before and after each array that nobody may read or write."""


@pytest.fixture(params=PROCESSORS)
def processor(request: pytest.FixtureRequest) -> Processor:
    wanted = PROCESSORS[request.param]
    if not set(filter(None, wanted.features.split(","))) <= set(
        this_processor().features.split(",")
    ):
        pytest.skip("this processor cannot run that code")
    return wanted


def _guarded(shape: tuple[int, ...], fill: float = np.nan) -> tuple[np.ndarray, np.ndarray]:
    """An array, and the memory around it."""
    size = int(np.prod(shape))
    around = np.full(size + 2 * GUARD, fill, np.float32)
    return around[GUARD : GUARD + size].reshape(shape), around


sizes = st.tuples(*[st.integers(1, 21)] * 2)


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    size=sizes,
    channels=st.tuples(*[st.sampled_from([16, 32, 48])] * 2),
    n=st.integers(1, 4),
    stride=st.sampled_from([1, 2]),
    bias=st.booleans(),
    most=st.sampled_from([8, 16, 40]),
    seed=st.integers(0, 99),
)
def test_it_computes_what_the_convolution_computes(
    processor: Processor,
    size: tuple[int, int],
    channels: tuple[int, int],
    n: int,
    stride: int,
    bias: bool,
    most: int,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    conv = nn.Conv2d(*channels, 3, stride, padding=1, bias=bias)
    x = torch.randn(n, channels[0], *size)
    with using(processor, most), torch.inference_mode():
        expected, found = conv(x), WinogradConv2d(conv)(x)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=3e-5)


@contextmanager
def using(processor: Processor, most: int = winograd.PATCHES) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine_code, "this_processor", lambda: processor)
        patch.setattr(winograd, "PATCHES", most)
        patch.setattr(winograd, "compiled", cache(winograd.compiled.__wrapped__))
        yield


@settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    size=sizes, n=st.integers(1, 3), stride=st.sampled_from([1, 2]), most=st.sampled_from([8, 24])
)
def test_it_keeps_to_its_own_memory(
    processor: Processor, size: tuple[int, int], n: int, stride: int, most: int
) -> None:
    """NaN around the input would come out, and what is written around the others would show."""
    (height, width), n_in, n_out = size, 16, 48
    padded = -(-n_out // panel(processor)) * panel(processor)
    high, wide = -(-height // stride), -(-width // stride)
    rows, columns = -(-high // 4), -(-wide // 4)
    products = {1: 36, 2: 81}[stride]
    x, _ = _guarded((n, height, width, n_in))
    x[:] = np.random.default_rng(0).normal(size=x.shape)
    kernels, _ = _guarded((products, padded // panel(processor), n_in, panel(processor)))
    bias, _ = _guarded((n_out,))
    kernels[:], bias[:] = 1, 0
    written = {
        "out": _guarded((n, high, wide, n_out)),
        "patches": _guarded((room(products, most, n_in),)),
        "sums": _guarded((room(products, most, padded),)),
    }
    arrays = [x, kernels, bias, *(array for array, _ in written.values())]
    with using(processor):
        winograd.compiled(stride)(
            *(array.ctypes.data for array in arrays),
            *(n * rows * columns, most, rows, columns),
            *(height, width, n_in, high, wide, n_out, padded),
        )
    assert np.isfinite(written["out"][0]).all()
    for name, (_, around) in written.items():
        assert np.isnan(around[:GUARD]).all() and np.isnan(around[-GUARD:]).all(), name


def test_an_image_gets_the_same_bits_in_any_batch_and_on_any_processor_that_rounds_once() -> None:
    if "+fma" not in this_processor().features and "+neon" not in this_processor().features:
        pytest.skip("this processor rounds products")
    conv, x = nn.Conv2d(48, 32, 3, padding=1), torch.randn(5, 48, 13, 9)
    with torch.inference_mode():
        whole = WinogradConv2d(conv)(x)
        assert torch.equal(WinogradConv2d(conv)(x[3:4]), whole[3:4])
        if "+avx2" in this_processor().features:
            with using(PROCESSORS["8 lanes"], 16):
                assert torch.equal(WinogradConv2d(conv)(x), whole)


@pytest.mark.parametrize(
    "changed",
    [
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
        lambda x: x.repeat(1, 2, 1, 1)[:, :16],
        lambda x: x.double(),
        lambda x: x[:0],
    ],
    ids=["channels last", "transposed", "a part", "double", "no image"],
)
def test_it_takes_images_however_they_lie_in_memory(
    changed: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    conv, x = nn.Conv2d(16, 16, 3, padding=1), torch.randn(2, 16, 6, 9)
    with torch.inference_mode():
        expected = conv(x)[: len(changed(x))]
        torch.testing.assert_close(WinogradConv2d(conv)(changed(x)), expected, rtol=1e-4, atol=1e-5)


def test_turning_the_networks_memory_does_not_touch_its_kernels() -> None:
    conv, x = nn.Conv2d(64, 64, 3, padding=1), torch.randn(2, 64, 6, 9)
    fast = WinogradConv2d(conv)
    with torch.inference_mode():
        expected = fast(x)
        assert torch.equal(fast.to(memory_format=torch.channels_last)(x), expected)
        assert torch.equal(copy.deepcopy(fast)(x), expected)


def test_gradients_are_refused_as_they_would_be_lost() -> None:
    conv = WinogradConv2d(nn.Conv2d(16, 16, 3, padding=1))
    x = torch.randn(1, 16, 8, 8, requires_grad=True)
    with pytest.raises(RuntimeError, match="no gradients"):
        conv(x)
    with torch.no_grad():
        conv(x)


def test_kernels_of_another_kind_of_processor_are_refused() -> None:
    """Their panels have another width, so the code would multiply by the wrong numbers."""
    conv = WinogradConv2d(nn.Conv2d(64, 64, 3, padding=1))
    mine, other = this_processor(), PROCESSORS["any"]
    assert panel(mine) != panel(other)
    with using(other), pytest.raises(RuntimeError, match="another processor"):
        conv(torch.randn(1, 64, 8, 8))


@pytest.mark.parametrize("features", ["+avx512f", "+avx,+avx2,+fma", ""])
@pytest.mark.parametrize("stride", [1, 2])
def test_functions_need_less_than_a_page_of_the_stack(
    stride: int, features: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or code for Windows calls ``__chkstk``, which need not be there: LLVM would abort."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    sources: list[str] = []
    monkeypatch.setattr(winograd_code, "Compiled", lambda module, *_: sources.append(str(module)))
    with using(Processor.named("", features)):
        winograd.compiled(stride)
    target = llvm.Target.from_triple("x86_64-pc-windows-msvc")
    machine = target.create_target_machine(features=features, opt=2)
    code = machine.emit_assembly(llvm.parse_assembly(sources[0]))
    assert "convolve" in code and "chkstk" not in code


REFUSING = """
import ctypes, sys
import torch
from torch import nn
from napari_ood.models.winograd import WinogradConv2d
from napari_ood.models.machine_code import this_processor
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
this_processor()  # what comes from now on may not become executable
if ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
    sys.exit("no such setting")
conv = nn.Conv2d(16, 16, 3, padding=1)
try:
    WinogradConv2d(conv)(torch.randn(1, 16, 8, 8))
except OSError as error:
    print(error)
"""


def test_where_memory_must_not_become_executable_the_program_goes_on() -> None:
    """LLVM does not tell, and the first call would be the last."""
    done = subprocess.run([sys.executable, "-c", REFUSING], capture_output=True, text=True)
    if "no such setting" in done.stderr or sys.platform != "linux":
        pytest.skip("this system cannot forbid it")
    assert done.returncode == 0, done.stderr
    assert "memory cannot be made executable" in done.stdout


def test_images_of_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="32 channels for a convolution of 16"):
        WinogradConv2d(nn.Conv2d(16, 16, 3, padding=1))(torch.randn(1, 32, 8, 8))


def test_threads_do_not_get_into_each_others_way() -> None:
    conv = nn.Conv2d(32, 32, 3, padding=1)
    fast, images = WinogradConv2d(conv), [torch.randn(1, 32, 40, 40) for _ in range(8)]
    with ThreadPoolExecutor(4) as pool, torch.no_grad():
        expected = [fast(x) for x in images]
        for found, x in zip(pool.map(fast, images * 5), expected * 5, strict=True):
            assert torch.equal(found, x)


def test_toom_cook_is_exact() -> None:
    rng = np.random.default_rng(0)
    for points, outputs, taps in (([0, 1, -1, 2, -2], 4, 3), ([0, 1, -1, 2], 4, 2), ([0, 1], 2, 2)):
        b, g, a = winograd.toom_cook(points, outputs, taps)
        d, kernel = rng.normal(size=outputs + taps - 1), rng.normal(size=taps)
        np.testing.assert_allclose(a @ ((b @ d) * (g @ kernel)), np.correlate(d, kernel))


@pytest.mark.parametrize(
    ("changed", "suits"),
    [
        ({}, True),
        ({"padding": "same"}, True),
        ({"bias": False}, True),
        ({"stride": 2}, True),
        ({"stride": (1, 2)}, False),
        ({"stride": 3}, False),
        ({"dtype": torch.float64}, False),
        ({"device": "meta"}, False),
        ({"in_channels": 24}, False),  # vectors do not divide it
        ({"in_channels": 16, "out_channels": 16}, True),
        ({"in_channels": 16, "out_channels": 16, "stride": 2}, False),  # nothing gained
        ({"dilation": 2, "padding": 2}, False),
        ({"groups": 2}, False),
        ({"padding": 0}, False),
        ({"padding_mode": "reflect"}, False),
        ({"kernel_size": 5, "padding": 2}, False),
    ],
)
def test_it_suits_one_kind_of_convolution(changed: dict[str, Any], suits: bool) -> None:
    usual = {"in_channels": 64, "out_channels": 64, "kernel_size": 3, "padding": 1}
    conv = nn.Conv2d(**{**usual, **changed})
    assert WinogradConv2d.suits(conv) is suits


def _net(seed: int = 0) -> InferenceNet:
    torch.manual_seed(seed)
    blocks = (*PENULTIMATE_ONLY, BlockSpec("early", "layer1.0.conv2", "mean_std"))
    net = MultiHeadNet("timm:resnet18", blocks, tile_size=64)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)  # timm's zeros would switch convolutions off
    return InferenceNet(net, MEAN, STD)


def _tiles(n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (n, 64, 64, 3), dtype=torch.uint8, generator=generator)


def test_a_networks_outputs_change_by_rounding_only_and_features_are_still_tapped() -> None:
    tiles, plain = _tiles(8), _net()
    net = ArithmeticNet(_net(), Arithmetic(FP32, convolution=WINOGRAD))
    assert any(isinstance(m, WinogradConv2d) for m in net._net.modules())
    with torch.inference_mode():
        for expected, found in zip(plain(tiles), net(tiles), strict=True):
            assert (expected - found).abs().max() < 1e-5 * expected.abs().max()
            assert not torch.equal(expected, found)  # or nothing was replaced where it counts


def test_nothing_is_replaced_where_outputs_would_change(monkeypatch: pytest.MonkeyPatch) -> None:
    net, tiles = _net(), _tiles(4)
    with torch.inference_mode():
        expected = net(tiles)
    monkeypatch.setattr(prepared, "TOLERANCE", 0.0)
    assert not net.use_winograd()
    with torch.inference_mode():
        for a, b in zip(expected, net(tiles), strict=True):
            assert torch.equal(a, b)


def test_a_network_without_such_convolutions_stays_as_it_is() -> None:
    net = InferenceNet(MultiHeadNet("timm:efficientnet_lite0", tile_size=64), MEAN, STD)
    assert not net.use_winograd()


def test_without_machine_code_the_network_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    net, tiles = _net(), _tiles(2)
    with torch.inference_mode():
        expected = net(tiles)

    def refused(stride: int) -> None:
        raise RuntimeError("memory cannot be made executable")

    monkeypatch.setattr(winograd, "compiled", refused)
    assert not net.use_winograd()
    with torch.inference_mode():
        for a, b in zip(expected, net(tiles), strict=True):
            assert torch.equal(a, b)


class Odd(nn.Module):
    """A trunk that uses a convolution's weights itself, or as one module in two places."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.stem, self.conv = nn.Conv2d(3, 32, 3, 2, 1), nn.Conv2d(32, 32, 3, padding=1)
        self.same = self.conv
        self.num_features = 32

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(self.stem(x).relu()).relu()
        if self.kind == "weights":
            x = nn.functional.conv2d(x, self.conv.weight, padding=1)
        if self.kind == "twice":
            x = self.conv(self.same(x)).double().float()
        return x.mean((2, 3))


def _odd(kind: str, monkeypatch: pytest.MonkeyPatch) -> InferenceNet:
    torch.manual_seed(0)
    monkeypatch.setattr(network, "build_trunk", lambda *_: Odd(kind))
    return InferenceNet(MultiHeadNet("timm:resnet18", tile_size=64), MEAN, STD)


@pytest.mark.parametrize(("kind", "used"), [("weights", False), ("twice", True)])
def test_odd_networks_compute_what_they_did(
    kind: str, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, tiles = _odd(kind, monkeypatch), _tiles(3)
    with torch.inference_mode():
        expected = net(tiles)
        assert net.use_winograd() is used
        for a, b in zip(expected, net(tiles), strict=True):
            assert torch.equal(a, b) is not used
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_convolutions_that_somebody_watches_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    net, seen = _odd("", monkeypatch), []
    net.net.trunk.conv.register_forward_hook(lambda *_: seen.append(1))
    assert not net.use_winograd()
    with torch.inference_mode():
        net(_tiles(1))
    assert len(seen) == 1


def test_each_block_of_features_has_to_stay_what_it_is() -> None:
    """A small one beside a large one, too."""
    net = _net().net
    (start, stop), (other, _) = ((b.start, b.stop) for b in net.blocks)
    logits, features = torch.ones(2, 10, 2), torch.ones(2, net.blocks[-1].stop)
    features[:, start:stop] = 1e-3
    changed = features.clone()
    changed[:, start:stop] += 1e-5
    same, parts = prepared._parts(net, (logits, features)), prepared._parts(net, (logits, changed))
    assert prepared._close(same, same) and not prepared._close(same, parts)
    changed = features.clone()
    changed[:, other] += 1e-5
    assert prepared._close(same, prepared._parts(net, (logits, changed)))


def test_a_run_does_not_go_on_where_there_is_no_winograd() -> None:
    net = InferenceNet(MultiHeadNet("timm:efficientnet_lite0", tile_size=64), MEAN, STD)
    with pytest.raises(RunError, match="--device cpu, or choose another"):
        ArithmeticNet(net, Arithmetic(FP32, convolution=WINOGRAD))


def test_arithmetic_of_a_later_version_is_said_to_be_that() -> None:
    record = {"precision": "fp32", "layout": "channels_last"}
    assert Arithmetic.from_dict(record) == Arithmetic()
    with pytest.raises(RunError, match=r"later napari-ood \(rounding\): update"):
        Arithmetic.from_dict({**record, "rounding": "up"})
