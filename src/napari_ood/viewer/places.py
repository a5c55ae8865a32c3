"""Places that another dock asks to have reviewed, in place of the regions above a threshold.

No Qt, no napari.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_ood.analysis.diverging import By, as_regions, threshold_of

if TYPE_CHECKING:
    from napari_ood.analysis.difference import RunDifference
    from napari_ood.analysis.diverging import Divergence
    from napari_ood.analysis.regions import Region
    from napari_ood.viewer.maps import Maps


MEASURE = "|B − A|"


@dataclass(frozen=True, eq=False)
class Places:
    """Regions of the run behind ``maps``, to be stepped through and judged.

    Attributes
    ----------
    maps : Maps
    regions : on the grid of that run; their scores are what ``measure`` says
    title : what they are, for the user
    measure : what their peaks measure, in words
    level : value from which tiles count, as thresholds do; None where there is none
    """

    maps: Maps
    regions: tuple[Region, ...]
    title: str
    measure: str
    level: float | None


def side_of(difference: RunDifference, maps: Maps | None) -> str | None:
    """Which of two compared runs is on screen, ``"a"`` or ``"b"``; None for neither."""
    if maps is None or maps.path is None:
        return None
    shown = maps.path.absolute()
    for side, scored in (("a", difference.a), ("b", difference.b)):
        if scored.run.path.absolute() == shown:
            return side
    return None


def diverging_places(
    difference: RunDifference, divergences: tuple[Divergence, ...], by: By, maps: Maps
) -> Places:
    """Where two runs part ways, on the grid of the one that is on screen.

    Takes a while at a million tiles: for a thread.
    """
    side = side_of(difference, maps)
    regions = as_regions(difference, divergences, "b" if side == "b" else "a")
    if by is By.CLASS:
        return Places(maps, regions, "Places where A and B say different classes.", MEASURE, None)
    level = threshold_of(difference)
    title = f"Places where A and B differ by {level:.3g} or more."
    return Places(maps, regions, title, MEASURE, level)
