"""What a training run does, in one immutable place (no torch)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

BlockSpecs = tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class TrainConfig:
    """Settings of ``napari_ood.training.train``.

    Attributes
    ----------
    architecture : trunk by name, ``timm:…`` or ``torchvision:…``
    blocks : (name, layer, pool) of each feature block that the network returns
    n_heads, head_depth, head_width : M heads with hidden layers
    loss : a name in ``napari_ood.training.losses.LOSSES``
    epsilon : share of the loss that heads which did not win get (``wta_…`` losses)
    bootstrap : each head sees its own resample of the tiles (Poisson weights, fixed by the seed)
    dropout : on the penultimate features
    label_smoothing : of every head's cross-entropy
    epochs, batch_size, learning_rate, weight_decay : AdamW; one cycle with cosine decay
    warmup : share of the steps in which the learning rate rises
    ema : decay of the exponential moving average of the weights, which is what is kept
    patience : stop after so many epochs without a better ensemble NLL on the held-out tiles
    augment : strength of the augmentation, 0 = none, 1 = the default recipe
    crop : train on crops of this side in px from around the centre, 0 = whole tiles; the held-out
        tiles stay whole. Trunks that take any size learn the same filters in less time
    seed : of initialisation, order, augmentation, bootstrap
    precision : "fp32", "bf16", or "auto" (bf16 where the hardware computes in it)
    device : as ``napari_ood.models.resolve_device`` takes it
    """

    architecture: str = "timm:resnet18"
    blocks: BlockSpecs = (("penultimate", "penultimate", "mean"),)
    n_heads: int = 10
    head_depth: int = 0
    head_width: int = 64
    loss: str = "mean"
    epsilon: float = 0.3
    bootstrap: bool = True
    dropout: float = 0.0
    label_smoothing: float = 0.0
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: float = 0.2
    ema: float = 0.998
    patience: int = 1000
    augment: float = 1.0
    crop: int = 0
    seed: int = 0
    precision: str = "auto"
    device: str = "auto"

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready settings, for the card."""
        return {**asdict(self), "blocks": [list(block) for block in self.blocks]}


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch gave: losses, held-out quality of the averaged weights, head usage."""

    epoch: int
    seconds: float
    train_loss: float
    nll: float
    accuracy: float
    auroc: float
    win_share: tuple[float, ...]
