"""The reference of a bundle: what in-distribution tiles look like to its network (no torch).

It stores arrays, never fitted objects: features and labels of training tiles, to which distances
are fitted on first use, and logits and features of held-out validation tiles, from which ranges
and thresholds come.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ood.errors import BundleError
from napari_ood.models.card import FeatureBlock
from napari_ood.models.reference_tensors import arrays_in, check_arrays, to_tensors
from napari_ood.scores import (
    FEATURE_SCORES,
    HEAD_SCORES,
    NEED_CHANGED_TILES,
    Bank,
    Detector,
    HeadSample,
    ScoreSpec,
    parse_score,
    row_chunks,
    score_bounds,
)

Floats = NDArray[np.float32]
T = TypeVar("T")

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
    nuisance_features : [N, D] float, optional
        Features of the training tiles with a changed appearance minus those of the same tiles as
        they are; ``invariant`` and ``invariant_knn`` need them.
    statistics : [N, S] float, optional
        How the training tiles look: ``napari_ood.slides.appearance.tile_statistics``.
    spectrum : [N, B] float, optional
        How coarse their grain is: ``napari_ood.slides.spectrum.tile_spectrum``.
    grain : [4, B + 1] float, optional
        The rule that tells blur from another scale by a spectrum: ``napari_ood.explain.grain``.

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
        nuisance_features: ArrayLike | None = None,
        statistics: ArrayLike | None = None,
        spectrum: ArrayLike | None = None,
        grain: ArrayLike | None = None,
    ) -> None:
        self.train_features = np.asarray(train_features, np.float32)
        self.train_labels = np.asarray(train_labels, np.int64)
        self.head_weight = np.asarray(head_weight, np.float32)
        self.head_bias = np.asarray(head_bias, np.float32)
        self.validation_logits = np.asarray(validation_logits, np.float32)
        self.validation_features = np.asarray(validation_features, np.float32)
        self.validation_labels = np.asarray(validation_labels, np.int64)
        self.nuisance_features = (
            None if nuisance_features is None else np.asarray(nuisance_features, np.float32)
        )
        self.statistics = None if statistics is None else np.asarray(statistics, np.float32)
        self.spectrum = None if spectrum is None else np.asarray(spectrum, np.float32)
        self.grain = None if grain is None else np.asarray(grain, np.float32)
        self.blocks = tuple(blocks)
        self.temperature = float(temperature)
        self._fits: dict[str, Detector] = {}
        self._validation: dict[str, Floats] = {}
        self._lock = threading.RLock()
        check_arrays(self)

    @property
    def n_classes(self) -> int:
        """Number of classes, C."""
        return int(self.validation_logits.shape[2])

    @property
    def n_heads(self) -> int:
        """Number of heads, M."""
        return int(self.validation_logits.shape[1])

    def with_temperature(self, temperature: float) -> Self:
        """Return the same reference at another temperature; fits of the features are shared."""
        if temperature == self.temperature:
            return self
        other = copy.copy(self)
        other.temperature = float(temperature)
        other._validation = {}
        return other

    def with_held_out(self, logits: ArrayLike, features: ArrayLike) -> Self:
        """Return the same reference with other held-out tiles' logits and features.

        Parameters
        ----------
        logits, features : [V, M, C], [V, D], in the order of the tiles that they stand for

        Raises
        ------
        BundleError
            If they are not of as many tiles, or not finite.
        """
        other = copy.copy(self)
        other.validation_logits = np.asarray(logits, np.float32)
        other.validation_features = np.asarray(features, np.float32)
        other._fits, other._validation = {}, {}
        check_arrays(other)
        return other

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
        return self._score(self._parse(name), logits, features)

    def scores(
        self, names: Iterable[str], logits: ArrayLike | None, features: ArrayLike | None
    ) -> tuple[Floats, ...]:
        """Several scores of the same tiles, as :meth:`score` gives each of them.

        What is also a part of another one is computed once.
        """
        known: dict[str, Floats] = {}
        return tuple(self._score(self._parse(name), logits, features, known) for name in names)

    def _score(
        self,
        spec: ScoreSpec,
        logits: ArrayLike | None,
        features: ArrayLike | None,
        known: dict[str, Floats] | None = None,
    ) -> Floats:
        """Score by a parsed name; looks into ``known`` first, and leaves there what it computes."""
        known = {} if known is None else known
        key = str(spec)
        if key not in known:
            known[key] = self._compute(spec, logits, features, known)
        return known[key]

    def _compute(
        self,
        spec: ScoreSpec,
        logits: ArrayLike | None,
        features: ArrayLike | None,
        known: dict[str, Floats],
    ) -> Floats:
        if spec.needs_logits and logits is None:
            raise BundleError(f"score '{spec}' needs logits")
        if spec.needs_features and features is None:
            raise BundleError(f"score '{spec}' needs features")
        if spec.parts:
            parts = (self._score(part, logits, features, known) for part in spec.parts)
            return np.maximum(*map(self.standardised, map(str, spec.parts), parts))
        if spec.method in HEAD_SCORES:
            return HEAD_SCORES[spec.method](logits, self.temperature)
        return self._feature_score(spec, logits, np.asarray(features))

    def standardised(self, name: str, scores: ArrayLike) -> Floats:
        """Scores with 0 at the median of in-distribution tiles and 1 at their 95th percentile.

        Scores of any unit become comparable, and each has its threshold at 1: a part of
        ``max(a,b)``.

        Parameters
        ----------
        name : of the score
        scores : [N] float, as :meth:`score` gives them

        Returns
        -------
        [N] float32
        """
        middle, threshold = self.quantile(name, 0.5), self.quantile(name, HIGH_QUANTILE)
        # A score that hardly differs between in-distribution tiles must not blow up rounding.
        unit = max(threshold - middle, max(abs(middle), 1e-6) * 1e-6)
        return ((np.asarray(scores, np.float64) - middle) / unit).astype(np.float32)

    def _feature_score(
        self, spec: ScoreSpec, logits: ArrayLike | None, features: NDArray[np.floating]
    ) -> Floats:
        detector = self._fit(spec)
        z = np.asarray(logits) if spec.needs_logits else None
        self._check_features(features)
        out = np.empty(len(features), np.float32)
        for rows in row_chunks(*features.shape):  # no second copy of a million tiles' columns
            x = self.select(features[rows], spec.blocks)
            out[rows] = detector.score(x, None if z is None else z[rows])
        return out

    def select(self, features: ArrayLike, blocks: Sequence[str]) -> Floats:
        """Columns of ``[N, D]`` features that belong to these blocks, side by side."""
        x = np.asarray(features, np.float32)
        self._check_features(x)
        columns = [slice(b.start, b.stop) for b in self._find(blocks)]
        return np.concatenate([x[:, c] for c in columns], axis=1)

    def _find(self, names: Sequence[str]) -> list[FeatureBlock]:
        known = {block.name: block for block in self.blocks}
        missing = [name for name in names if name not in known]
        if missing:
            raise BundleError(f"the bundle stores no features {missing[0]!r}, only {list(known)}")
        return [known[name] for name in names]

    def _check_features(self, x: NDArray[np.floating]) -> None:
        width = self.train_features.shape[1]
        if x.ndim != 2 or x.shape[1] != width:
            raise BundleError(f"features {x.shape} do not belong to this bundle: need [N, {width}]")

    def validation_scores(self, name: str) -> Floats:
        """Scores of the held-out in-distribution tiles, ascending, ``[V]`` float32; cached."""

        spec = self._parse(name)

        def compute() -> Floats:
            scores = np.sort(self._score(spec, self.validation_logits, self.validation_features))
            scores.flags.writeable = False  # shared by all who ask
            return scores

        return self._cached(self._validation, str(spec), compute)

    def quantile(self, name: str, q: float) -> float:
        """Value below which a share ``q`` of in-distribution validation tiles lies."""
        return float(np.quantile(self.validation_scores(name), q))

    def display_range(self, name: str) -> tuple[float, float]:
        """Colour range whose middle is where 5 % of in-distribution tiles would be flagged.

        (p5, t + (t − p5)) with p5 and t the 5th and 95th percentile of the validation scores,
        kept inside the score's theoretical bounds.
        """
        low, threshold = self.quantile(name, LOW_QUANTILE), self.quantile(name, HIGH_QUANTILE)
        lowest, highest = score_bounds(name, self.n_classes, self.n_heads)
        low = max(low, lowest)
        high = min(threshold + (threshold - low), highest)
        # A score that is constant in distribution still needs a range to be drawn with.
        return low, high if high > low else low + max(abs(low), 1.0) * 1e-3

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """Arrays as ``reference.safetensors`` stores them (features in half precision)."""
        return to_tensors(self)

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, NDArray[np.generic]],
        blocks: Sequence[FeatureBlock],
        temperature: float = 1.0,
    ) -> Reference:
        """Inverse of ``tensors``. Raises BundleError when arrays are missing or don't fit."""
        return cls(blocks=blocks, temperature=temperature, **arrays_in(tensors))

    def _parse(self, name: str) -> ScoreSpec:
        try:
            return parse_score(name)
        except ValueError as error:
            raise BundleError(str(error)) from None

    def detector(self, name: str) -> Detector:
        """Return what a score of the features is fitted to; cached, shared by all temperatures.

        Raises
        ------
        BundleError
            If there is no such score, it reads no features, or the reference lacks what it needs.
        """
        spec = self._parse(name)
        if spec.method not in FEATURE_SCORES:
            raise BundleError(f"score '{spec}' is fitted to no features")
        return self._fit(spec)

    def _fit(self, spec: ScoreSpec) -> Detector:
        return self._cached(
            self._fits, str(spec), lambda: FEATURE_SCORES[spec.method](self._bank(spec))
        )

    def _bank(self, spec: ScoreSpec) -> Bank:
        """What a score of these blocks is fitted to."""
        nuisance = self.nuisance_features
        if spec.method in NEED_CHANGED_TILES and nuisance is None:
            raise BundleError(
                f"score '{spec}' needs features of changed tiles, which this bundle's reference "
                "lacks: fit the reference anew (napari_ood.training.fit_reference) or choose "
                "another score"
            )
        return Bank(
            features=self.select(self.train_features, spec.blocks),
            labels=self.train_labels,
            widths=tuple(block.stop - block.start for block in self._find(spec.blocks)),
            nuisance=None if nuisance is None else self.select(nuisance, spec.blocks),
            head=HeadSample(
                weight=self.head_weight,
                bias=self.head_bias,
                features=self.select(self.validation_features, spec.blocks),
                logits=self.validation_logits,
            ),
        )

    def _cached(self, cache: dict[str, T], key: str, compute: Callable[[], T]) -> T:
        with self._lock:  # fits take a second: threads must not each do their own
            if key not in cache:
                cache[key] = compute()
            return cache[key]
