"""One step of training: network, moving average, optimiser and generators (torch)."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from napari_ood.models import MultiHeadNet, normalise
from napari_ood.training.augment import Augmenter
from napari_ood.training.config import TrainConfig
from napari_ood.training.losses import (
    Relaxation,
    annealing_temperature,
    head_cross_entropy,
    head_loss,
)
from napari_ood.training.order import epoch_order
from napari_ood.training.parameters import choose_trainable, parameter_groups, training_mode
from napari_ood.training.precision import autocast

EVALUATION_BATCH = 256
GRADIENT_NORM = 5.0


class Stepper:
    """A network that learns from tiles in memory.

    Attributes
    ----------
    live, averaged : the network that learns, and the moving average of its weights
    optimizer : of the stage that was begun last
    generator : of order, augmentation, crops, bootstrap and random winners
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        statistics: tuple[tuple[float, ...], tuple[float, ...]],
        net: MultiHeadNet,
        config: TrainConfig,
        device: torch.device,
        precision: str,
    ) -> None:
        self.config, self.device, self.precision = config, device, precision
        self.images, self.labels = images, labels
        self._mean, self._std = (torch.tensor(s, device=device) for s in statistics)
        self.live = copy.deepcopy(net).to(device).to(memory_format=torch.channels_last)
        self.live.requires_grad_(True)
        self.live.heads.dropout.p = config.dropout  # an ``init`` from a bundle comes without
        self.averaged = copy.deepcopy(self.live).eval().requires_grad_(False)
        self.generator = torch.Generator().manual_seed(config.seed)
        self._augment = Augmenter(
            config.augment, self.generator, kind=config.augment_kind, device=device
        )
        self._weights = self._bootstrap_weights()
        self.steps_per_epoch = max(1, len(images) // config.batch_size)
        self.n_steps = 0

    def begin(self, stage: str) -> None:
        """Choose what learns in a stage, with a new optimiser."""
        choose_trainable(self.live, stage, self.config.freeze)
        groups = parameter_groups(self.live, self.config.weight_decay, self.config.layer_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=0.0)

    def batches(self) -> list[Tensor]:
        """Rows of the tiles of each step of the next epoch; puts the network in training mode."""
        training_mode(self.live)
        order = epoch_order(self.labels, self.config.balance, self.generator)
        b = self.config.batch_size
        return [order[i * b : (i + 1) * b] for i in range(self.steps_per_epoch)]

    def example(self) -> tuple[Tensor, Tensor]:
        """Return a normalised batch and its labels, unchanged, for measurements."""
        tiles = self._crop(self.images[: self.config.batch_size])
        x = normalise(tiles.to(self.device), self._mean, self._std)
        return x, self.labels[: len(x)].to(self.device)

    def step(self, chosen: Tensor, rate: float, progress: float) -> tuple[Tensor, Tensor]:
        """Learn from a batch.

        Parameters
        ----------
        chosen : [B] rows
        rate : learning rate of the heads
        progress : share of the training that is done

        Returns
        -------
        loss, accuracy : scalars on the device, of this batch before the step
        """
        loss, right = self._forward(chosen, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.live.parameters(), GRADIENT_NORM)
        self.optimizer.step()
        self._average()
        return loss.detach(), right

    def plain_batches(self, n: int) -> Iterator[Tensor]:
        """Normalised batches of about ``n`` training tiles, drawn evenly, unchanged."""
        size = self.config.batch_size
        n_batches = max(1, min(n, len(self.images)) // size)
        rows = torch.linspace(0, len(self.images) - 1, n_batches * size).long()
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
        for chosen in torch.split(rows[order], size):
            x = normalise(self.images[chosen].to(self.device), self._mean, self._std)
            yield x.contiguous(memory_format=torch.channels_last)

    def logits(self, images: Tensor, net: MultiHeadNet | None = None) -> Tensor:
        """Logits ``[N, M, C]`` of the averaged (or another) network, float32 on the CPU."""
        net = net if net is not None else self.averaged
        out = []
        with torch.inference_mode(), autocast(self.device, self.precision):
            for tiles in torch.split(images, EVALUATION_BATCH):
                x = normalise(tiles.to(self.device), self._mean, self._std)
                out.append(net.logits(x).float().cpu())
        return torch.cat(out)

    def _forward(self, chosen: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        config = self.config
        x = self._augment(self._crop(self.images[chosen]))
        x = (x - self._mean.view(1, 3, 1, 1)) / self._std.view(1, 3, 1, 1)
        labels = self.labels[chosen].to(self.device)
        weights = self._weights[chosen].to(self.device)
        share, other = self._mixture(len(chosen))
        if share < 1:
            x = share * x + (1 - share) * x[other]
            weights = share * weights + (1 - share) * weights[other]
        with autocast(self.device, self.precision):
            logits = self.live.logits(x.contiguous(memory_format=torch.channels_last))
        losses = head_cross_entropy(logits, labels, config.label_smoothing)
        if share < 1:
            mixed = head_cross_entropy(logits, labels[other], config.label_smoothing)
            losses = share * losses + (1 - share) * mixed
        loss = head_loss(config.loss, losses, weights, self._relaxation(progress))
        p = logits.detach().float().softmax(dim=-1).mean(dim=1)
        return loss, (p.argmax(dim=1) == labels).float().mean()

    def _mixture(self, n: int) -> tuple[float, Tensor]:
        """Share of the first tile (at least a half) and the rows of the second ones (mixup).

        Zhang et al., *mixup: beyond empirical risk minimization*, ICLR 2018; one share per batch.
        """
        if not self.config.mixup:
            return 1.0, torch.empty(0)
        alpha = torch.full((2,), float(self.config.mixup))
        a, b = torch._standard_gamma(alpha, generator=self.generator).tolist()
        share = max(a, b) / (a + b) if a + b > 0 else 1.0
        return share, torch.randperm(n, generator=self.generator).to(self.device)

    def _relaxation(self, progress: float) -> Relaxation:
        config = self.config
        winner = None
        if config.loss == "wta_batch":
            drawn = torch.rand(1, generator=self.generator).item()
            if drawn < config.random_winner:
                winner = int(torch.randint(config.n_heads, (1,), generator=self.generator))
        temperature = annealing_temperature(config.anneal_from, config.anneal_to, progress)
        return Relaxation(config.epsilon, temperature, winner)

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
