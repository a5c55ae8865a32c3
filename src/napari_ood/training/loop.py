"""A plain training loop for ``MultiHeadNet`` (torch)."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_ood.evaluation.metrics import auroc
from napari_ood.models import BlockSpec, InferenceNet, MultiHeadNet, normalise, resolve_device
from napari_ood.models.memory import reuse_freed_memory
from napari_ood.training.augment import Augmenter
from napari_ood.training.config import EpochRecord, TrainConfig
from napari_ood.training.losses import (
    LOSSES,
    ensemble_nll,
    fit_temperature,
    head_cross_entropy,
    win_share,
)

Tiles = NDArray[np.uint8]
Labels = NDArray[np.int64]
EVALUATION_BATCH = 256
GRADIENT_NORM = 5.0


@dataclass(frozen=True)
class Trained:
    """The outcome of ``train``: the network with the best averaged weights, and how it got there.

    ``mean`` and ``std`` are of RGB in 0…1 over the training tiles; ``temperature`` is fitted on
    the held-out tiles.
    """

    net: MultiHeadNet
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    temperature: float
    history: tuple[EpochRecord, ...]


def train(
    images: Tiles,
    labels: Labels,
    val_images: Tiles,
    val_labels: Labels,
    config: TrainConfig,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    init: MultiHeadNet | None = None,
) -> Trained:
    """Train a multi-head network on tiles in memory.

    The kept weights are the moving average with the lowest NLL of the averaged prediction on the
    held-out tiles. The same settings, seed, threads and hardware give the same network.

    Parameters
    ----------
    images : [N, t, t, 3] uint8
    labels : [N] int, 0 … C − 1
    val_images, val_labels : the same, held out: for choosing the epoch and the temperature
    config : TrainConfig
    on_epoch : callable, optional
        Called after each epoch.
    init : MultiHeadNet, optional
        Start from this network's weights; its architecture must be the config's.

    Returns
    -------
    Trained
    """
    reuse_freed_memory()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(config.seed)
        run = _Training(images, labels, config, init)
        history: list[EpochRecord] = []
        best, best_nll = copy.deepcopy(run.averaged.state_dict()), float("inf")
        started = time.monotonic()
        for epoch in range(config.epochs):
            loss = run.epoch()
            logits = run.logits(val_images)
            record = _record(epoch, time.monotonic() - started, loss, logits, val_labels)
            history.append(record)
            if on_epoch is not None:
                on_epoch(record)
            if record.nll < best_nll:
                best, best_nll = copy.deepcopy(run.averaged.state_dict()), record.nll
            stale = epoch - int(np.argmin([r.nll for r in history]))
            if stale >= config.patience:
                break
        run.averaged.load_state_dict(best)
        temperature = fit_temperature(run.logits(val_images), torch.from_numpy(val_labels))
    net = run.averaged.cpu().eval().requires_grad_(True)
    return Trained(net, run.mean, run.std, temperature, tuple(history))


class _Training:
    """State of a training run: live and averaged network, optimiser, generators."""

    def __init__(
        self, images: Tiles, labels: Labels, config: TrainConfig, init: MultiHeadNet | None
    ) -> None:
        self.config = config
        self.device = torch.device(resolve_device(config.device))
        self.images, self.labels = torch.from_numpy(images), torch.from_numpy(labels)
        self.mean, self.std = channel_statistics(images)
        self._mean = torch.tensor(self.mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(self.std, device=self.device).view(1, 3, 1, 1)
        net = init if init is not None else _new_network(config, images, labels)
        self.live = copy.deepcopy(net).to(self.device).to(memory_format=torch.channels_last)
        self.live.requires_grad_(True)
        self.live.heads.dropout.p = config.dropout  # an ``init`` from a bundle comes without
        self.averaged = copy.deepcopy(self.live).eval().requires_grad_(False)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.augment = Augmenter(config.augment, self.generator)
        self.weights = self._bootstrap_weights()
        self.steps_per_epoch = max(1, len(images) // config.batch_size)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.live, config.weight_decay), lr=config.learning_rate
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            config.learning_rate,
            total_steps=config.epochs * self.steps_per_epoch,
            pct_start=config.warmup,
        )
        self.n_steps = 0

    def epoch(self) -> float:
        """Train on every tile once, in random order; return the mean loss."""
        self.live.train()
        order = torch.randperm(len(self.images), generator=self.generator)
        losses = []
        for i in range(self.steps_per_epoch):
            chosen = order[i * self.config.batch_size : (i + 1) * self.config.batch_size]
            losses.append(self._step(chosen))
        return float(np.mean(losses))

    def logits(self, images: Tiles) -> Tensor:
        """Logits ``[N, M, C]`` of the averaged network, float32 on the CPU."""
        net = self.averaged
        out = []
        with torch.inference_mode(), self._autocast():
            for tiles in torch.split(torch.from_numpy(images), EVALUATION_BATCH):
                x = normalise(tiles.to(self.device), self._mean.flatten(), self._std.flatten())
                out.append(net.logits(x).float().cpu())
        return torch.cat(out)

    def _step(self, chosen: Tensor) -> float:
        tiles = self._crop(self.images[chosen])
        x = (self.augment(tiles).to(self.device) - self._mean) / self._std
        x = x.contiguous(memory_format=torch.channels_last)
        labels = self.labels[chosen].to(self.device)
        with self._autocast():
            logits = self.live.logits(x)
        losses = head_cross_entropy(logits, labels, self.config.label_smoothing)
        weights = self.weights[chosen].to(self.device)
        loss = LOSSES[self.config.loss](losses, weights, self.config.epsilon)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.live.parameters(), GRADIENT_NORM)
        self.optimizer.step()
        self.schedule.step()
        self._average()
        return float(loss.detach())

    def _crop(self, tiles: Tensor) -> Tensor:
        """Cut the whole batch at one place, up to half the margin away from the centre."""
        side, crop = tiles.shape[1], self.config.crop
        if not crop or crop >= side:
            return tiles
        shift = (side - crop) // 4
        low = (side - crop) // 2 - shift
        y, x = torch.randint(low, low + 2 * shift + 1, (2,), generator=self.generator).tolist()
        return tiles[:, y : y + crop, x : x + crop]

    @torch.no_grad()
    def _average(self) -> None:
        self.n_steps += 1
        # Early on the average must follow quickly, or it remembers the random start.
        decay = min(self.config.ema, self.n_steps / (self.n_steps + 50))
        live, averaged = self.live.state_dict(), self.averaged.state_dict()
        floats = [name for name, value in live.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [averaged[name] for name in floats], [live[name] for name in floats], 1 - decay
        )

    def _bootstrap_weights(self) -> Tensor:
        shape = (len(self.images), self.config.n_heads)
        if not self.config.bootstrap:
            return torch.ones(shape)
        return torch.poisson(torch.ones(shape), generator=self.generator)

    def _autocast(self) -> AbstractContextManager[object]:
        enabled = self.config.precision == "bf16" or (
            self.config.precision == "auto" and _computes_in_bf16(self.device)
        )
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)


def parameter_groups(net: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weight decay for matrices only: decaying biases and norms harms and regularises nothing."""
    decayed = [p for p in net.parameters() if p.ndim >= 2]
    others = [p for p in net.parameters() if p.ndim < 2]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def channel_statistics(
    images: Tiles,
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation per channel, of RGB in 0…1."""
    counts = np.stack([np.bincount(images[..., c].ravel(), minlength=256) for c in range(3)])
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum(axis=1)
    variance = counts @ values**2 / counts.sum(axis=1) - mean**2
    # Images of one colour have no spread; a floor keeps the normalisation finite.
    std = np.sqrt(np.maximum(variance, 1e-6))
    return tuple(mean.round(4).tolist()), tuple(std.round(4).tolist())


def run_network(
    net: MultiHeadNet,
    mean: Sequence[float],
    std: Sequence[float],
    images: Tiles,
    device: str = "cpu",
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits ``[N, M, C]`` and features ``[N, D]`` of tiles, as the engine computes them."""
    target = resolve_device(device)
    ready = InferenceNet(net, mean, std).to(target)
    logits, features = [], []
    with torch.inference_mode():
        for tiles in torch.split(torch.from_numpy(images), EVALUATION_BATCH):
            z, f = ready(tiles.to(target))
            logits.append(z.cpu().numpy())
            features.append(f.cpu().numpy())
    return np.concatenate(logits), np.concatenate(features)


def _new_network(config: TrainConfig, images: Tiles, labels: Labels) -> MultiHeadNet:
    return MultiHeadNet(
        config.architecture,
        [BlockSpec(*block) for block in config.blocks],
        n_heads=config.n_heads,
        n_classes=int(labels.max()) + 1,
        head_depth=config.head_depth,
        head_width=config.head_width,
        tile_size=images.shape[1],
        dropout=config.dropout,
    )


def _computes_in_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def _record(epoch: int, seconds: float, loss: float, logits: Tensor, labels: Labels) -> EpochRecord:
    truth = torch.from_numpy(labels)
    p = torch.softmax(logits, dim=-1).mean(dim=1)
    return EpochRecord(
        epoch=epoch,
        seconds=seconds,
        train_loss=loss,
        nll=float(ensemble_nll(logits, truth)),
        accuracy=float((p.argmax(dim=1) == truth).float().mean()),
        auroc=auroc(p[:, 1].numpy(), labels == 1) if p.shape[1] == 2 else float("nan"),
        win_share=tuple(win_share(head_cross_entropy(logits, truth)).tolist()),
    )
