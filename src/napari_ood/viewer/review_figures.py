"""Agreement between reviewers and the model's errors by their verdicts, in words. No Qt."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_ood.review.agreement import ErrorRate, PairAgreement, Proportion
    from napari_ood.review.verdicts import Verdict
    from napari_ood.viewer.review_state import QueueState

QUANTILES = (0.5, 0.75)
"""Of the regions' highest scores: what the error rate would be at higher thresholds."""
ALONE = "Only one reviewer so far. A second one enters another name above and judges the same."


def figures_html(state: QueueState, verdicts: Mapping[str, tuple[Verdict, ...]]) -> str:
    """Both parts as rich text."""
    return f"{_agreement_html(state, verdicts)}{_errors_html(state, verdicts)}"


def _agreement_html(state: QueueState, verdicts: Mapping[str, tuple[Verdict, ...]]) -> str:
    from napari_ood.review.agreement import agreement

    counts = ", ".join(f"{escape(name)} {len(given):,}" for name, given in verdicts.items())
    pairs = agreement(verdicts, state.regions)
    lines = [_pair_html(pair) for pair in pairs] or [ALONE]
    return f"<p><b>Verdicts</b><br>{counts or 'none yet'}</p><p>{'<br>'.join(lines)}</p>"


def _pair_html(pair: PairAgreement) -> str:
    return f"<b>{escape(pair.first)} and {escape(pair.second)}</b>: {escape(pair.kinds.words())}."


def _errors_html(state: QueueState, verdicts: Mapping[str, tuple[Verdict, ...]]) -> str:
    from napari_ood.review.agreement import error_rate

    found = state.found
    if found is None or not any(verdicts.values()):
        return ""
    given = [verdict for of_one in verdicts.values() for verdict in of_one]
    threshold = found.query.threshold
    if threshold is None:  # the model's errors go by its scores; a difference is none of them
        return ""
    score, now = threshold.score, threshold.value
    rows = [_row_html(rate) for rate in error_rate(given, found.scored, score, _levels(state, now))]
    return (
        "<p><b>Errors of the model</b> in judged regions above a threshold</p>"
        "<table cellspacing='0' cellpadding='3'>"
        "<tr><td><i>above</i></td><td><i>wrong class</i>&nbsp;&nbsp;</td>"
        f"<td><i>artefact, unknown</i></td></tr>{''.join(rows)}</table>"
        "<p><i>In brackets: 95 % interval. These regions were chosen because they stand out: the "
        "rates hold for such places, not for the slide.</i></p>"
    )


def _levels(state: QueueState, now: float) -> tuple[float, ...]:
    """The threshold as it is, and higher ones."""
    peaks = [region.peak for region in state.regions]
    higher = np.quantile(peaks, QUANTILES).tolist() if peaks else []
    return tuple(dict.fromkeys([now, *(level for level in higher if level > now)]))


def _row_html(rate: ErrorRate) -> str:
    apart = f"{rate.n_artefact}, {rate.n_unknown}"
    return (
        f"<tr><td>{rate.threshold:.3g}&nbsp;&nbsp;</td><td>{_proportion(rate.flagged)}&nbsp;&nbsp;</td>"
        f"<td>{apart}</td></tr>"
    )


def _proportion(part: Proportion) -> str:
    if part.interval is None or part.value is None:
        return "none judged"
    low, high = part.interval
    share, ends = f"{100 * part.value:.0f} %", f"{100 * low:.0f}–{100 * high:.0f}"
    return f"{part.k} of {part.n}: {share} ({ends})"
