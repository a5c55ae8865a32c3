"""Checks of what a run found: whether it is complete, of this slide, and how much is foreign."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_ood.errors import BundleError, RunError
from napari_ood.passport.check import Check, Light, percent
from napari_ood.scores.names import score_in_words

if TYPE_CHECKING:
    from napari_ood.inference import Run
    from napari_ood.models import Bundle
    from napari_ood.slides import Slide

KEEP = 0.95
FOREIGN_YELLOW, FOREIGN_RED = 0.15, 0.40
"""Share of tiles beyond the 95th percentile of in-distribution tiles; 5 % would be usual."""
_ROLES = (("appearance", "Foreign appearance"), ("tissue_foreign", "Foreign tissue"))
_SCORES = {"appearance": "appearance", "tissue_foreign": "tissue"}


def check_run(run: Run, slide: Slide | None) -> Check:
    """Whether the run is of this slide, and finished."""
    key, title = "run", "Run"
    wanted = int(run.tissue.sum())
    numbers = {"n_tiles": run.n_tiles, "n_wanted": wanted}
    value = f"{run.n_tiles:,} of {wanted:,} tiles"
    if slide is not None and slide.fingerprint() != run.provenance["slide"]["fingerprint"]:
        words = "The run was made from another file: what it says does not belong to this slide."
        return Check(key, title, Light.RED, value, words, numbers)
    if not run.n_tiles:
        return Check(key, title, Light.RED, value, "Nothing was run yet.", numbers)
    if not run.complete:
        words = "The run is not finished: maps and counts are of a part of the slide. Resume it."
        return Check(key, title, Light.YELLOW, value, words, numbers)
    return Check(key, title, Light.GREEN, value, "Every tile with tissue was run.", numbers)


def check_foreign(run: Run, bundle: Bundle | None) -> tuple[Check, ...]:
    """Share of tiles that are foreign, per kind where the bundle tells them apart."""
    if not run.n_tiles:
        return ()
    bundle = bundle and bundle.in_precision(run.arithmetic.precision)
    roles = [(key, title) for key, title in _ROLES if _SCORES[key] in run.card.scores]
    roles = roles or [("ood", "Foreign tiles")]
    return tuple(_foreign(run, bundle, key, title) for key, title in roles)


def _foreign(run: Run, bundle: Bundle | None, key: str, title: str) -> Check:
    try:
        if bundle is None or bundle.reference is None:
            words = "It needs the bundle with its reference, which is not at hand."
            return Check(key, title, Light.GREY, "not known", words)
        score = run.score_name(_SCORES.get(key, "ood"))
        threshold = bundle.reference.quantile(score, KEEP)
        (values,) = run.feature_scores(bundle.reference, (score,))
    except (RunError, BundleError) as error:
        return Check(key, title, Light.GREY, "not known", _sentence(error))
    known = values[~np.isnan(values)]
    share = float((known > threshold).mean()) if len(known) else 0.0
    numbers: dict[str, float | str] = {"share": share, "score": score, "threshold": threshold}
    value = f"{percent(share)} of tiles"
    if len(known) < len(values):
        n = len(values) - len(known)
        numbers["n_not_a_number"] = n
        words = (
            f"The network's answer is not a number for {n:,} of {len(values):,} tiles: its weights "
            "overflow. Run the slide on the CPU, or train the bundle again."
        )
        return Check(key, title, Light.RED, value, words, numbers)
    usual = (
        "beyond 95 % of in-distribution tiles, measured as "
        f"{score_in_words(score, run.card)}; 5 % would be usual"
    )
    if share >= FOREIGN_RED:
        words = (
            f"Much of this slide is foreign to the bundle: {percent(share)} of tiles lie {usual}."
        )
        return Check(key, title, Light.RED, value, words + _ADVICE, numbers)
    if share >= FOREIGN_YELLOW:
        words = f"{percent(share)} lie {usual}. Review these regions."
        return Check(key, title, Light.YELLOW, value, words, numbers)
    return Check(key, title, Light.GREEN, value, f"{percent(share)} lie {usual}.", numbers)


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."


_ADVICE = " Don't use its predictions on this slide."
