"""In which arithmetic a network runs: precision, memory layout and how it convolves.

Chosen by measuring once. ``fp32`` in the layout ``channels_last`` is what bundles were made with.
``bf16`` (autocast) is faster on many devices and changes every number a little, so ``auto`` takes
it only where the bundle says how little (:mod:`napari_ood.models.halved`); Winograd's convolutions
(:mod:`napari_ood.models.winograd`) change no more than the order of sums does. No torch is loaded
on import.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ood.errors import DeviceError, RunError
from napari_ood.models.choices import KnownChoices
from napari_ood.models.memory import reuse_freed_memory

if TYPE_CHECKING:
    from torch import Tensor

    from napari_ood.models.bundle import Bundle
    from napari_ood.models.prepared import InferenceNet

AUTO, FP32, BF16 = "auto", "fp32", "bf16"
PRECISIONS = (AUTO, FP32, BF16)
CHANNELS_LAST, CHANNELS_FIRST = "channels_last", "channels_first"
DIRECT, WINOGRAD = "direct", "winograd"
ENVIRONMENT = "NAPARI_OOD_PRECISION"
"""Environment variable that says what ``auto`` means: ``fp32``, ``bf16``, or ``measure``, which is
to measure again whatever is known."""
MEASURE = "measure"

WORTH_IT = 1.1
"""How much faster than the usual arithmetic another has to be; less is noise, and not worth other
last bits than on the machine next door."""
SLICE_S = 0.12
"""About how long one measured batch takes."""
BUDGET_S, MOST_S = 1.5, 6.0
"""After the first, no further round of measurements is begun but the least number of them; after
the other, none."""
ROUNDS, LEAST_ROUNDS = 7, 3
"""Rounds of measurements; with fewer than the least the usual arithmetic stays."""
SLOW_S = 1.5
"""Networks that take longer for a tile are not measured: nobody would wait for it."""


@dataclass(frozen=True)
class Arithmetic:
    """Precision, memory layout and convolutions that a run's numbers were computed in.

    The defaults are those of every run that recorded none.
    """

    precision: str = FP32
    layout: str = CHANNELS_LAST
    convolution: str = DIRECT

    def __str__(self) -> str:
        parts = [self.precision, self.layout]
        return ", ".join(parts if self.convolution == DIRECT else [*parts, self.convolution])

    def to_dict(self) -> dict[str, str]:
        """JSON-ready."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, str] | None) -> Arithmetic:
        """Inverse of ``to_dict``; what older runs do not say is the default.

        Raises
        ------
        RunError
            For what only a later version knows.
        """
        unknown = sorted(set(record or {}) - {field.name for field in fields(cls)})
        if unknown:
            raise RunError(f"the run was made by a later napari-ood ({unknown[0]}): update it")
        return cls(**record or {})


USUAL = Arithmetic()


class ArithmeticNet:
    """A network in a given arithmetic: uint8 tiles in, float32 logits and features out.

    Parameters
    ----------
    net : InferenceNet, which this one alone uses from now on
    arithmetic : Arithmetic
    """

    def __init__(self, net: InferenceNet, arithmetic: Arithmetic) -> None:
        self._net, self._precision = net, arithmetic.precision
        if arithmetic.convolution == WINOGRAD and not net.use_winograd():
            raise RunError(
                "this run was begun with Winograd's convolutions, which cannot be had here (they "
                "need a CPU, and llvmlite to make code): go on with --device cpu, or choose "
                "another output"
            )
        if arithmetic.layout == CHANNELS_FIRST:
            import torch

            net.net.to(memory_format=torch.contiguous_format)
            # Weights alone do not decide: a convolution follows its input's layout as well.
            net.net.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))

    def __call__(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """Tiles [B, t, t, 3] → logits [B, M, C], features [B, D], both float32."""
        with autocast(tiles.device.type, self._precision):
            logits, features = self._net(tiles)
        return logits, features


def autocast(device: str, precision: str) -> AbstractContextManager[object]:
    """Context in which torch computes in a precision on a kind of device."""
    import torch

    return torch.autocast(device, torch.bfloat16) if precision == BF16 else nullcontext()


def resolve_arithmetic(
    asked: str, bundle: Bundle, device: str, batch_size: int, known: KnownChoices | None = None
) -> Arithmetic:
    """Decide in which arithmetic a new run of a bundle is computed.

    Parameters
    ----------
    asked : ``auto``, ``fp32`` or ``bf16``
    device : as torch names it
    batch_size : tiles per forward pass
    known : what was measured before; the user's own cache by default

    Raises
    ------
    RunError
        For an unknown precision, also in the environment variable.
    DeviceError
        If ``bf16`` is asked for and the device has none.
    """
    check_precision(asked)
    wish = os.environ.get(ENVIRONMENT, MEASURE) if asked == AUTO else asked
    if wish == BF16:
        require_bf16(device)
        return Arithmetic(BF16)
    if wish == FP32:
        return USUAL
    if wish not in (AUTO, MEASURE):
        raise RunError(f"{ENVIRONMENT} is {wish!r}: set it to fp32, bf16 or measure, or unset it")
    known = KnownChoices() if known is None else known
    candidates = candidates_for(bundle, device)
    key = _key(bundle, device, batch_size, candidates)
    record = None if os.environ.get(ENVIRONMENT) == MEASURE else known.get(key)
    found = next((c for c in candidates if record == str(c)), None)
    if found is None or not _can_be_had(found):  # the cache may lie in a home of several machines
        speeds = _measured(bundle.network(device), candidates, device, batch_size)
        found = choose(speeds)
        known.put(key, str(found), {str(c): round(median(s), 2) for c, s in speeds.items()})
    return found


def _can_be_had(arithmetic: Arithmetic) -> bool:
    if arithmetic.convolution == DIRECT:
        return True
    from napari_ood.models import winograd

    return winograd.can_be_had()


def _measured(
    network: InferenceNet, candidates: Sequence[Arithmetic], device: str, batch_size: int
) -> dict[Arithmetic, list[float]]:
    """Measure candidates as a run would use them."""
    if device != "cpu":
        return measure(network, candidates, device, batch_size)
    from napari_ood.models.lanes import Lanes

    reuse_freed_memory()
    with closing(Lanes(1)) as lane:
        return lane.submit(lambda: measure(network, candidates, device, batch_size)).result()


def check_precision(asked: str) -> None:
    """RunError for a precision that does not exist."""
    if asked not in PRECISIONS:
        raise RunError(f"no precision {asked!r}: choose auto, fp32 or bf16")


def require_bf16(device: str) -> None:
    """DeviceError where a device cannot compute in bf16."""
    import torch

    target = torch.device(device)
    try:
        with torch.inference_mode(), autocast(target.type, BF16):
            x = torch.ones(1, 3, 4, 4, device=target)
            torch.nn.functional.conv2d(x, torch.ones(2, 3, 3, 3, device=target)).cpu()
    except (RuntimeError, TypeError, ValueError) as error:
        raise DeviceError(f"{device} cannot compute in bf16: choose --precision fp32") from error


def candidates_for(bundle: Bundle, device: str) -> list[Arithmetic]:
    """What ``auto`` may choose from, the usual arithmetic first."""
    from napari_ood.models.halved import small_change

    fast = [Arithmetic(convolution=WINOGRAD)] if device == "cpu" else []  # cuDNN has its own
    candidates = [USUAL, *fast, Arithmetic(FP32, CHANNELS_FIRST)]
    if small_change(bundle):
        try:
            require_bf16(device)
        except DeviceError:
            return candidates
        candidates += [Arithmetic(BF16), Arithmetic(BF16, CHANNELS_FIRST)]
    return candidates


def choose(speeds: Mapping[Arithmetic, Sequence[float]]) -> Arithmetic:
    """The fastest, if it is clearly faster than the usual one, and was so in every round.

    Rounds are compared one by one: what else the machine does slows those of a round alike. On a
    busy machine medians alone were seen to choose the slower one.
    """
    gains = {}
    for arithmetic, rates in speeds.items():
        ratios = [a / b for a, b in zip(rates, speeds[USUAL], strict=False)]
        sure = len(ratios) >= LEAST_ROUNDS and min(ratios) > 1
        gains[arithmetic] = median(ratios) if sure else 1.0
    best = max(gains, key=lambda arithmetic: gains[arithmetic])
    return best if gains[best] >= WORTH_IT else USUAL


def measure(
    network: InferenceNet,
    candidates: Sequence[Arithmetic],
    device: str,
    batch_size: int,
    budget_s: float = BUDGET_S,
) -> dict[Arithmetic, list[float]]:
    """Tiles per second of each candidate in rounds in which they take turns.

    Who is slower than the usual arithmetic in a round cannot be chosen any more, and drops out.

    Parameters
    ----------
    network : on its device; copies of it are measured, as far as it bears the candidates
    candidates : the usual arithmetic first
    device : as torch names it
    batch_size : most tiles per measured batch; fewer where the network is slow
    budget_s : after so many seconds, only the least number of rounds is begun
    """
    import torch

    nets = _nets(network, candidates)
    side = network.net.tile_size
    rng = np.random.default_rng(0)
    tiles = torch.from_numpy(rng.integers(0, 256, (batch_size, side, side, 3), np.uint8))
    # Of a thread that computes alone its own time counts, not what other programs take from it.
    is_alone = device == "cpu" and torch.get_num_threads() == 1
    clock = time.thread_time if is_alone else time.perf_counter

    def seconds(net: ArithmeticNet, n: int) -> float:
        batch = tiles[:n].to(device)
        start = clock()
        net(batch)[0].cpu()  # which waits for a GPU
        return clock() - start

    with torch.inference_mode():
        begun = time.perf_counter()
        seconds(nets[USUAL], 1)  # loads kernels
        one = seconds(nets[USUAL], 1)
        if one > SLOW_S:
            return {USUAL: [1 / one]}
        n = int(np.clip(SLICE_S / one, 1, batch_size))
        for net in nets.values():
            seconds(net, 1)
        if n > 1:
            for net in nets.values():
                seconds(net, n)  # the first batch of a size is slower
        took: dict[Arithmetic, list[float]] = {c: [] for c in nets}
        left = list(nets)
        for round_ in range(ROUNDS):
            spent = time.perf_counter() - begun
            if round_ and spent > (MOST_S if round_ < LEAST_ROUNDS else budget_s):
                break
            for candidate in left if round_ % 2 else reversed(left):
                took[candidate].append(seconds(nets[candidate], n))
            left = [c for c in left if c == USUAL or took[c][-1] < took[USUAL][-1]]
            if left == [USUAL]:
                break
    return {candidate: [n / spent for spent in all_] for candidate, all_ in took.items()}


def _nets(
    network: InferenceNet, candidates: Sequence[Arithmetic]
) -> dict[Arithmetic, ArithmeticNet]:
    """Copies that share the network's weights: three of a large one would not fit into memory."""
    import copy

    from torch import nn

    nets = {}
    for candidate in candidates:
        # Parameters are new ones of the same memory, as who turns their layout turns them in place.
        shared: dict[int, object] = {id(b): b for b in network.buffers()}
        shared |= {id(p): nn.Parameter(p.data, requires_grad=False) for p in network.parameters()}
        try:
            nets[candidate] = ArithmeticNet(copy.deepcopy(network, shared), candidate)
        except RunError:  # the network has nothing that Winograd's convolutions could replace
            continue
    return nets


def _key(
    bundle: Bundle, device: str, batch_size: int, candidates: Sequence[Arithmetic]
) -> dict[str, Any]:
    """What a measurement holds for."""
    import torch

    from napari_ood.models.device import device_title, processor

    card = bundle.card
    return {
        "device": device_title(device),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "llvmlite": _version_of("llvmlite"),
        "weights": dict(bundle.hashes),
        "network": [card.architecture, card.n_heads, card.head_blocks, len(card.blocks)],
        "tile": [card.tile_size, card.input_size or card.tile_size],
        "batch": batch_size,
        "of": [str(candidate) for candidate in candidates],
    }


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
