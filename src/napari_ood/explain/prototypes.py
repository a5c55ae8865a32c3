"""The reference tiles that a tile resembles most, as the bundle's own detector measures it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ood.errors import ExplainError
from napari_ood.explain.thumbnails import ReferenceTiles
from napari_ood.scores import (
    InvariantNeighbours,
    Mahalanobis,
    ScoreSpec,
    parse_score,
    row_chunks,
)
from napari_ood.scores.distance import l2_normalised
from napari_ood.scores.names import BLIND, layers_in_words

if TYPE_CHECKING:
    from napari_ood.models import Bundle, Reference

Doubles = NDArray[np.float64]
Projection = Callable[[NDArray[np.float32]], Doubles]

ROLES = ("tissue", "ood", "appearance")
"""Whose score's space is taken: what a tile shows counts before how it looks."""
NEIGHBOURS = ("invariant_knn", "invariant_nn")
LINEAR = ("invariant", "mahalanobis++", "mahalanobis")
SAME = 0.1
"""A tile nearer to a reference tile than this share of the usual distance is that tile, or a copy:
features are stored in half precision. Found on 4,000 reference tiles: at most 0.04; other tiles of
the three shipped bundles are no nearer than 0.4 to each other, but for copies."""
ROUNDING, SLACK = 1e-6, 1e-9
KEPT = 4
"""Bundles whose projected references are kept, 5 to 10 MB each."""


@dataclass(frozen=True, eq=False)
class Prototype:
    """A tile of the reference that a tile resembles.

    Attributes
    ----------
    index : row of the reference's ``train_features``
    label : of the class
    class_name : of the class
    distance : in the space that `Prototypes.space` names
    percentile : share, in %, of held-out in-distribution tiles whose nearest reference tile is no
        farther than this one. Of a reference tile itself, at distance 0, it is that of the next
        one: nothing else says whether it is typical.
    thumbnail : [h, w, 3] uint8, or None where the bundle has none
    """

    index: int
    label: int
    class_name: str
    distance: float
    percentile: float
    thumbnail: NDArray[np.uint8] | None


class Prototypes:
    """The reference of a bundle, ready to be searched; make it once, ask it often.

    Parameters
    ----------
    bundle : Bundle
    score : name of the score in whose space distances are; None: the card's ``tissue``, else
        ``ood`` score. Of a ``max`` it is the part that looks for neighbours, else the first part
        that measures distances.

    Attributes
    ----------
    space : that space, in words
    familiar : [V] float64 ascending, distance of each held-out tile to its nearest reference tile

    Raises
    ------
    ExplainError
        If the score reads no features, or the bundle's reference can't be compared with.
    """

    def __init__(self, bundle: Bundle, score: str | None = None) -> None:
        reference = bundle.require_reference()
        self.bundle, self._reference = bundle, reference
        self._project, self.space = _space(bundle, reference, score)
        self._bank = self._project(reference.train_features)
        self._squares = np.einsum("nd,nd->n", self._bank, self._bank)
        self._tiles = ReferenceTiles(bundle)
        held = self._project(reference.validation_features)
        self.familiar = np.sort(self._search(held, 1)[1][:, 0])
        self._usual = float(np.median(self.familiar))

    def nearest(self, features: ArrayLike, k: int = 8) -> tuple[Prototype, ...]:
        """Return the ``k`` nearest reference tiles of one tile, nearest first.

        Parameters
        ----------
        features : [D] float, a row of ``run.features``
        k : at most; fewer where the reference is smaller

        Raises
        ------
        ExplainError
            If the features are of another bundle or not finite.
        """
        return self.nearest_of_each(np.asarray(features)[None], k)[0]

    def nearest_of_each(
        self, features: ArrayLike, k: int = 8, thumbnails: bool = True
    ) -> tuple[tuple[Prototype, ...], ...]:
        """Return the nearest reference tiles of each of ``[N, D]`` tiles, as `nearest` does."""
        rows, distances = self.search(features, k)
        return tuple(
            tuple(self._prototypes(*found, thumbnails))
            for found in zip(rows, distances, strict=True)
        )

    def search(self, features: ArrayLike, k: int = 8) -> tuple[NDArray[np.int64], Doubles]:
        """Rows of the reference and their distances; [N, D] → [N, k], [N, k], nearest first."""
        x = np.asarray(features, np.float32)
        width = self._bank_width
        if x.ndim != 2 or x.shape[1] != width:
            raise ExplainError(
                f"features {x.shape[1:]} are not those of bundle {self.bundle.name!r}, which has "
                f"{width}: choose the bundle that the run was made with"
            )
        if not np.isfinite(x).all():
            raise ExplainError("the tile's features are not finite: it has no nearest tiles")
        if k < 1:
            raise ExplainError(f"ask for one nearest tile or more, not {k}")
        return self._search(self._project(x), min(k, len(self._bank)))

    def percentile(self, distance: ArrayLike) -> Doubles:
        """Share, in %, of held-out tiles whose nearest reference tile is no farther than this."""
        # A held-out tile itself must count, though it was rounded otherwise in another batch.
        least = np.asarray(distance, np.float64) * (1 + SLACK)
        rank = np.searchsorted(self.familiar, least, side="right")
        return np.asarray(100.0 * rank / len(self.familiar))

    @property
    def _bank_width(self) -> int:
        return int(self._reference.train_features.shape[1])

    def _search(self, x: Doubles, k: int) -> tuple[NDArray[np.int64], Doubles]:
        rows = np.empty((len(x), k), np.int64)
        distances = np.empty((len(x), k))
        for part in row_chunks(len(x), len(self._bank) + k * self._bank.shape[1]):
            rows[part], distances[part] = self._search_part(x[part], k)
        return rows, distances

    def _search_part(self, x: Doubles, k: int) -> tuple[NDArray[np.int64], Doubles]:
        # |x − b|² − |x|²: x's own square does not change the order.
        rough = self._squares - 2 * (x @ self._bank.T)
        near = np.argpartition(rough, k - 1, axis=1)[:, :k]
        near.sort(axis=1)  # equal distances in the order of the rows
        # Once more without the cancellation, which would not leave a tile at 0 from itself.
        exact = np.linalg.norm(x[:, None, :] - self._bank[near], axis=2)
        exact[exact < ROUNDING * np.sqrt(np.maximum(self._squares[near], 1e-300))] = 0.0
        order = np.argsort(exact, axis=1, kind="stable")
        return np.take_along_axis(near, order, 1), np.take_along_axis(exact, order, 1)

    def _prototypes(
        self, rows: NDArray[np.int64], distances: Doubles, thumbnails: bool
    ) -> Iterator[Prototype]:
        classes = self.bundle.card.classes
        percentiles = self.percentile(distances)
        if distances[0] <= SAME * self._usual:
            percentiles[0] = self.percentile(self._nearest_other(int(rows[0])))
        for row, distance, percentile in zip(rows, distances, percentiles, strict=True):
            label = int(self._reference.train_labels[row])
            yield Prototype(
                index=int(row),
                label=label,
                class_name=classes[label],
                distance=float(distance),
                percentile=float(percentile),
                thumbnail=self._tiles.get(int(row)) if thumbnails else None,
            )

    def _nearest_other(self, row: int) -> float:
        """Distance of a reference tile to the nearest other one."""
        rows, distances = self._search(self._bank[row : row + 1], 2)
        others = distances[0][rows[0] != row]
        return float(others[0])


@lru_cache(maxsize=KEPT)
def prototypes_of(bundle: Bundle, score: str | None = None) -> Prototypes:
    """Return the searchable reference of a bundle; the last few are kept."""
    return Prototypes(bundle, score)


def nearest_tiles(
    bundle: Bundle, features: ArrayLike, k: int = 8, score: str | None = None
) -> tuple[Prototype, ...]:
    """Return the reference tiles that a tile resembles most, nearest first.

    Parameters
    ----------
    bundle : Bundle
        What is computed of its reference is kept: the first call takes up to a second.
    features : [D] float, a row of ``run.features``
    k : how many, at most
    score : as `Prototypes` takes it

    Raises
    ------
    ExplainError
        If the features are of another bundle or not finite.
    BundleError
        If the bundle has no reference, or its thumbnails are damaged.
    """
    return prototypes_of(bundle, score).nearest(features, k)


def _space(bundle: Bundle, reference: Reference, score: str | None) -> tuple[Projection, str]:
    """How features are projected before distances are taken, and that in words."""
    spec = _chosen(bundle, score)
    blocks: Sequence[str] = () if spec is None else spec.blocks
    if spec is None or (spec.method in NEIGHBOURS and reference.nuisance_features is None):
        blocks, spec = (reference.blocks[-1].name,), None
    layers = layers_in_words(blocks, bundle.card)
    where = f"the features of {layers}" if layers else "its features"
    if spec is None or spec.method == "knn":
        return partial(_unit_length, reference, blocks), f"{where}, by direction"
    detector = reference.detector(str(spec))
    assert isinstance(detector, InvariantNeighbours | Mahalanobis)

    def project(features: NDArray[np.float32]) -> Doubles:
        return detector.project(reference.select(features, blocks).astype(np.float64))

    blind = BLIND if spec.method.startswith("invariant") else ""
    return project, f"{where}{blind}, in standard deviations"


def _chosen(bundle: Bundle, score: str | None) -> ScoreSpec | None:
    """The score whose distances are taken; None: none of the card's measures any."""
    scores = bundle.card.scores
    names = [scores[role] for role in ROLES if role in scores] if score is None else [score]
    try:
        leaves = [leaf for name in names for leaf in _leaves(parse_score(scores.get(name, name)))]
    except ValueError as error:
        raise ExplainError(str(error)) from None
    for methods in (NEIGHBOURS, ("knn",), LINEAR):
        for leaf in leaves:
            if leaf.method in methods:
                return leaf
    if score is not None and not any(leaf.needs_features for leaf in leaves):
        raise ExplainError(f"score {score!r} reads no features: it knows no nearest tiles")
    return None


def _leaves(spec: ScoreSpec) -> Iterator[ScoreSpec]:
    if not spec.parts:
        yield spec
    for part in spec.parts:
        yield from _leaves(part)


def _unit_length(reference: Reference, blocks: Sequence[str], features: ArrayLike) -> Doubles:
    return l2_normalised(reference.select(features, blocks).astype(np.float64))
