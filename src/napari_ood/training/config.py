"""What a training run does, in one immutable place (no torch)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from napari_ood.errors import TrainingError

BlockSpecs = tuple[tuple[str, str, str], ...]
Triple = tuple[float, float, float]
MeanStd = tuple[Triple, Triple]

AUTO = "auto"
_CHOICES = {
    "loss": ("mean", "wta_batch", "wta_sample", "annealed"),
    "balance": ("none", "dynamic"),
    "augment_kind": ("he", "photo"),
    "precision": (AUTO, "fp32", "bf16"),
}
_LEAST = {
    "n_heads": 1, "head_blocks": 0, "head_depth": 0, "head_width": 1, "batch_size": 1, "epochs": 1,
    "head_epochs": 0, "cycles": 1, "cycle_epochs": 0, "cycle_mult": 1, "freeze": 0, "patience": 1,
    "crop": 0, "input_size": 0, "precise_bn": 0, "augment": 0, "mixup": 0, "weight_decay": 0,
}  # fmt: skip
_SHARES = ("epsilon", "random_winner", "dropout", "label_smoothing", "warmup", "ema")


@dataclass(frozen=True)
class TrainConfig:
    """Settings of ``napari_ood.training.train``.

    Attributes
    ----------
    architecture : trunk by name, ``timm:…`` or ``torchvision:…``
    blocks : (name, layer, pool) of each feature block that the network returns
    pretrained : start the trunk from its library's published weights (downloads them)
    input_size : side in px to which the network enlarges or shrinks tiles; 0 = as they are
    mean_std : mean and standard deviation, per channel of RGB in 0…1, with which tiles are fed;
        None = those of the training tiles. A pretrained trunk wants the ones it was trained with
    n_heads, head_blocks, head_depth, head_width : M heads, each with so many of the trunk's last
        units for itself, then hidden layers
    loss : a name in ``napari_ood.training.losses.LOSSES``
    epsilon : share of the loss that heads which did not win get (all losses but ``mean``)
    random_winner : chance that ``wta_batch`` lets any head win a training batch (ρ of the paper)
    anneal_from, anneal_to : temperature of ``annealed`` at the first and the last step, in nats
    bootstrap : each head sees its own resample of the tiles (Poisson weights, fixed by the seed)
    dropout : on the penultimate features
    label_smoothing : of every head's cross-entropy
    mixup : α of the Beta distribution from which two tiles are mixed; 0 = off
    balance : "none", or "dynamic": every epoch draws equally many tiles of every class
    head_epochs : stage 1, the heads alone on a frozen trunk; 0 = no such stage
    epochs : stage 2, all layers; cut into ``cycles`` unless ``cycle_epochs`` is given
    cycles : number of cosine cycles (SGDR), each ``cycle_mult`` times as long as the one before;
        where ``epochs`` leaves a rest, the last one is longer. See ``schedule.sgdr_cycles``
    cycle_epochs : length of the first cycle; the epochs of stage 2 follow. 0 = from ``epochs``
    batch_size, weight_decay : of AdamW
    learning_rate : the highest rate, of the heads; "auto" runs a learning rate range test first
    layer_decay : learning rate of a trunk unit relative to the one after it; 1 = all alike
    freeze : so many of the first trunk units never learn, batch-norm statistics included
    warmup : share of a stage's first cycle in which the learning rate rises
    ema : decay of the exponential moving average of the weights, which is what is kept
    precise_bn : so many training tiles, unchanged, give the kept network its batch-norm statistics
        in the end; 0 = those of augmented and mixed tiles stay. For use with mixup
    patience : stop after so many epochs of stage 2 without a better ensemble NLL on the held-out
        tiles
    augment : strength of the augmentation, 0 = none, 1 = the default recipe
    augment_kind : "he" (stain jitter) or "photo" (light, contrast, gamma; dermoscopy)
    crop : train on crops of this side in px from around the centre, 0 = whole tiles; the held-out
        tiles stay whole. Trunks that take any size learn the same filters in less time
    seed : of initialisation, order, augmentation, bootstrap
    precision : "fp32", "bf16", or "auto": the faster of the two for this network on this device,
        which is measured, so that two trainings may differ; what was chosen is in ``Trained``
    device : as ``napari_ood.models.resolve_device`` takes it

    Raises
    ------
    TrainingError
        For a setting that makes no sense.
    """

    architecture: str = "timm:resnet18"
    blocks: BlockSpecs = (("penultimate", "penultimate", "mean"),)
    pretrained: bool = False
    input_size: int = 0
    mean_std: MeanStd | None = None
    n_heads: int = 10
    head_blocks: int = 0
    head_depth: int = 0
    head_width: int = 64
    loss: str = "mean"
    epsilon: float = 0.05
    random_winner: float = 0.01
    anneal_from: float = 1.0
    anneal_to: float = 0.01
    bootstrap: bool = True
    dropout: float = 0.0
    label_smoothing: float = 0.0
    mixup: float = 0.0
    balance: str = "none"
    head_epochs: int = 0
    epochs: int = 10
    cycles: int = 1
    cycle_epochs: int = 0
    cycle_mult: int = 2
    batch_size: int = 64
    learning_rate: float | str = 2e-3
    layer_decay: float = 1.0
    freeze: int = 0
    weight_decay: float = 0.05
    warmup: float = 0.1
    ema: float = 0.998
    precise_bn: int = 0
    patience: int = 1000
    augment: float = 1.0
    augment_kind: str = "he"
    crop: int = 0
    seed: int = 0
    precision: str = AUTO
    device: str = AUTO

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise TrainingError(
                    f"{name} is {getattr(self, name)!r}: choose {', '.join(choices)}"
                )
        for name, least in _LEAST.items():
            if not getattr(self, name) >= least:
                raise TrainingError(f"{name} is {getattr(self, name)}: it must be at least {least}")
        for name in _SHARES:
            if not 0 <= getattr(self, name) < 1:
                raise TrainingError(
                    f"{name} is {getattr(self, name)}: it must be 0 or more, below 1"
                )
        rate = self.learning_rate
        if rate != AUTO and not (isinstance(rate, int | float) and rate > 0):
            raise TrainingError(
                f"learning_rate is {rate!r}: it must be a number above 0, or 'auto'"
            )
        if not 0 < self.layer_decay <= 1:
            raise TrainingError(f"layer_decay is {self.layer_decay}: it must be above 0, at most 1")
        if not 0 < self.anneal_to <= self.anneal_from:
            raise TrainingError("anneal_to must be above 0 and at most anneal_from")

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready settings, for the card."""
        lists: dict[str, Any] = {"blocks": [list(block) for block in self.blocks]}
        if self.mean_std is not None:
            lists["mean_std"] = [list(values) for values in self.mean_std]
        return {**asdict(self), **lists}


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch gave: losses, held-out quality of the averaged weights, head usage.

    ``epoch`` counts from 0 over both stages; ``seconds`` since the training began, time before it
    was resumed included; ``learning_rate`` is the one of the heads at the epoch's last step;
    ``auroc`` is None unless there are two classes, both of them held out.
    """

    epoch: int
    seconds: float
    train_loss: float
    nll: float
    accuracy: float
    auroc: float | None
    win_share: tuple[float, ...]
    stage: str = "all"
    train_accuracy: float = float("nan")
    learning_rate: float = float("nan")


@dataclass(frozen=True)
class TrainProgress:
    """Where a training is.

    Attributes
    ----------
    stage : "heads" or "all"
    epoch, n_epochs : from 1, over both stages
    step, n_steps : of this epoch
    loss, accuracy : mean over this epoch's training tiles so far, as augmented
    seconds : since the training began
    seconds_left : estimate, None before the first step; early stopping may end it sooner
    record : at the end of an epoch
    """

    stage: str
    epoch: int
    n_epochs: int
    step: int
    n_steps: int
    loss: float
    accuracy: float
    seconds: float
    seconds_left: float | None
    record: EpochRecord | None = None
