"""Compute devices by name. torch is loaded when a function is called, not on import."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path

from napari_ood.errors import DeviceError
from napari_ood.torch_import import load_torch

_NAME = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")


@dataclass(frozen=True)
class Device:
    """A device that torch can compute on: its name for torch and a description for people."""

    name: str
    description: str


def available_devices() -> tuple[Device, ...]:
    """Devices of this computer, fastest kind first; the CPU is always the last (loads torch)."""
    load_torch()
    import torch

    devices = []
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            devices.append(Device(f"cuda:{i}", torch.cuda.get_device_name(i)))
    if torch.backends.mps.is_available():
        devices.append(Device("mps", "Apple GPU"))
    devices.append(Device("cpu", f"{torch.get_num_threads()} threads"))
    return tuple(devices)


def resolve_device(name: str = "auto") -> str:
    """Return the torch name of a device (loads torch).

    Parameters
    ----------
    name : str
        ``auto`` (the fastest kind there is), ``cpu``, ``cuda``, ``cuda:<n>`` or ``mps``.

    Raises
    ------
    DeviceError
        If the name is no device, or this computer or this torch does not have it.
    """
    if not _NAME.fullmatch(name):
        raise DeviceError(f"no device {name!r}: choose auto, cpu, cuda, cuda:1 (…) or mps")
    names = [device.name for device in available_devices()]
    if name == "auto":
        return names[0]
    if name == "cuda" and "cuda:0" in names:
        return "cuda:0"
    if name in names:
        return name
    raise DeviceError(_advice(name, names))


def device_title(name: str) -> str:
    """What a device calls itself, such as ``NVIDIA H100``; its torch name where it says nothing."""
    import torch

    return torch.cuda.get_device_name(name) if name.startswith("cuda") else name


def processor() -> str:
    """Model of this computer's processor, as far as the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _advice(name: str, names: list[str]) -> str:
    import torch

    gpus = [n for n in names if n.startswith("cuda")]
    if gpus:
        return f"no device {name!r}: this computer has {', '.join(names)}"
    if name == "mps":
        return "no Apple GPU that torch can use here: choose --device cpu or auto"
    if torch.version.cuda is None and torch.version.hip is None:
        return (
            f"this torch ({torch.__version__}) was built without CUDA: install the build for your "
            "GPU from pytorch.org, or choose --device cpu"
        )
    return (
        f"torch {torch.__version__} finds no CUDA GPU: check that one is present and its driver "
        "is recent (nvidia-smi), or choose --device cpu"
    )
