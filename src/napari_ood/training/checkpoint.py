"""A training on disk, at the end of its last epoch (torch, safetensors).

One file: tensors, and JSON in its header. Never pickle. It is replaced in one piece, so a training
that is killed at any moment leaves a whole one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from napari_ood.errors import TrainingError
from napari_ood.files import replacing
from napari_ood.training.config import TrainConfig
from napari_ood.training.stepper import Stepper

FILE_NAME = "checkpoint.safetensors"
FORMAT = "1"
# Where it is computed, not what: may change between start and resume.
_FREE = ("precision", "device", "learning_rate")


@dataclass(frozen=True)
class Checkpoint:
    """``tensors`` by dotted name, and ``facts``, JSON-ready."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Tensors below a prefix, without it."""
        start = f"{prefix}."
        return {k.removeprefix(start): v for k, v in self.tensors.items() if k.startswith(start)}


def checkpoint_file(path: str | Path) -> Path:
    """File of a checkpoint given as a file ``*.safetensors`` or as a folder."""
    path = Path(path)
    return path if path.suffix == ".safetensors" else path / FILE_NAME


def write_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in place of the one before, atomically.

    Raises
    ------
    TrainingError
        If it can't be written.
    """
    file = checkpoint_file(path)
    # Clones: tensors must be dense, and those of two networks may share memory.
    tensors = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in checkpoint.tensors.items()
    }
    facts = {"format": FORMAT, "facts": json.dumps(checkpoint.facts)}
    try:
        with replacing(file, file.with_name(file.name + ".partial")) as partial:
            save_file(tensors, partial, facts)
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"checkpoint {file} cannot be written: {error}") from error


def read_checkpoint(path: str | Path) -> Checkpoint | None:
    """Read a checkpoint; None if there is no file.

    Raises
    ------
    TrainingError
        If the file is damaged or no checkpoint of this version.
    """
    file = checkpoint_file(path)
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            header = opened.metadata() or {}
            if header.get("format") != FORMAT:
                raise TrainingError(f"{file} is no checkpoint of this version: start without it")
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        return Checkpoint(tensors, json.loads(header["facts"]))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise TrainingError(f"checkpoint {file} is damaged, start without it: {error}") from error


def fingerprint(arrays: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    """Digest of each array's bytes, type and shape."""
    out = {}
    for name, array in arrays.items():
        digest = hashlib.blake2b(f"{array.dtype}{array.shape}".encode(), digest_size=16)
        digest.update(np.ascontiguousarray(array).data)
        out[name] = digest.hexdigest()
    return out


def weights_fingerprint(net: nn.Module | None) -> str:
    """Digest of a network's weights; "" for none."""
    if net is None:
        return ""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in net.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def require_same(
    checkpoint: Checkpoint, config: TrainConfig, identity: Mapping[str, str], path: str | Path
) -> None:
    """Check that a checkpoint is of this training.

    Raises
    ------
    TrainingError
        Says which settings or tiles differ.
    """
    then, now = checkpoint.facts["config"], json.loads(json.dumps(config.as_dict()))
    changed = [
        f"{name} {then.get(name)!r} → {value!r}"
        for name, value in now.items()
        if then.get(name) != value and name not in _FREE
    ]
    rate, stored = now["learning_rate"], then["learning_rate"]
    if rate != stored and rate != checkpoint.facts["learning_rate"]:
        changed.append(f"learning_rate {stored!r} → {rate!r}")
    known = checkpoint.facts["identity"]
    changed += [f"other {name}" for name, value in identity.items() if known.get(name) != value]
    if changed:
        raise TrainingError(
            f"{checkpoint_file(path)} is of another training ({'; '.join(changed)}): "
            "resume with the same, or choose another checkpoint"
        )


def stepper_tensors(stepper: Stepper) -> dict[str, Tensor]:
    """Everything in a stepper that changes as it learns."""
    out = {f"live.{k}": v for k, v in stepper.live.state_dict().items()}
    out |= {f"averaged.{k}": v for k, v in stepper.averaged.state_dict().items()}
    for i, p in enumerate(_parameters(stepper.optimizer)):
        out |= {f"optimizer.{i}.{k}": v for k, v in stepper.optimizer.state[p].items()}
    out["generator.own"] = stepper.generator.get_state()
    out["generator.cpu"] = torch.get_rng_state()
    if stepper.device.type == "cuda":
        out["generator.cuda"] = torch.cuda.get_rng_state(stepper.device)
    return out


def restore_stepper(stepper: Stepper, checkpoint: Checkpoint, n_steps: int) -> None:
    """Put a stepper, begun in the checkpoint's stage, into the checkpoint's state."""
    stepper.live.load_state_dict(checkpoint.part("live"))
    stepper.averaged.load_state_dict(checkpoint.part("averaged"))
    for i, p in enumerate(_parameters(stepper.optimizer)):
        state = checkpoint.part(f"optimizer.{i}")
        # As the optimiser lays it out: sums over another layout round differently.
        stepper.optimizer.state[p] = {
            k: v if k == "step" else torch.empty_like(p).copy_(v) for k, v in state.items()
        }
    stepper.generator.set_state(checkpoint.tensors["generator.own"])
    torch.set_rng_state(checkpoint.tensors["generator.cpu"])
    if stepper.device.type == "cuda" and "generator.cuda" in checkpoint.tensors:
        torch.cuda.set_rng_state(checkpoint.tensors["generator.cuda"], stepper.device)
    stepper.n_steps = n_steps


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]
