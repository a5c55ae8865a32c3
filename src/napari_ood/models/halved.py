"""Held-out tiles as a bundle's network sees them in bf16: an extra, which no run depends on.

Scores come with thresholds, and thresholds come from held-out tiles. A network in bf16 gives those
tiles slightly other logits and features, so a run in bf16 is compared with these instead of with
the reference's own. Distances stay fitted to the reference's training tiles. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ood.errors import BundleError
from napari_ood.models.card import HALVED
from napari_ood.scores import mean_probability

if TYPE_CHECKING:
    from napari_ood.models.bundle import Bundle
    from napari_ood.models.reference import Reference

LOGITS, MOVED, STEP = "validation.logits", "validation.moved", "validation.step"
"""Features are stored as what bf16 adds to the reference's, [V, D] int8 in steps [D] float32: a
hundredth of what bf16 changes is enough, in a quarter of the bytes."""
LEVELS = 127
CHANGED = "changed."
"""Prefix of the shares of held-out tiles whose decision is another one in bf16."""
PREDICTION = "prediction"
KEEP = 0.95
"""Share of held-out tiles below the threshold at which decisions are compared."""
MOST_CHANGED = 0.01
"""``auto`` takes bf16 only where no more decisions than these change."""


def held_out_arrays(
    bundle: Bundle, logits: ArrayLike, features: ArrayLike
) -> dict[str, NDArray[np.generic]]:
    """Arrays of the extra ``HALVED``.

    Parameters
    ----------
    bundle : Bundle, with a reference
    logits, features : [V, M, C] and [V, D] of its held-out tiles, in the reference's order, as the
        network gives them in bf16

    Raises
    ------
    BundleError
        If they do not belong to the bundle's reference.
    """
    before = bundle.require_reference()
    whole = before.with_held_out(logits, features)  # which checks them
    added = whole.validation_features - before.validation_features
    step = np.maximum(np.abs(added).max(axis=0), np.finfo(np.float32).tiny) / LEVELS
    arrays: dict[str, NDArray[np.generic]] = {
        LOGITS: whole.validation_logits.astype(np.float16),
        MOVED: np.rint(added / step).astype(np.int8),
        STEP: step.astype(np.float32),
    }
    after = _apply(before, arrays)
    for name, share in changed_decisions(before, after, dict(bundle.card.scores)).items():
        arrays[CHANGED + name] = np.array([share], np.float32)
    return arrays


def changed_decisions(
    before: Reference, after: Reference, scores: dict[str, str]
) -> dict[str, float]:
    """Share of held-out tiles whose prediction, or side of a score's own threshold, is another.

    Parameters
    ----------
    before, after : references with the same held-out tiles in two precisions
    scores : role → score

    Returns
    -------
    dict
        By role, and under ``prediction``.
    """
    classes = [
        mean_probability(r.validation_logits, r.temperature).argmax(1) for r in (before, after)
    ]
    changed = {PREDICTION: float(np.mean(classes[0] != classes[1]))}
    for role, score in scores.items():
        flags = [
            r.score(score, r.validation_logits, r.validation_features) > r.quantile(score, KEEP)
            for r in (before, after)
        ]
        changed[role] = float(np.mean(flags[0] != flags[1]))
    return changed


def recorded_changes(bundle: Bundle) -> dict[str, float] | None:
    """What bf16 changes, as the bundle says; None where it says nothing."""
    arrays = bundle.arrays(HALVED)
    if arrays is None:
        return None
    return {
        name.removeprefix(CHANGED): float(values.astype(np.float64).max())
        for name, values in arrays.items()
        if name.startswith(CHANGED)
    }


def small_change(bundle: Bundle) -> bool:
    """Whether the bundle says that bf16 changes next to no decision."""
    changes = recorded_changes(bundle)
    return changes is not None and max(changes.values(), default=1.0) <= MOST_CHANGED


def halved_reference(bundle: Bundle) -> Reference | None:
    """The reference with its held-out tiles as they are in bf16; as it is without that extra.

    Raises
    ------
    BundleError
        If the extra is damaged or of another reference.
    """
    reference, arrays = bundle.reference, bundle.arrays(HALVED)
    if reference is None or arrays is None:
        return reference
    try:
        return _apply(reference, arrays)
    except (KeyError, ValueError) as error:
        raise BundleError(
            f"{bundle.path / HALVED} does not fit the bundle's reference ({error}): make it again"
        ) from error


def _apply(reference: Reference, arrays: Mapping[str, NDArray[np.generic]]) -> Reference:
    added = arrays[MOVED].astype(np.float32) * arrays[STEP].astype(np.float32)
    return reference.with_held_out(arrays[LOGITS], reference.validation_features + added)
