"""Is a map worth believing? Randomised weights, and deletion and insertion of what it marks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ood.errors import ExplainCancelled, ExplainError
from napari_ood.explain.explainer import Explainer, Saliency, check_tiles
from napari_ood.explain.target import Target

Floats = NDArray[np.float32]

N_STEPS = 32
"""Of a deletion or insertion curve."""

INSENSITIVE = 0.5
"""Correlation with the map of random weights from which on a map is called insensitive."""
LITTLE_GAIN = 0.25
"""Of `Curves.gain`; random maps of coarse cells seldom reach it."""
STILL = 0.05
"""Share of the largest value by which the target must change at all to judge a map by it."""


class Trust(StrEnum):
    """What a test says of a map."""

    YES = "yes"
    LITTLE = "little"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Sanity:
    """A map by the model beside the map by the same network with randomised weights.

    Attributes
    ----------
    original, randomised : Saliency
    correlation : Spearman's ρ of the two maps' magnitudes, mean over tiles: near 0 means that the
        map is about what the model learned, near 1 that it is about edges in the picture; NaN where
        a map is constant
    correlations : [B], of each tile
    """

    original: Saliency
    randomised: Saliency
    correlation: float
    correlations: Floats

    @property
    def trust(self) -> Trust:
        """Whether the map is about what the model learned."""
        if np.isnan(self.correlation):
            return Trust.UNKNOWN
        return Trust.NO if self.correlation >= INSENSITIVE else Trust.YES

    @property
    def words(self) -> str:
        """What the correlation means, and the number."""
        rho = f"(Rank correlation {self.correlation:.2f}; 0: nothing in common, 1: the same.)"
        return {
            Trust.UNKNOWN: "One of the maps is the same everywhere: there is nothing to compare.",
            Trust.NO: "This map hardly depends on what the model learned: random weights give much "
            f"the same one. {rho}",
            Trust.YES: "This map depends on what the model learned: random weights give another "
            f"one. {rho}",
        }[self.trust]


def randomisation_check(
    explainer: Explainer,
    tiles: ArrayLike,
    method: str,
    target: Target,
    *,
    seed: int = 0,
    layer: str | None = None,
    on_progress: Callable[[float], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    **options: object,
) -> Sanity:
    """Make maps with the model's weights and with randomised ones (all layers at once).

    Adebayo et al., *Sanity checks for saliency maps*, NeurIPS 2018.

    Parameters
    ----------
    explainer : Explainer
    tiles, method, target, layer, on_progress, cancel, options : as ``Explainer.explain`` takes them
    seed : of the randomisation

    Raises
    ------
    ExplainError, ExplainCancelled, BundleError
        As ``Explainer.explain``.
    """

    def half(done: int, who: Explainer) -> Saliency:
        def report(share: float) -> None:
            if on_progress is not None:
                on_progress((done + share) / 2)

        return who.explain(
            tiles, method, target, layer=layer, on_progress=report, cancel=cancel, **options
        )

    original = half(0, explainer)
    if cancel is not None and cancel():
        raise ExplainCancelled("the check was cancelled")
    randomised = half(1, explainer.randomised(seed))
    pairs = zip(original.values, randomised.values, strict=True)
    found = np.array([rank_correlation(np.abs(a), np.abs(b)) for a, b in pairs], np.float32)
    known = found[np.isfinite(found)]
    mean = float(known.mean()) if len(known) else float("nan")
    return Sanity(original, randomised, mean, found)


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's ρ of two maps of one shape; NaN where one is constant or not finite."""
    from scipy.stats import rankdata

    x, y = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    if not (np.isfinite(x).all() and np.isfinite(y).all()) or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])


@dataclass(frozen=True)
class Curves:
    """What the target is worth as the tile's pixels go, or come, most salient first.

    Attributes
    ----------
    fractions : [n] float32, share of pixels that went or came, 0 to 1
    deletion, insertion : [n] float32, in ``unit``
    deletion_auc, insertion_auc : means of the curves: a faithful map has a low and a high one
    unit : ``probability`` for classes and heads, else the target's
    """

    fractions: Floats
    deletion: Floats
    insertion: Floats
    deletion_auc: float
    insertion_auc: float
    unit: str

    @property
    def gain(self) -> float:
        """Insertion area − deletion area, as a share of what the target spans.

        0 is what an order by chance has in the mean, 1 the most there can be; NaN where the target
        hardly changes, whatever is blurred. The end of the curves, the blurred tile, may be above
        its beginning: blurring a tile can make it more foreign.
        """
        values = np.concatenate([self.deletion, self.insertion]).astype(np.float64)
        if not np.isfinite(values).all() or np.ptp(values) <= STILL * np.abs(values).max():
            return float("nan")
        return (self.insertion_auc - self.deletion_auc) / float(np.ptp(values))

    @property
    def trust(self) -> Trust:
        """Whether the map points at what the target rests on."""
        gain = self.gain
        if np.isnan(gain):
            return Trust.UNKNOWN
        return Trust.NO if gain <= 0 else Trust.LITTLE if gain < LITTLE_GAIN else Trust.YES

    @property
    def words(self) -> str:
        """What the curves mean, in a sentence."""
        return {
            Trust.UNKNOWN: "The target hardly changes, whatever is blurred: these curves cannot "
            "tell whether the map is right.",
            Trust.NO: "This map does not point at what the model used: blurring its least salient "
            "pixels changes the target at least as much as blurring its most salient ones.",
            Trust.LITTLE: "This map is hardly better than a random choice of pixels at pointing to "
            "what the model used.",
            Trust.YES: "This map points at what the model used: blurring its most salient pixels "
            "lowers the target more than blurring the others.",
        }[self.trust]


def perturbation_curves(
    explainer: Explainer,
    tile: ArrayLike,
    saliency: Saliency | ArrayLike,
    target: Target,
    n_steps: int = N_STEPS,
    *,
    on_progress: Callable[[float], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Curves:
    """Blur pixels of a tile, most salient first, and reveal them in a blurred tile.

    Petsiuk et al., *RISE*, BMVC 2018, with the tile's blurred version as what is without content.

    Parameters
    ----------
    explainer : Explainer
    tile : [t, t, 3] or [1, t, t, 3] uint8
    saliency : its map: a Saliency of one tile, or [t, t] float
    target : what is measured
    n_steps : equal steps from none to all pixels
    on_progress : called with the share that is done, 0 to 1
    cancel : polled before each forward batch

    Raises
    ------
    ExplainError, ExplainCancelled, BundleError
        As ``Explainer.values``; or if the map does not suit the tile.
    """
    x = np.asarray(tile)
    x = check_tiles(x if x.ndim == 4 else x[None], explainer.bundle)
    values = saliency.values if isinstance(saliency, Saliency) else np.asarray(saliency, np.float32)
    values = values[0] if values.ndim == 3 and len(values) == 1 else values
    if len(x) != 1 or values.shape != x.shape[1:3] or n_steps < 1:
        raise ExplainError("curves need one tile, its own map, and at least 1 step")
    if not np.isfinite(values).all():
        raise ExplainError("the map has no finite values: nothing to delete by")
    fractions = np.linspace(0, 1, n_steps + 1, dtype=np.float32)
    gone = rank_from_top(values)[None] < (fractions * values.size).round()[:, None, None]
    blurred = explainer.without_content(x)
    mixed = np.where(np.concatenate([gone, ~gone])[..., None], blurred, x)
    values_of = explainer.values(mixed, target, share=True, on_progress=on_progress, cancel=cancel)
    deletion, insertion = np.split(values_of, 2)
    below, above = (float(np.trapezoid(curve, fractions)) for curve in (deletion, insertion))
    unit = "probability" if target.kind in ("class", "head") else target.unit
    return Curves(fractions, deletion, insertion, below, above, unit)


def rank_from_top(values: Floats) -> NDArray[np.intp]:
    """Rank of each pixel, 0 the largest. Equal pixels in random order: rows are no evidence."""
    flat = values.ravel()
    order = np.lexsort((np.random.default_rng(0).random(flat.size), -flat))
    ranks = np.empty(flat.size, np.intp)
    ranks[order] = np.arange(flat.size)
    return ranks.reshape(values.shape)
