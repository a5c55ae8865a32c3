"""What the review queue knows: one immutable snapshot. No Qt, no napari."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from napari_ood.viewer.maps import Maps, Overlay
from napari_ood.viewer.rematch import Given
from napari_ood.viewer.review_search import Found

if TYPE_CHECKING:
    from napari_ood.analysis.regions import Region
    from napari_ood.review.matching import Matches
    from napari_ood.review.verdicts import Verdict
    from napari_ood.scores.thresholds import Threshold
    from napari_ood.slides import Slide
    from napari_ood.viewer.places import Places


class Stage(StrEnum):
    """What the queue has to show."""

    NO_RUN = "no run"
    RUNNING = "running"
    NO_THRESHOLD = "no threshold"
    SEARCHING = "searching"
    READY = "ready"
    EMPTY = "empty"
    FAILED = "failed"


class Order(StrEnum):
    """In which order regions come."""

    SCORE = "score"
    AREA = "area"
    DIVERSITY = "diversity"


@dataclass(frozen=True, eq=False)
class QueueState:
    """One snapshot.

    Attributes
    ----------
    stage : what there is to show
    searching : whether newer regions are being looked for while these are shown
    message : why it failed
    notice : what the last command did, in words
    slide : where pictures come from; None when it was not found
    found : regions and verdicts; None before the first search has ended
    places : what is reviewed in place of the regions above the threshold; None for those
    temperature : that the scores were worked out at; None for the bundle's own
    matches : this reviewer's verdicts, sorted to the regions; ``given`` are all of them by key
    current : place of the region at hand in ``regions``; None before the first is chosen
    draft : comment as it stands in the window
    unsaved : verdicts that the disk did not take
    """

    stage: Stage = Stage.NO_RUN
    searching: bool = False
    message: str = ""
    notice: str = ""
    maps: Maps | None = None
    slide: Slide | None = None
    overlays: tuple[Overlay, ...] = ()
    overlay: Overlay | None = None
    threshold: Threshold | None = None
    places: Places | None = None
    temperature: float | None = None
    order: Order = Order.SCORE
    min_tiles: int = 1
    found: Found | None = None
    matches: Matches | None = None
    given: Given = field(default_factory=dict)
    current: int | None = None
    draft: str = ""
    reviewer: str = ""
    unsaved: int = 0

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions, ranked."""
        return self.found.regions if self.found is not None else ()

    @property
    def region(self) -> Region | None:
        """The region at hand."""
        return None if self.current is None else self.regions[self.current]

    @property
    def verdict(self) -> Verdict | None:
        """This reviewer's verdict on the region at hand."""
        region = self.region
        return None if region is None else self.verdict_on(region)

    def verdict_on(self, region: Region) -> Verdict | None:
        """This reviewer's verdict that applies to a region, also one given at another threshold."""
        return self.matches.verdict(region) if self.matches is not None else None

    def done(self, region: Region) -> bool:
        """Whether a region was judged as it is now, or nearly so."""
        return self.matches is not None and self.matches.done(region)

    @property
    def n_done(self) -> int:
        """Number of regions that were judged."""
        if self.matches is None or self.found is None:
            return 0
        # Verdicts are few and regions may be many.
        places = (self.found.places.get(key) for key in self.matches.by_key)
        return sum(self.done(self.regions[i]) for i in places if i is not None)

    def differs(self, old: QueueState | None, *names: str) -> bool:
        """Whether any of these fields differs from another snapshot; True without one."""
        if old is None:
            return True
        pairs = ((getattr(self, name), getattr(old, name)) for name in names)
        return any(a is not b and (_by_identity(a) or a != b) for a, b in pairs)


def _by_identity(value: object) -> bool:
    return not isinstance(value, str | int | float | tuple | None)
