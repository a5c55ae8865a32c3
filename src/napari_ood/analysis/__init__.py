"""What is computed from runs without the network: scores, thresholds, regions, differences.

Names are resolved on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ood._lazy import lazy_names

if TYPE_CHECKING:
    from napari_ood.analysis.difference import RunDifference, compare_runs
    from napari_ood.analysis.held_out import HeldOut
    from napari_ood.analysis.regions import Region, find_regions, rank_regions
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.analysis.summary import ClassCount, Summary, summarise

_HOME = {
    "RunDifference": "difference",
    "compare_runs": "difference",
    "Region": "regions",
    "find_regions": "regions",
    "rank_regions": "regions",
    "HeldOut": "held_out",
    "ScoredRun": "scored",
    "ClassCount": "summary",
    "Summary": "summary",
    "summarise": "summary",
}

__all__ = [
    "ClassCount",
    "HeldOut",
    "Region",
    "RunDifference",
    "ScoredRun",
    "Summary",
    "compare_runs",
    "find_regions",
    "rank_regions",
    "summarise",
]

__getattr__ = lazy_names(__name__, _HOME)


def __dir__() -> list[str]:
    return list(__all__)
