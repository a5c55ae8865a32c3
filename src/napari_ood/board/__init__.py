"""The cohort board: one row per slide of a cohort, and how shares drift over time. No Qt.

Names are resolved on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ood._lazy import lazy_names

if TYPE_CHECKING:
    from napari_ood.board.drift import MEASURES, Baseline, Drift, Measure, Track, drift_of
    from napari_ood.board.reading import Board, read_board
    from napari_ood.board.row import SlideRow, WorstRegion

__all__ = [
    "MEASURES",
    "Baseline",
    "Board",
    "Drift",
    "Measure",
    "SlideRow",
    "Track",
    "WorstRegion",
    "drift_of",
    "read_board",
]

__getattr__ = lazy_names(
    __name__,
    {
        "MEASURES": "drift",
        "Baseline": "drift",
        "Board": "reading",
        "Drift": "drift",
        "Measure": "drift",
        "SlideRow": "row",
        "Track": "drift",
        "WorstRegion": "row",
        "drift_of": "drift",
        "read_board": "reading",
    },
)
