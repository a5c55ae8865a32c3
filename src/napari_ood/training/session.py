"""A training under way: from its first epoch, or its checkpoint, to its outcome (torch)."""

from __future__ import annotations

import copy
import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_ood.errors import TrainingCancelled, TrainingError
from napari_ood.evaluation.metrics import auroc
from napari_ood.models import BlockSpec, MultiHeadNet, resolve_device
from napari_ood.training.batchnorm import reestimate_batch_norms
from napari_ood.training.checkpoint import (
    Checkpoint,
    checkpoint_file,
    fingerprint,
    read_checkpoint,
    require_same,
    restore_stepper,
    stepper_tensors,
    weights_fingerprint,
    write_checkpoint,
)
from napari_ood.training.config import AUTO, EpochRecord, TrainConfig, TrainProgress
from napari_ood.training.losses import (
    ensemble_nll,
    fit_temperature,
    head_cross_entropy,
    win_share,
)
from napari_ood.training.lr_range import LrRange, lr_range_test
from napari_ood.training.precision import choose_precision
from napari_ood.training.schedule import ALL, Schedule
from napari_ood.training.stepper import Stepper
from napari_ood.training.tilecheck import Labels, Tiles, channel_statistics, check_network
from napari_ood.training.trained import Trained
from napari_ood.training.usage import head_usage

OnProgress = Callable[[TrainProgress], None]
Cancel = Callable[[], bool] | threading.Event
REPORT_INTERVAL_S = 0.2
CHECK_STEPS = 20
"""The loss is looked at so often: reading it makes a GPU wait for it."""


class Session:
    """A training under way."""

    stepper: Stepper
    schedule: Schedule

    def __init__(
        self,
        images: Tiles,
        labels: Labels,
        val_images: Tiles,
        val_labels: Labels,
        config: TrainConfig,
        on_progress: OnProgress | None,
        checkpoint: str | Path | None,
        cancel: Cancel | None,
    ) -> None:
        self.config, self.on_progress, self.checkpoint = config, on_progress, checkpoint
        self.cancelled = _asks(cancel)
        self.device = torch.device(resolve_device(config.device))
        self.tiles = (images, np.asarray(labels, np.int64))
        self.held_out = (torch.from_numpy(val_images), np.asarray(val_labels, np.int64))
        self.mean, self.std = config.mean_std or channel_statistics(images)
        self.history: list[EpochRecord] = []
        self.best: dict[str, Tensor] = {}
        self.best_logits = torch.empty(0)
        self.lr_range: LrRange | None = None
        self.started, self.reported = time.monotonic(), -math.inf
        self.identity: dict[str, str] = {}

    def prepare(self, init: MultiHeadNet | None, resume: bool) -> None:
        """Build the network, settle rate and precision, go back to the checkpoint."""
        images, labels = self.tiles
        config = self.config
        stored = None
        if self.checkpoint is not None:
            arrays: dict[str, NDArray[Any]] = {
                "training tiles": images,
                "training labels": labels,
                "held-out tiles": self.held_out[0].numpy(),
                "held-out labels": self.held_out[1],
            }
            self.identity = {**fingerprint(arrays), "initial weights": weights_fingerprint(init)}
            stored = read_checkpoint(self.checkpoint) if resume else None
            if stored is not None:
                require_same(stored, config, self.identity, self.checkpoint)
        net = init if init is not None else new_network(config, images, labels)
        check_network(net, config, labels)
        self.precision = "fp32" if config.precision == AUTO else config.precision
        if stored is not None:
            if config.precision == AUTO:
                self.precision = stored.facts["precision"]
            self.stepper = self._stepper(net)
            self._restore(stored)
            return
        with _apart(config.seed):
            if config.precision == AUTO:
                self.precision = choose_precision(*self._example(net))
            if config.learning_rate == AUTO:
                self.lr_range = lr_range_test(self._stepper(net), cancelled=self.cancelled)
        self.rate = self.lr_range.suggestion if self.lr_range else float(config.learning_rate)
        self.stepper = self._stepper(net)
        self.schedule = Schedule(config, self.stepper.steps_per_epoch)

    def run(self) -> None:
        """Train to the end, from wherever the history ends."""
        n = self.schedule.n_epochs
        begun = self.history[-1].stage if self.history else None
        self.first_epoch, self.resumed_at = len(self.history), time.monotonic()
        for epoch in range(self.first_epoch, n):
            if self._is_stale():
                return
            stage = self.schedule.stage(epoch)
            if stage != begun:
                self.stepper.begin(stage)
                begun = stage
            loss, accuracy = self._epoch(epoch)
            record = self._validate(epoch, loss, accuracy)
            if self.checkpoint is not None:
                write_checkpoint(self.checkpoint, self._checkpoint())
            self._report(epoch, self.stepper.steps_per_epoch, loss, accuracy, record)

    def outcome(self) -> Trained | None:
        """Return the best epoch's network; None before the first epoch."""
        if not self.best:
            return None
        net = copy.deepcopy(self.stepper.averaged)
        net.load_state_dict(self.best)
        logits = self.best_logits
        if self.config.precise_bn:
            logits = self._make_norms_precise(net)
        labels = self.held_out[1]
        temperature = fit_temperature(logits, torch.from_numpy(labels))
        return Trained(
            net.cpu().eval().requires_grad_(True),
            self.mean,
            self.std,
            temperature,
            tuple(self.history),
            head_usage(logits.numpy(), labels, temperature),
            self.lr_range,
            self.precision,
            self.rate,
        )

    def _make_norms_precise(self, net: MultiHeadNet) -> Tensor:
        """Estimate the batch norms that learnt anew, in place; return the held-out logits."""
        for live, own in zip(self.stepper.live.parameters(), net.parameters(), strict=True):
            own.requires_grad_(live.requires_grad)
        reestimate_batch_norms(net, self.stepper.plain_batches(self.config.precise_bn))
        return self.stepper.logits(self.held_out[0], net)

    def _epoch(self, epoch: int) -> tuple[float, float]:
        """Train on an epoch's batches; return their mean loss and accuracy."""
        loss = accuracy = torch.zeros((), device=self.device)
        n = self.stepper.steps_per_epoch
        for i, chosen in enumerate(self.stepper.batches()):
            if self.cancelled():
                raise TrainingCancelled(self._cancelled_text(epoch))
            step = epoch * n + i
            rate = self.rate * self.schedule.rate(step)
            batch_loss, right = self.stepper.step(chosen, rate, self.schedule.progress(step))
            loss, accuracy = loss + batch_loss, accuracy + right
            if i % CHECK_STEPS == 0 or i == n - 1:
                self._require_finite(float(loss), epoch, rate)
            if i < n - 1:
                self._report(epoch, i + 1, loss / (i + 1), accuracy / (i + 1))
        return float(loss) / n, float(accuracy) / n

    def _validate(self, epoch: int, loss: float, accuracy: float) -> EpochRecord:
        images, labels = self.held_out
        logits = self.stepper.logits(images)
        n = self.stepper.steps_per_epoch
        record = dataclasses.replace(
            _quality(logits, labels),
            epoch=epoch,
            seconds=time.monotonic() - self.started,
            train_loss=loss,
            train_accuracy=accuracy,
            stage=self.schedule.stage(epoch),
            learning_rate=self.rate * self.schedule.rate((epoch + 1) * n - 1),
        )
        if not math.isfinite(record.nll):
            self._require_finite(record.nll, epoch, record.learning_rate)
        if record.nll < min((r.nll for r in self.history), default=math.inf):
            self.best = copy.deepcopy(self.stepper.averaged.state_dict())
            self.best_logits = logits
        self.history.append(record)
        return record

    def _is_stale(self) -> bool:
        last = [r.nll for r in self.history if r.stage == ALL]
        return bool(last) and len(last) - 1 - int(np.argmin(last)) >= self.config.patience

    def _require_finite(self, loss: float, epoch: int, rate: float) -> None:
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} in epoch {epoch + 1} at learning rate {rate:.2g}: "
                f"lower learning_rate ({self.rate:.2g}), or let 'auto' choose it"
            )

    def _cancelled_text(self, epoch: int) -> str:
        if self.checkpoint is None or not epoch:
            return f"training cancelled in epoch {epoch + 1}"
        file = checkpoint_file(self.checkpoint)
        return f"training cancelled in epoch {epoch + 1}; resume goes on from {file}"

    def _report(
        self,
        epoch: int,
        step: int,
        loss: Tensor | float,
        accuracy: Tensor | float,
        record: EpochRecord | None = None,
    ) -> None:
        now = time.monotonic()
        if self.on_progress is None or (record is None and now - self.reported < REPORT_INTERVAL_S):
            return
        self.reported = now
        n_steps, n_epochs = self.stepper.steps_per_epoch, self.schedule.n_epochs
        done = (epoch - self.first_epoch) * n_steps + step
        left = (n_epochs - epoch) * n_steps - step
        seconds_left = (now - self.resumed_at) / done * left
        self.on_progress(
            TrainProgress(
                self.schedule.stage(epoch), epoch + 1, n_epochs, step, n_steps,
                float(loss), float(accuracy), now - self.started, seconds_left, record,
            )
        )  # fmt: skip

    def _stepper(self, net: MultiHeadNet) -> Stepper:
        images, labels = self.tiles
        return Stepper(
            torch.from_numpy(images),
            torch.from_numpy(labels),
            (self.mean, self.std),
            net,
            self.config,
            self.device,
            self.precision,
        )

    def _example(self, net: MultiHeadNet) -> tuple[MultiHeadNet, Tensor, Tensor]:
        stepper = self._stepper(net)
        return (stepper.live, *stepper.example())

    def _checkpoint(self) -> Checkpoint:
        tensors = stepper_tensors(self.stepper)
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        tensors["best_logits"] = self.best_logits
        facts = {
            "config": self.config.as_dict(),
            "identity": self.identity,
            "precision": self.precision,
            "learning_rate": self.rate,
            "lr_range": self.lr_range.as_dict() if self.lr_range else None,
            "history": [dataclasses.asdict(record) for record in self.history],
            "n_steps": self.stepper.n_steps,
            "torch": torch.__version__,
        }
        return Checkpoint(tensors, facts)

    def _restore(self, stored: Checkpoint) -> None:
        facts = stored.facts
        self.rate = facts["learning_rate"]
        self.schedule = Schedule(self.config, self.stepper.steps_per_epoch)
        if facts["lr_range"]:
            found = facts["lr_range"]
            self.lr_range = LrRange(
                tuple(found["rates"]), tuple(found["losses"]), found["suggestion"]
            )
        self.history = [
            EpochRecord(**{**record, "win_share": tuple(record["win_share"])})
            for record in facts["history"]
        ]
        self.best, self.best_logits = stored.part("best"), stored.tensors["best_logits"]
        self.stepper.begin(self.history[-1].stage)
        restore_stepper(self.stepper, stored, facts["n_steps"])
        self.started = time.monotonic() - self.history[-1].seconds


def new_network(config: TrainConfig, images: Tiles, labels: Labels) -> MultiHeadNet:
    """Return an untrained network for tiles and settings."""
    return MultiHeadNet(
        config.architecture,
        [BlockSpec(*block) for block in config.blocks],
        n_heads=config.n_heads,
        n_classes=int(labels.max()) + 1,
        head_depth=config.head_depth,
        head_width=config.head_width,
        tile_size=images.shape[1],
        dropout=config.dropout,
        pretrained=config.pretrained,
        head_blocks=config.head_blocks,
        input_size=config.input_size or None,
    )


@contextmanager
def _apart(seed: int) -> Iterator[None]:
    """Measure something without moving the training's generators."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def _asks(cancel: Cancel | None) -> Callable[[], bool]:
    if cancel is None:
        return lambda: False
    return cancel.is_set if isinstance(cancel, threading.Event) else cancel


def _quality(logits: Tensor, labels: Labels) -> EpochRecord:
    """Record of the held-out tiles alone."""
    truth = torch.from_numpy(labels)
    p = torch.softmax(logits, dim=-1).mean(dim=1)
    both = p.shape[1] == 2 and len(np.unique(labels)) == 2 and bool(p.isfinite().all())
    return EpochRecord(
        epoch=0,
        seconds=0.0,
        train_loss=0.0,
        nll=float(ensemble_nll(logits, truth)),
        accuracy=float((p.argmax(dim=1) == truth).float().mean()),
        auroc=auroc(p[:, 1].numpy(), labels == 1) if both else None,
        win_share=tuple(win_share(head_cross_entropy(logits, truth)).tolist()),
    )
