"""The reference of a bundle: what in-distribution tiles look like to its network (no torch).

It stores arrays, never fitted objects: features and labels of training tiles, to which distances
are fitted on first use, and logits and features of held-out validation tiles, from which ranges
and thresholds come.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ood.errors import BundleError
from napari_ood.models.card import FeatureBlock
from napari_ood.scores import (
    FEATURE_SCORES,
    HEAD_SCORES,
    Mahalanobis,
    ScoreSpec,
    parse_score,
    score_bounds,
)

Floats = NDArray[np.float32]
T = TypeVar("T")

TENSORS = (
    "train.features",
    "train.labels",
    "head.weight",
    "head.bias",
    "validation.logits",
    "validation.features",
    "validation.labels",
)
LOW_QUANTILE, HIGH_QUANTILE = 0.05, 0.95


class Reference:
    """In-distribution features and logits of a bundle, and the scores that are fitted to them.

    Parameters
    ----------
    train_features : [N, D] float
    train_labels : [N] int
    head_weight, head_bias : [M, C, D_last], [M, C] float
        Last layer of the heads.
    validation_logits : [V, M, C] float
    validation_features : [V, D] float
    validation_labels : [V] int
    blocks : sequence of FeatureBlock
        Which columns of the features belong to which layer.
    temperature : float
        Of the bundle's card; divides logits.

    Raises
    ------
    BundleError
        If shapes don't fit together or values are not finite.
    """

    def __init__(
        self,
        *,
        train_features: ArrayLike,
        train_labels: ArrayLike,
        head_weight: ArrayLike,
        head_bias: ArrayLike,
        validation_logits: ArrayLike,
        validation_features: ArrayLike,
        validation_labels: ArrayLike,
        blocks: Sequence[FeatureBlock],
        temperature: float = 1.0,
    ) -> None:
        self.train_features = np.asarray(train_features, np.float32)
        self.train_labels = np.asarray(train_labels, np.int64)
        self.head_weight = np.asarray(head_weight, np.float32)
        self.head_bias = np.asarray(head_bias, np.float32)
        self.validation_logits = np.asarray(validation_logits, np.float32)
        self.validation_features = np.asarray(validation_features, np.float32)
        self.validation_labels = np.asarray(validation_labels, np.int64)
        self.blocks = tuple(blocks)
        self.temperature = float(temperature)
        self._fits: dict[str, Mahalanobis] = {}
        self._validation: dict[str, Floats] = {}
        self._lock = threading.RLock()
        self._check()

    @property
    def n_classes(self) -> int:
        """Number of classes, C."""
        return int(self.validation_logits.shape[2])

    def score(self, name: str, logits: ArrayLike | None, features: ArrayLike | None) -> Floats:
        """Score tiles: higher = more uncertain / more foreign.

        Parameters
        ----------
        name : str
            e.g. ``entropy`` or ``mahalanobis@layer1``, see ``napari_ood.scores.parse_score``.
        logits : [N, M, C] float, or None for a score of the features
        features : [N, D] float, or None for a score of the logits

        Returns
        -------
        [N] float32

        Raises
        ------
        BundleError
            For an unknown score, a feature block that the bundle lacks, or a missing array.
        """
        spec = self._parse(name)
        if not spec.needs_features:
            if logits is None:
                raise BundleError(f"score {name!r} needs logits")
            return HEAD_SCORES[spec.method](logits, self.temperature)
        if features is None:
            raise BundleError(f"score {name!r} needs features")
        return self._fit(spec).score(self.select(features, spec.blocks))

    def select(self, features: ArrayLike, blocks: Sequence[str]) -> Floats:
        """Columns of ``[N, D]`` features that belong to these blocks, side by side."""
        x = np.asarray(features, np.float32)
        width = self.train_features.shape[1]
        if x.ndim != 2 or x.shape[1] != width:
            raise BundleError(f"features {x.shape} do not belong to this bundle: need [N, {width}]")
        known = {block.name: block for block in self.blocks}
        missing = [name for name in blocks if name not in known]
        if missing:
            raise BundleError(f"the bundle stores no features {missing[0]!r}, only {list(known)}")
        return np.concatenate([x[:, known[b].start : known[b].stop] for b in blocks], axis=1)

    def validation_scores(self, name: str) -> Floats:
        """Scores of the held-out in-distribution tiles, ascending, ``[V]`` float32; cached."""

        def compute() -> Floats:
            return np.sort(self.score(name, self.validation_logits, self.validation_features))

        scores = self._cached(self._validation, str(self._parse(name)), compute)
        scores.flags.writeable = False
        return scores

    def quantile(self, name: str, q: float) -> float:
        """Value below which a share ``q`` of in-distribution validation tiles lies."""
        return float(np.quantile(self.validation_scores(name), q))

    def display_range(self, name: str) -> tuple[float, float]:
        """Colour range whose middle is where 5 % of in-distribution tiles would be flagged.

        (p5, t + (t − p5)) with p5 and t the 5th and 95th percentile of the validation scores,
        kept inside the score's theoretical bounds.
        """
        low, threshold = self.quantile(name, LOW_QUANTILE), self.quantile(name, HIGH_QUANTILE)
        lowest, highest = score_bounds(name, self.n_classes)
        low = max(low, lowest)
        high = min(threshold + (threshold - low), highest)
        # A score that is constant in distribution still needs a range to be drawn with.
        return low, high if high > low else low + max(abs(low), 1.0) * 1e-3

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """Arrays as ``reference.safetensors`` stores them (features in half precision)."""
        stored = {
            "train.features": _half(self.train_features),
            "train.labels": self.train_labels.astype(np.int16),
            "head.weight": self.head_weight,
            "head.bias": self.head_bias,
            "validation.logits": self.validation_logits,
            "validation.features": _half(self.validation_features),
            "validation.labels": self.validation_labels.astype(np.int16),
        }
        # safetensors writes the buffer as it lies in memory and ignores strides.
        return {name: np.ascontiguousarray(array) for name, array in stored.items()}

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, NDArray[np.generic]],
        blocks: Sequence[FeatureBlock],
        temperature: float = 1.0,
    ) -> Reference:
        """Inverse of ``tensors``. Raises BundleError when arrays are missing or don't fit."""
        missing = [name for name in TENSORS if name not in tensors]
        if missing:
            raise BundleError(f"the bundle's reference lacks {missing[0]!r}: download it again")
        named = {name.replace(".", "_"): tensors[name] for name in TENSORS}
        return cls(blocks=blocks, temperature=temperature, **named)

    def _parse(self, name: str) -> ScoreSpec:
        try:
            return parse_score(name)
        except ValueError as error:
            raise BundleError(str(error)) from None

    def _fit(self, spec: ScoreSpec) -> Mahalanobis:
        def compute() -> Mahalanobis:
            features = self.select(self.train_features, spec.blocks)
            return FEATURE_SCORES[spec.method](features, self.train_labels)

        return self._cached(self._fits, str(spec), compute)

    def _cached(self, cache: dict[str, T], key: str, compute: Callable[[], T]) -> T:
        with self._lock:  # fits take a second: threads must not each do their own
            if key not in cache:
                cache[key] = compute()
            return cache[key]

    def _check(self) -> None:
        n, d = _shape(self.train_features, 2, "train.features")
        v, m, c = _shape(self.validation_logits, 3, "validation.logits")
        width = self.blocks[-1].stop if self.blocks else 0
        expected = {
            "train.labels": (self.train_labels.shape, (n,)),
            "validation.features": (self.validation_features.shape, (v, d)),
            "validation.labels": (self.validation_labels.shape, (v,)),
            "head.weight": (self.head_weight.shape[:2], (m, c)),
            "head.bias": (self.head_bias.shape, (m, c)),
            "train.features": ((d,), (width,)),
        }
        for name, (found, wanted) in expected.items():
            if found != wanted:
                raise BundleError(f"reference {name!r} has shape {found}, expected {wanted}")
        if n < 2 or v < 1:
            raise BundleError("a reference needs training and validation tiles")
        for array in (self.train_features, self.validation_features, self.validation_logits):
            if not np.isfinite(array).all():
                raise BundleError("the reference holds values that are not finite")
        if min(self.train_labels.min(), self.validation_labels.min()) < 0:
            raise BundleError("the reference holds negative labels")


def _shape(array: NDArray[np.generic], ndim: int, name: str) -> tuple[int, ...]:
    if array.ndim != ndim:
        raise BundleError(f"reference {name!r} has shape {array.shape}, expected {ndim} axes")
    return array.shape


def _half(array: Floats) -> NDArray[np.generic]:
    """Half precision, unless a value would overflow."""
    limit = float(np.finfo(np.float16).max)
    return array.astype(np.float16) if float(np.abs(array).max()) < limit else array
