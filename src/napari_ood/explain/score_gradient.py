"""The derivative of any score, by central differences of the score's own code (needs torch).

Scores are numpy code of many kinds: distances, neighbours, ranks of two scores. Instead of writing
each a second time in torch, the score is evaluated at small steps of every feature, all at once,
and the result is handed to autograd as the derivative of one operation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_ood.models.bundle import Bundle
from napari_ood.scores import HEAD_SCORES, ScoreSpec

Floats = NDArray[np.float32]

STEP = 0.01
"""Half the distance of a difference, in standard deviations of the feature in the reference.
Smaller steps drown in the rounding of float32 scores, larger ones see the score's curvature."""

LOGIT_SPREAD = 1.0
"""Of logits, where a bundle has no reference."""

CONSTANT_SHARE = 1e-3
"""A feature that never varies is given this share of the usual standard deviation."""

PIECE_BYTES = 1 << 25
"""Rows are scored in pieces of so many bytes: a tile of 4,000 features has 8,000 of them."""


@dataclass(frozen=True)
class DifferentiableScore:
    """A score with what its central differences need.

    Attributes
    ----------
    score : (logits [N, M, C], features [N, D]) → [N] float32
    columns : columns of the features that the score reads
    steps : [D] float32, half the distance of a difference
    logit_step : the same for logits; 0 when the score reads none
    """

    score: Callable[[Floats, Floats], Floats]
    columns: NDArray[np.intp]
    steps: Floats
    logit_step: float

    @classmethod
    def of(cls, bundle: Bundle, spec: ScoreSpec, temperature: float) -> DifferentiableScore:
        """Build it for a bundle's score; BundleError when the bundle lacks what it needs."""
        blocks = [bundle.card.block(name) for name in sorted(spec.all_blocks)]
        columns = [np.arange(block.start, block.stop) for block in blocks]
        if not spec.needs_reference:
            function = HEAD_SCORES[spec.method]
            score = lambda z, _: function(z, temperature)  # noqa: E731
            return cls(score, np.empty(0, np.intp), np.empty(0, np.float32), STEP * LOGIT_SPREAD)
        reference = bundle.require_reference().with_temperature(temperature)
        name = str(spec)
        spread = reference.train_features.std(axis=0, dtype=np.float64)
        varying = spread[spread > 0]
        usual = float(np.median(varying)) if len(varying) else 1.0
        steps = STEP * np.maximum(spread, CONSTANT_SHARE * usual)
        logit_step = STEP * float(reference.validation_logits.std()) if spec.needs_logits else 0.0
        return cls(
            lambda z, x: reference.score(name, z, x),
            np.concatenate([np.empty(0, np.intp), *columns]).astype(np.intp),
            steps.astype(np.float32),
            logit_step,
        )

    def gradient(self, logits: Floats, features: Floats) -> tuple[Floats, Floats]:
        """Derivatives by the logits ``[N, M, C]`` and by the features ``[N, D]``."""
        by_logits, by_features = np.zeros_like(logits), np.zeros_like(features)
        for i in range(len(features)):
            if len(self.columns):
                by_features[i] = self._by_features(logits[i], features[i])
            if self.logit_step:
                by_logits[i] = self._by_logits(logits[i], features[i])
        return by_logits, by_features

    def _by_features(self, logits: Floats, features: Floats) -> Floats:
        out = np.zeros_like(features)
        n = max(1, PIECE_BYTES // (8 * len(features)))
        for start in range(0, len(self.columns), n):
            columns = self.columns[start : start + n]
            rows = np.arange(len(columns))
            stepped = np.tile(features, (2, len(columns), 1))
            stepped[0, rows, columns] += self.steps[columns]
            stepped[1, rows, columns] -= self.steps[columns]
            # The steps as float32 took them, not as they were meant.
            taken = stepped[0, rows, columns].astype(np.float64) - stepped[1, rows, columns]
            same = np.broadcast_to(logits, (2 * len(columns), *logits.shape))
            high, low = self.score(same, stepped.reshape(-1, len(features))).reshape(2, -1)
            out[columns] = (high.astype(np.float64) - low) / taken
        return out

    def _by_logits(self, logits: Floats, features: Floats) -> Floats:
        step = np.eye(logits.size, dtype=np.float32).reshape(-1, *logits.shape) * self.logit_step
        stepped = np.concatenate([logits + step, logits - step])
        same = np.broadcast_to(features, (len(stepped), len(features)))
        high, low = self.score(stepped, same).astype(np.float64).reshape(2, -1)
        return ((high - low) / (2 * self.logit_step)).reshape(logits.shape).astype(np.float32)


class _Score(torch.autograd.Function):
    """Autograd's view of a score."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, features: Tensor, score: DifferentiableScore) -> Tensor:
        """Return scores ``[N]``."""
        ctx.score, ctx.arrays = score, (_array(logits), _array(features))
        return torch.from_numpy(score.score(*ctx.arrays)).to(features)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        """Multiply what comes from above with the derivatives."""
        (grad,) = grads
        by_logits, by_features = ctx.score.gradient(*ctx.arrays)
        z, x = (torch.from_numpy(d).to(grad) for d in (by_logits, by_features))
        return grad[:, None, None] * z, grad[:, None] * x, None


def apply_score(score: DifferentiableScore, logits: Tensor, features: Tensor) -> Tensor:
    """Scores ``[N]`` of logits ``[N, M, C]`` and features ``[N, D]``, open to autograd."""
    out: Tensor = _Score.apply(logits, features, score)
    return out


def _array(x: Tensor) -> Floats:
    return np.ascontiguousarray(x.detach().cpu().float().numpy())
