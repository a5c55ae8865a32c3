from __future__ import annotations

import pytest
import torch

from napari_ood.errors import DeviceError
from napari_ood.models import available_devices, resolve_device
from napari_ood.models.memory import reuse_freed_memory


def test_the_cpu_is_always_there_and_auto_takes_the_first():
    devices = available_devices()
    assert devices[-1].name == "cpu"
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") == devices[0].name
    assert torch.ones(1, device=resolve_device()).sum() == 1


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "cpu; rm", "CUDA"])
def test_a_name_that_is_no_device_is_refused(name: str):
    with pytest.raises(DeviceError, match="choose auto, cpu"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:7", "mps"])
def test_a_missing_device_says_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="--device cpu") as caught:
        resolve_device(name)
    assert "\n" not in str(caught.value)


def test_several_gpus_are_told_apart(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: f"GPU {i}")
    assert resolve_device("auto") == resolve_device("cuda") == "cuda:0"
    assert resolve_device("cuda:1") == "cuda:1"
    with pytest.raises(DeviceError, match="has cuda:0, cuda:1, cpu"):
        resolve_device("cuda:2")


def test_reusing_freed_memory_never_fails():
    assert reuse_freed_memory() in (True, False)
