"""What ``--threshold`` comes to on a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ood.errors import OodError

if TYPE_CHECKING:
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.cli.arguments import AskedThreshold
    from napari_ood.scores.thresholds import Threshold


def asked_thresholds(
    scored: ScoredRun, asked: list[tuple[str, AskedThreshold]]
) -> dict[str, Threshold]:
    """Keep 95 % of in-distribution tiles for every role, but for those that were asked for.

    Raises
    ------
    OodError
        If a role is named twice or the run has no such score; ThresholdError out of reach.
    """
    from napari_ood.export.results import default_thresholds
    from napari_ood.scores.thresholds import Meaning

    found = default_thresholds(scored)
    seen = set()
    for role, threshold in asked:
        if role in seen:
            raise OodError(f"--threshold names {role!r} twice: give each role one")
        if role not in scored.roles:
            if role in scored.card.scores:
                scored.run.require_features()  # says why, where that is why
            raise OodError(
                f"--threshold {role}: this run has no such score; it has {', '.join(scored.roles)}"
            )
        seen.add(role)
        found[role] = scored.threshold(role, Meaning(threshold.meaning), threshold.parameter)
    return found
