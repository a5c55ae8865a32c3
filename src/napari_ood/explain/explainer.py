"""``Explainer``: saliency maps of tiles by a bundle's network. Loads torch on first use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ood.errors import ExplainError, NothingToExplain
from napari_ood.explain.methods import METHODS, Method
from napari_ood.explain.progress import Steps
from napari_ood.explain.target import Target
from napari_ood.models.bundle import Bundle
from napari_ood.torch_import import load_torch

if TYPE_CHECKING:
    from napari_ood.explain.engine import Engine

Floats = NDArray[np.float32]

SCALE_PERCENTILE = 99.0
"""Of the magnitudes of sample maps: the display limit."""

COUNTS = ("dissent",)
"""Scores that are whole numbers."""

SAMPLE, SLOW_SAMPLE = 64, 8
"""Tiles from whose maps the display limit is taken, at most."""


@dataclass(frozen=True)
class Saliency:
    """Saliency maps of tiles, in the unit of the method: never scaled per tile.

    Attributes
    ----------
    values : [B, t, t] float32 at the tile's own resolution; all NaN where the target itself is not
        finite
    signed : whether values below 0 mean "speaks against"; else all are ≥ 0
    method : its name in ``METHODS``
    target : what was explained
    unit : of the values
    note : caveats, one sentence for the user
    layer : whose maps a class activation map combines, else None
    """

    values: Floats
    signed: bool
    method: str
    target: Target
    unit: str
    note: str
    layer: str | None = None


class Explainer:
    """Explains tiles by a bundle. Cheap to make; safe to call from several threads, one at a time.

    It has a network of its own, in eval mode and with its parameters frozen, which no method
    changes.

    Parameters
    ----------
    bundle : Bundle
    device : as ``napari_ood.models.resolve_device`` takes it
    temperature : divides logits before softmax; the card's by default
    """

    def __init__(
        self, bundle: Bundle, device: str = "auto", temperature: float | None = None
    ) -> None:
        self.bundle, self.device = bundle, device
        self.temperature = bundle.card.temperature if temperature is None else float(temperature)
        self._lock = threading.RLock()
        self._loaded: Engine | None = None

    def explain(
        self,
        tiles: ArrayLike,
        method: str,
        target: Target,
        *,
        layer: str | None = None,
        on_progress: Callable[[float], None] | None = None,
        cancel: Callable[[], bool] | None = None,
        **options: object,
    ) -> Saliency:
        """Make saliency maps.

        Parameters
        ----------
        tiles : [B, t, t, 3] uint8, t the bundle's tile size
        method : a name in ``METHODS``
        target : what to explain
        layer : of the trunk, for class activation maps; :meth:`default_layer` by default
        on_progress : called with the share that is done, 0 to 1
        cancel : polled before each forward batch
        **options : of the method, see docs/explain.md

        Raises
        ------
        ExplainError
            If the method does not suit the network or the target; NothingToExplain where the
            target is not a number at any tile.
        ExplainCancelled
            When ``cancel`` said so.
        BundleError
            If the bundle lacks what a score needs.
        """
        how = find_method(method)
        x = check_tiles(tiles, self.bundle)
        self._check(target, how)
        with self._lock:
            engine = self._engine()
            chosen = None
            if how.name in engine.needs_layer:
                chosen = layer or self.default_layer(target)
            elif layer is not None:
                raise ExplainError(f"{how.title} reads no layer: leave it out")
            steps = Steps(on_progress, cancel)
            values = engine.explain(x, how.name, target, chosen, steps, options)
        if len(values) and not np.isfinite(values).any():
            raise NothingToExplain(
                f"{target.words(self.bundle.card)} has no finite value here: nothing to explain"
            )
        steps.finish()
        unit = how.unit_of(target)
        return Saliency(values, how.signed, how.name, target, unit, how.note, chosen)

    def values(
        self,
        tiles: ArrayLike,
        target: Target,
        share: bool = False,
        *,
        on_progress: Callable[[float], None] | None = None,
        cancel: Callable[[], bool] | None = None,
    ) -> Floats:
        """The explained number itself, ``[B]`` float32.

        Parameters
        ----------
        tiles : [B, t, t, 3] uint8
        target : Target
        share : the probability p̄ of a class, or a head's, instead of the logit
        on_progress, cancel : as :meth:`explain` takes them
        """
        x = check_tiles(tiles, self.bundle)
        self._check(target)
        steps = Steps(on_progress, cancel)
        with self._lock:
            found = self._engine().values(x, target, share, steps)
        steps.finish()
        return found

    def without_content(self, tiles: ArrayLike, kind: str = "blur") -> NDArray[np.uint8]:
        """Tiles ``[B, t, t, 3]`` uint8 blurred so that their structure is gone.

        What methods that take evidence away put in its place; other kinds: ``mean``, ``black``,
        ``white``.
        """
        x = check_tiles(tiles, self.bundle)
        with self._lock:
            return self._engine().without_content(x, kind)

    def layers(self) -> tuple[str, ...]:
        """Layers with maps, finest first: for each size of map the last of its layers."""
        with self._lock:
            return self._engine().layers.finest_first

    def default_layer(self, target: Target) -> str:
        """The last layer with maps that the target depends on, in the part that heads share.

        Raises
        ------
        ExplainError
            If there is none.
        """
        with self._lock:
            return self._engine().default_layer(target)

    def scale(
        self, method: str, target: Target, tiles: ArrayLike, layer: str | None = None
    ) -> float:
        """The one display limit of a slide: colours run from 0, or from minus it, to it.

        For occlusion and RISE it follows from how much the target varies in distribution, for
        meaningful perturbation it is 1; for all others it is the 99th percentile of the magnitudes
        in maps of some of these tiles.

        Parameters
        ----------
        method, target : as :meth:`explain` takes them
        tiles : [N, t, t, 3] uint8, a sample of the slide's tiles
        layer : of class activation maps: each layer's have a size of their own
        """
        how = find_method(method)
        x = check_tiles(tiles, self.bundle)
        self._check(target, how)
        if how.name == "perturbation":
            return 1.0
        if how.natural_scale and self.bundle.reference is not None:
            return self._natural_scale(target)
        if not len(x):
            raise ExplainError("a display limit needs at least one tile")
        most = SLOW_SAMPLE if how.slow else SAMPLE
        rows = np.unique(np.linspace(0, len(x) - 1, min(most, len(x))).round().astype(int))
        found = np.abs(self.explain(x[rows], how.name, target, layer=layer).values)
        limit = float(np.nanpercentile(found, SCALE_PERCENTILE))
        # Maps that are 0 nearly everywhere have a largest value all the same.
        return limit or float(np.nanmax(found)) or 1.0

    def randomised(self, seed: int = 0) -> Explainer:
        """An explainer of the same network with randomised weights, for the sanity check."""
        other = Explainer(self.bundle, self.device, self.temperature)
        with self._lock:
            other._loaded = self._engine().randomised(seed)
        return other

    def _natural_scale(self, target: Target) -> float:
        """Half of what 90 % of in-distribution tiles span (scores: from median to threshold)."""
        from napari_ood.scores.heads import entropy

        card, reference = self.bundle.card, self.bundle.require_reference()
        z = reference.validation_logits
        if target.kind == "score":
            name = str(target.score_spec(card))
            middle, high = reference.quantile(name, 0.5), reference.quantile(name, 0.95)
            return high - middle or 1.0
        if target.kind == "uncertainty":
            spread = entropy(z, self.temperature)
        elif target.kind == "head":
            spread = z[:, target.head, target.class_index]
        else:
            spread = z.mean(axis=1)[:, target.class_index]
        low, high = np.quantile(spread, (0.05, 0.95))
        return float(high - low) / 2 or 1.0

    def _check(self, target: Target, method: Method | None = None) -> None:
        target.check(self.bundle.card)
        if method is not None and target.kind not in method.targets:
            raise ExplainError(f"{method.title} does not explain a {target.kind}: choose another")
        if target.kind != "score":
            return
        spec = target.score_spec(self.bundle.card)
        if spec.needs_reference:
            self.bundle.require_reference()
        if method is not None and method.by_gradient and spec.method in COUNTS:
            others = ", ".join(how.title for how in METHODS.values() if not how.by_gradient)
            raise ExplainError(f"'{spec}' is a count, which has no gradient: choose {others}")

    def _engine(self) -> Engine:
        if self._loaded is None:
            load_torch()
            from napari_ood.explain.engine import Engine

            self._loaded = Engine.of(self.bundle, self.device, self.temperature)
        return self._loaded


def find_method(name: str) -> Method:
    """Return a method by name. Raises ExplainError."""
    if name not in METHODS:
        raise ExplainError(f"no saliency method {name!r}: choose {', '.join(METHODS)}")
    return METHODS[name]


def check_tiles(tiles: ArrayLike, bundle: Bundle) -> NDArray[np.uint8]:
    """Return tiles as an array. Raises ExplainError unless they are what the bundle reads."""
    x = np.asarray(tiles)
    side = bundle.card.tile_size
    if x.ndim != 4 or x.shape[1:] != (side, side, 3) or x.dtype != np.uint8:
        raise ExplainError(
            f"bundle {bundle.name!r} reads tiles [B, {side}, {side}, 3] uint8, "
            f"got {x.shape} {x.dtype}"
        )
    return x
