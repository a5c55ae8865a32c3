"""Winograd's convolutions are the usual ones but for rounding, and are used only where they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from napari_ood import RunError
from napari_ood.models import prepared
from napari_ood.models.network import PENULTIMATE_ONLY, BlockSpec, MultiHeadNet
from napari_ood.models.precision import FP32, WINOGRAD, Arithmetic, ArithmeticNet
from napari_ood.models.prepared import InferenceNet
from napari_ood.models.winograd import WinogradConv2d

MEAN, STD = (0.5,) * 3, (0.25,) * 3


@settings(deadline=None, max_examples=40)
@given(
    size=st.tuples(*[st.integers(1, 21)] * 2),
    channels=st.tuples(*[st.integers(1, 9)] * 2),
    n=st.integers(1, 5),
    bias=st.booleans(),
    last=st.booleans(),
    patches=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_it_computes_what_the_convolution_computes(
    size: tuple[int, int],
    channels: tuple[int, int],
    n: int,
    bias: bool,
    last: bool,
    patches: int,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    conv = nn.Conv2d(*channels, 3, padding=1, bias=bias).double()
    x = torch.randn(n, channels[0], *size, dtype=torch.float64)
    if last:
        x = x.to(memory_format=torch.channels_last)
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr("napari_ood.models.winograd.PATCHES", patches)
        expected, found = conv(x), WinogradConv2d(conv)(x)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_images_are_taken_in_parts_that_fit_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_ood.models.winograd.PATCHES", 1)
    parts = []
    convolve = WinogradConv2d._convolve

    def counted(self: WinogradConv2d, x: torch.Tensor, *rest: Any) -> None:
        parts.append(len(x))
        convolve(self, x, *rest)

    monkeypatch.setattr(WinogradConv2d, "_convolve", counted)
    conv, x = nn.Conv2d(4, 4, 3, padding=1), torch.randn(3, 4, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(WinogradConv2d(conv)(x), conv(x), rtol=1e-4, atol=1e-5)
    assert parts == [1] * 6  # two rows of patches in each of three images


def test_its_kernels_are_made_on_devices_without_double_precision() -> None:
    class NoDoubles(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.dtype == torch.float64:
                assert out.device.type == "cpu"
            return out

    with FakeTensorMode(), NoDoubles():
        made = WinogradConv2d(nn.Conv2d(64, 32, 3, padding=1, device="cuda"))
    assert {b.device.type for b in made.buffers()} == {"cuda"}
    assert {b.dtype for b in made.buffers()} == {torch.float32}


@pytest.mark.parametrize(
    ("changed", "suits"),
    [
        ({}, True),
        ({"padding": "same"}, True),
        ({"bias": False}, True),
        ({"stride": 2}, False),
        ({"dilation": 2, "padding": 2}, False),
        ({"groups": 2}, False),
        ({"padding": 0}, False),
        ({"padding_mode": "reflect"}, False),
        ({"kernel_size": 5, "padding": 2}, False),
        ({"in_channels": 8, "out_channels": 8}, False),  # transforms would take the gain
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


def test_a_run_does_not_go_on_where_winograd_changes_its_numbers() -> None:
    net = InferenceNet(MultiHeadNet("timm:efficientnet_lite0", tile_size=64), MEAN, STD)
    with pytest.raises(RunError, match="choose another output"):
        ArithmeticNet(net, Arithmetic(FP32, convolution=WINOGRAD))


def test_arithmetic_of_a_later_version_is_said_to_be_that() -> None:
    record = {"precision": "fp32", "layout": "channels_last"}
    assert Arithmetic.from_dict(record) == Arithmetic()
    with pytest.raises(RunError, match=r"later napari-ood \(rounding\): update"):
        Arithmetic.from_dict({**record, "rounding": "up"})
