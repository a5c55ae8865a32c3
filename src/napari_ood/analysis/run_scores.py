"""A run with its scores at hand: other scores and temperatures without the network."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_ood.analysis.memo import Memo, RecentMemos
from napari_ood.analysis.offered import (
    ROLES,
    can_compute,
    depends_on_temperature,
    offered_scores,
    roles_of,
)
from napari_ood.analysis.ranked import Ranked, rank
from napari_ood.errors import RunError, ThresholdError
from napari_ood.scores import FEATURE_SCORES, HEAD_SCORES, ScoreSpec, mean_probability, parse_score

if TYPE_CHECKING:
    from napari_ood.inference import Run
    from napari_ood.models import Bundle, Card, Reference

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
A = TypeVar("A", bound=np.generic)

RECENT_TEMPERATURES = 4
"""Temperatures whose scores stay in memory while nobody holds on to them."""


class RunScores:
    """A run, its bundle if that is at hand, and a temperature: what the heads and scores say.

    Nothing here runs the network. What is asked for is computed from stored logits and features on
    first use and kept; what does not depend on the temperature is shared by all temperatures.
    Arrays are read-only. N counts the run's finished tiles, row by row, V the bundle's held-out
    tiles, C classes. Safe to ask from several threads.

    Parameters
    ----------
    run : Run
    bundle : Bundle, optional
        That made the run; by default it is looked for once, and done without if not at hand.
    temperature : float, optional
        Divides logits before any softmax; that of the bundle's card by default.

    Raises
    ------
    RunError
        If the bundle is not the one that made the run.
    ThresholdError
        If the temperature is not positive.
    """

    def __init__(
        self, run: Run, bundle: Bundle | None = None, temperature: float | None = None
    ) -> None:
        if bundle is not None and bundle.hashes != run.provenance["bundle"]["hashes"]:
            raise RunError(
                f"{run.path.name} was not made with this {bundle.name!r}: open it with the bundle "
                "that made it, or run the slide again"
            )
        self.run = run
        self._given = bundle and bundle.in_precision(run.arithmetic.precision)
        self._shared = Memo()
        self._recent = RecentMemos(RECENT_TEMPERATURES)
        self._set_temperature(run.card.temperature if temperature is None else temperature)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.run.path.name} at temperature {self.temperature:.4g}>"

    def _set_temperature(self, temperature: float) -> None:
        if not (math.isfinite(temperature) and temperature > 0):
            raise ThresholdError(f"a temperature must be above 0, not {temperature}")
        self.temperature = float(temperature)
        self._memo = self._recent.of(self.temperature)

    def with_temperature(self, temperature: float) -> Self:
        """Return the same run at another temperature; ThresholdError if it is not positive."""
        other = copy.copy(self)
        other._set_temperature(temperature)
        return other

    # --- what the run and its bundle are ---------------------------------------------------------

    @property
    def card(self) -> Card:
        """The bundle's card as it was when the run was made."""
        return self.run.card

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, C."""
        return self.run.classes

    @property
    def index(self) -> Ints:
        """Row and column of each tile; [N, 2] int64."""
        return self.run.index

    @property
    def boxes(self) -> NDArray[np.float64]:
        """Level-0 boxes y, x, h, w; [N, 4] float64."""
        return self.run.boxes

    @property
    def partial(self) -> Bools:
        """Tiles that reach beyond the slide; [N] bool."""
        return self.run.partial

    def on_grid(self, values: NDArray[Any], fill: Any) -> NDArray[Any]:
        """Spread one value per tile over the grid; (rows, cols), ``fill`` elsewhere."""
        return self.run.on_grid(values, fill)

    @property
    def n_unfinished(self) -> int:
        """Tiles with tissue that the run, as it was opened, has not reached."""
        return self._shared.get(
            "n_unfinished", lambda: int((self.run.tissue & ~self.run.done).sum())
        )

    @property
    def mm2_per_tile(self) -> float | None:
        """Area that a tile stands for, its stride squared, in mm²; None without mpp."""
        mpp = self.run.provenance["slide"]["mpp"]
        if not mpp:
            return None
        pitch = self.run.grid.pitch
        return float(pitch[0] * mpp[0] * pitch[1] * mpp[1] * 1e-6)

    @property
    def bundle(self) -> Bundle | None:
        """The bundle that made the run; None when it is not at hand."""
        return self._find_bundle()[0]

    @property
    def reference(self) -> Reference | None:
        """The bundle's reference, at this temperature; None without one."""

        def at_temperature() -> Reference | None:
            base = self._reference
            return base and base.with_temperature(self.temperature)

        return self._memo.get("reference", at_temperature)

    @property
    def _reference(self) -> Reference | None:
        """The reference at the card's temperature, for what does not depend on it."""
        return self.bundle.reference if self.bundle is not None else None

    def _find_bundle(self) -> tuple[Bundle | None, str]:
        """The bundle, or why there is none."""

        def find() -> tuple[Bundle | None, str]:
            if self._given is not None:
                return self._given, ""
            try:
                return self.run.bundle(), ""
            except RunError as error:
                return None, str(error)

        return self._shared.get("bundle", find)

    # --- what the heads say ----------------------------------------------------------------------

    def probabilities(self) -> Floats:
        """Mean over heads of the softmax; [N, C] float32, NaN where a logit is NaN."""
        return self._memo.get(
            "probabilities",
            lambda: _frozen(mean_probability(self.run.logits, self.temperature)),
        )

    def prediction(self) -> Ints:
        """Most probable class of each tile, as ``Run.prediction``; [N] int64.

        0 where the probabilities are NaN: ``confidence`` is NaN there.
        """
        return self._memo.get(
            "prediction",
            lambda: _frozen(np.asarray(self.probabilities().argmax(axis=1), np.int64)),
        )

    def confidence(self) -> Floats:
        """Probability of the most probable class; [N] float32."""
        return self._memo.get(
            "confidence", lambda: _frozen(np.asarray(self.probabilities().max(axis=1)))
        )

    def class_counts(self) -> tuple[int, ...]:
        """Number of tiles per predicted class, C; tiles with NaN probabilities are not counted."""

        def count() -> tuple[int, ...]:
            classed = self.prediction()[~np.isnan(self.confidence())]
            return tuple(np.bincount(classed, minlength=len(self.classes)).tolist())

        return self._memo.get("class_counts", count)

    # --- scores ----------------------------------------------------------------------------------

    @property
    def roles(self) -> Mapping[str, str]:
        """Role ("uncertainty", "ood", "appearance", "tissue") → score name, those at hand."""
        run = self.run
        return MappingProxyType(
            self._shared.get(
                "roles", lambda: roles_of(self.card, self._reference, run.has_features)
            )
        )

    def names(self) -> tuple[str, ...]:
        """Every score that can be offered: the roles', of the logits, of each feature block."""
        return self._shared.get(
            "names",
            lambda: offered_scores(self.card, self._reference, self.run.has_features),
        )

    def score_name(self, name: str) -> str:
        """Canonical name of a score, or of a role's score; RunError for an unknown one."""
        return str(self._parse(name))

    def score(self, name: str) -> Floats:
        """Score of each tile; [N] float32, higher = more uncertain or more foreign.

        Raises
        ------
        RunError
            For an unknown score or role, or if the bundle is needed and not at hand.
        BundleError
            If the bundle has no reference, or lacks the features of this score.
        """
        spec = self._parse(name)
        memo = self._memo_of(spec)
        return memo.get(("score", str(spec)), lambda: _frozen(self._compute(spec)))

    def remember(self, name: str, values: Floats) -> None:
        """Take over a score that is known already, [N] float32, as of a run that was watched.

        Nothing is read or computed for it then; a score that is kept already stays as it is.
        """
        spec = self._parse(name)
        known = _frozen(np.array(values, np.float32))
        if known.shape != (self.run.n_tiles,):
            raise ValueError(f"{len(known)} scores do not fit {self.run.n_tiles} tiles")
        self._memo_of(spec).get(("score", str(spec)), lambda: known)

    def ranked(self, name: str) -> Ranked:
        """Scores of a name or role in ascending order, per predicted class."""
        name = self.score_name(name)

        def ranked() -> Ranked:
            classes = np.where(np.isnan(self.confidence()), -1, self.prediction())
            return rank(self.score(name), classes, len(self.classes))

        return self._memo.get(("ranked", name), ranked)

    def familiar(self, name: str) -> Floats | None:
        """Scores of the held-out in-distribution tiles at this temperature, ascending; [V] float32.

        None without a reference; errors as of :meth:`score`.
        """
        spec = self._parse(name)
        reference = self._reference_for(spec)
        return None if reference is None else reference.validation_scores(str(spec))

    def _parse(self, name: str) -> ScoreSpec:
        resolved = self.run.score_name(name) if name in ROLES else name
        try:
            return parse_score(resolved)
        except ValueError as error:
            raise RunError(str(error)) from None

    def _memo_of(self, spec: ScoreSpec) -> Memo:
        return self._memo if depends_on_temperature(spec) else self._shared

    def _reference_for(self, spec: ScoreSpec) -> Reference | None:
        return self.reference if depends_on_temperature(spec) else self._reference

    def _compute(self, spec: ScoreSpec) -> Floats:
        if spec.method in HEAD_SCORES:
            return HEAD_SCORES[spec.method](self.run.logits, self.temperature)
        if spec.needs_features:
            self.run.require_features()
        bundle, why_not = self._find_bundle()
        if bundle is None:
            raise RunError(why_not)
        reference = self._reference_for(spec) or bundle.require_reference()
        if not can_compute(spec, reference):
            reference.validation_scores(
                str(spec)
            )  # says why, before gigabytes of features are read
        if spec.parts:
            self._compute_parts(spec, reference)
            parts = (reference.standardised(str(p), self.score(str(p))) for p in spec.parts)
            return np.maximum(*parts)
        return self.run.feature_scores(reference, (str(spec),))[0]

    def _compute_parts(self, spec: ScoreSpec, reference: Reference) -> None:
        """Parts are mostly shown on their own, too: none is computed twice, features read once."""
        keys = [("score", str(part)) for part in spec.parts if part.method in FEATURE_SCORES]

        def compute(missing: Sequence[tuple[str, ...]]) -> Iterator[Floats]:
            return map(_frozen, self.run.feature_scores(reference, [name for _, name in missing]))

        self._shared.fill(keys, compute)


def _frozen(values: NDArray[A]) -> NDArray[A]:
    """Read-only: nobody may change what the next one gets."""
    values.flags.writeable = False
    return values
