"""The networks of a comparison on disk: trained once, asked once about every set (torch).

Per network, named by the digest of all that its weights depend on: ``<key>.safetensors`` (weights,
and in the header how they came about) and ``<key>.npz`` (its logits, by the digest of the tiles).
While it trains, ``<key>.checkpoint.safetensors``. Every file is replaced in one piece.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from napari_ood.errors import TrainingError
from napari_ood.files import replacing
from napari_ood.models import MultiHeadNet
from napari_ood.training.checkpoint import checkpoint_file, fingerprint
from napari_ood.training.loop import run_network, train
from napari_ood.training.mcdropout import add_inner_dropout, sampled_logits
from napari_ood.training.methods import NetworkPlan
from napari_ood.training.session import Cancel, OnProgress, new_network

Tiles = NDArray[np.uint8]
Labels = NDArray[np.int64]
Floats = NDArray[np.float32]
DTYPE_BYTES = 4


@dataclass(frozen=True)
class Learning:
    """Tiles to train on and tiles that choose the epoch, with their digests."""

    images: Tiles
    labels: Labels
    held_images: Tiles
    held_labels: Labels
    digests: Mapping[str, str]

    @classmethod
    def of(cls, images: Tiles, labels: Labels, held_images: Tiles, held_labels: Labels) -> Learning:
        """Take digests of the tiles and keep them together."""
        arrays: dict[str, NDArray[Any]] = {
            "tiles": images,
            "labels": labels,
            "held": held_images,
            "held labels": held_labels,
        }
        return cls(images, labels, held_images, held_labels, fingerprint(arrays))


@dataclass(frozen=True)
class TestSet:
    """Tiles that networks are asked about, and their digest."""

    __test__ = False  # not for pytest

    images: Tiles
    digest: str

    @classmethod
    def of(cls, images: Tiles) -> TestSet:
        """Take the digest of the tiles."""
        return cls(images, fingerprint({"tiles": images})["tiles"])


@dataclass(frozen=True)
class Outcome:
    """What became of one network.

    Attributes
    ----------
    logits : by set, [N, heads or samples, C] float32
    seconds : of training, all sessions together
    n_weights, weight_bytes : float32, running statistics included
    facts : config, precision, temperature, best epoch, versions
    """

    logits: Mapping[str, Floats]
    seconds: float
    n_weights: int
    weight_bytes: int
    facts: Mapping[str, Any]


class NetworkStore:
    """Networks in a folder; what is there is not trained again."""

    def __init__(self, folder: Path, device: str = "auto") -> None:
        self.folder, self.device = folder, device

    def seconds(self, plan: NetworkPlan, data: Learning) -> float | None:
        """Training time of a network that is there; None: it is still to be trained."""
        file = self._weights(plan.key(data.digests))
        if not file.is_file():
            return None
        return float(_read_facts(file)["seconds"])

    def outcome(
        self,
        plan: NetworkPlan,
        data: Learning,
        sets: Mapping[str, TestSet],
        on_progress: OnProgress | None = None,
        cancel: Cancel | None = None,
    ) -> Outcome:
        """Logits of a network on all sets; trains it, or goes on training it, if need be.

        Raises
        ------
        TrainingError
            If it can't be trained or written.
        TrainingCancelled
            If ``cancel`` says so; the next call goes on from the last whole epoch.
        """
        key = plan.key(data.digests)
        weights, answers = self._weights(key), self.folder / f"{key}.npz"
        if not weights.is_file():
            self._train(plan, data, key, on_progress, cancel)
        facts = _read_facts(weights)
        known = _read_answers(answers)
        names = {name: _answer_name(plan, tiles) for name, tiles in sets.items()}
        missing = {name: tiles for name, tiles in sets.items() if names[name] not in known}
        if missing:
            net = self._load(plan, data, weights)
            for name, tiles in missing.items():
                known[names[name]] = self._ask(net, facts, plan, tiles)
            _write(answers, lambda path: _save_npz(path, known))
        return Outcome(
            {name: known[names[name]] for name in sets},
            facts["seconds"],
            facts["n_weights"],
            facts["weight_bytes"],
            facts,
        )

    def _train(
        self,
        plan: NetworkPlan,
        data: Learning,
        key: str,
        on_progress: OnProgress | None,
        cancel: Cancel | None,
    ) -> None:
        config = dataclasses.replace(plan.config, device=self.device)
        checkpoint = self.folder / f"{key}.checkpoint.safetensors"
        init = build(plan, data) if plan.inner_dropout else None
        tiles = (data.images, data.labels, data.held_images, data.held_labels)
        trained = train(*tiles, config, on_progress, init, checkpoint, True, cancel)
        last, best = trained.history[-1], min(trained.history, key=lambda record: record.nll)
        state = {k: v.detach().contiguous() for k, v in trained.net.state_dict().items()}
        n_weights = sum(v.numel() for v in state.values() if v.is_floating_point())
        facts = {
            "config": plan.config.as_dict(),
            "inner_dropout": plan.inner_dropout,
            "mean": list(trained.mean),
            "std": list(trained.std),
            "temperature": trained.temperature,
            "seconds": last.seconds,
            "epochs": len(trained.history),
            "best_epoch": best.epoch + 1,
            "held_out_nll": best.nll,
            "held_out_accuracy": best.accuracy,
            "n_weights": n_weights,
            "weight_bytes": n_weights * DTYPE_BYTES,
            "torch": torch.__version__,
        }
        header = {"facts": json.dumps(facts)}
        _write(self._weights(key), lambda path: save_file(state, path, header))
        checkpoint_file(checkpoint).unlink(missing_ok=True)

    def _load(self, plan: NetworkPlan, data: Learning, file: Path) -> MultiHeadNet:
        net = build(plan, data)
        with safe_open(file, framework="pt") as opened:
            net.load_state_dict({k: opened.get_tensor(k) for k in opened.keys()})  # noqa: SIM118
        return net.eval()

    def _ask(
        self, net: MultiHeadNet, facts: Mapping[str, Any], plan: NetworkPlan, tiles: TestSet
    ) -> Floats:
        images, mean, std = tiles.images, facts["mean"], facts["std"]
        if not plan.samples:
            return run_network(net, mean, std, images, self.device)[0]
        # Sets get draws of their own: with the seed alone, tile i of each would share its dropout.
        seed = plan.config.seed + int(tiles.digest[:12], 16)
        return sampled_logits(net, mean, std, images, plan.samples, seed, self.device)

    def _weights(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"


def build(plan: NetworkPlan, data: Learning) -> MultiHeadNet:
    """Build the network as ``train`` would: from its own seed, whatever ran before."""
    with seeded(plan.config.seed):
        net = new_network(plan.config, data.images, data.labels)
    if plan.inner_dropout:
        add_inner_dropout(net, plan.inner_dropout)
    return net


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from this seed inside, and leave the CPU's generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _answer_name(plan: NetworkPlan, tiles: TestSet) -> str:
    return f"{tiles.digest}-{plan.samples}"


def _read_facts(file: Path) -> dict[str, Any]:
    try:
        with safe_open(file, framework="np") as opened:
            facts: dict[str, Any] = json.loads((opened.metadata() or {})["facts"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise TrainingError(f"{file} is damaged: delete it, it is trained again") from error
    return facts


def _read_answers(file: Path) -> dict[str, Floats]:
    try:
        with np.load(file, allow_pickle=False) as stored:
            return dict(stored)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise TrainingError(f"{file} is damaged: delete it, it is computed again") from error


def _save_npz(path: Path, arrays: Mapping[str, Floats]) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _write(file: Path, save: Callable[[Path], None]) -> None:
    try:
        with replacing(file, file.with_name(file.name + ".partial")) as partial:
            save(partial)
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{file} cannot be written: {error}") from error
