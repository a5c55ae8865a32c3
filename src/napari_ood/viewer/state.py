"""What a session knows: one immutable snapshot. No Qt, no napari."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from napari_ood.models.precision import AUTO, BF16
from napari_ood.viewer.maps import OPACITIES, SCORED, Maps, Overlay, Readout
from napari_ood.viewer.output import Output

if TYPE_CHECKING:
    from napari_ood.inference import Progress
    from napari_ood.models import Bundle
    from napari_ood.scores.thresholds import Threshold
    from napari_ood.slides import Slide
    from napari_ood.viewer.figure import Figure
    from napari_ood.viewer.places import Places
    from napari_ood.viewer.scales import Scale
    from napari_ood.viewer.sets import Sets, SetsAsked


class Scope(StrEnum):
    """Which part of the slide a run covers."""

    SLIDE = "slide"
    VIEW = "view"
    SHAPE = "shape"


class Phase(StrEnum):
    """Where the run stands."""

    IDLE = "idle"
    RUNNING = "running"
    CANCELLING = "cancelling"


@dataclass(frozen=True)
class Result:
    """The maps of one run and the slide they belong to (None when it was not found)."""

    slide: Slide | None
    maps: Maps


LENS = ("thresholds", "scales", "temperature", "figures", "sets_asked", "sets")
NOTHING: Mapping[Any, Any] = MappingProxyType({})


@dataclass(frozen=True)
class State:
    """One snapshot.

    ``overlay`` is the one that is visible, None for none of them. The fields named in ``LENS`` say
    how the chosen slide's maps are looked at: they change with the slide and come back with it.

    Attributes
    ----------
    thresholds : above which tiles are flagged, per overlay that has a colour scale; no entry
        where nothing says what is usual and the user has set none
    scales : colour scale per overlay
    temperature : divides logits; None for the bundle's own
    figures : what the dock of thresholds draws, per overlay; empty until it was worked out
    sets_asked, sets : conformal prediction sets, None where none are wanted; ``sets`` follows
    sets_outlined : whether the outline is around tiles that are not one class
    precision, features : asked of the next run, as ``run_slide`` names them; ``auto`` and None go
        on with a run as it was begun
    no_bf16 : why the device cannot compute in bf16; empty where it can or nobody has asked
    studying : whether a thread is working on scores or figures
    outlined : whether flagged tiles have an outline
    legend : whether the canvas has a legend
    flagged_only : whether tiles that are not flagged are hidden
    places : what is to be reviewed in place of the regions above a threshold; None for those
    """

    slides: tuple[Slide, ...] = ()
    slide: Slide | None = None
    bundle: Bundle | None = None
    scope: Scope = Scope.SLIDE
    device: str = "auto"
    precision: str = AUTO
    features: str | None = None
    no_bf16: str = ""
    folder: Path | None = None
    output: Output | None = None
    phase: Phase = Phase.IDLE
    progress: Progress | None = None
    outcome: str = ""
    results: tuple[Result, ...] = ()
    overlay: Overlay | None = Overlay.OOD
    opacities: Mapping[Overlay, float] = field(default_factory=lambda: OPACITIES)
    readout: Readout | None = None
    thresholds: Mapping[Overlay, Threshold] = field(default_factory=lambda: NOTHING)
    scales: Mapping[Overlay, Scale] = field(default_factory=lambda: NOTHING)
    temperature: float | None = None
    figures: Mapping[Overlay, Figure] = field(default_factory=lambda: NOTHING)
    sets_asked: SetsAsked | None = None
    sets: Sets | None = None
    sets_outlined: bool = False
    studying: bool = False
    outlined: bool = True
    legend: bool = True
    flagged_only: bool = False
    places: Places | None = None

    @property
    def maps(self) -> Maps | None:
        """Maps of the chosen slide, or of a run whose slide was not found."""
        return next((r.maps for r in self.results if r.slide is self.slide), None)

    @property
    def flagging(self) -> Overlay | None:
        """The overlay whose threshold flags tiles while ``overlay`` is visible; None for none."""
        if self.overlay is Overlay.COMBINED:
            return Overlay.OOD if Overlay.OOD in self.scales else Overlay.UNCERTAINTY
        return self.overlay if self.overlay in SCORED else None

    @property
    def lacks(self) -> str:
        """What is asked of the device that it does not have, as a sentence; empty for nothing."""
        return self.no_bf16 if self.precision == BF16 else ""

    def differs(self, old: State, *names: str) -> bool:
        """Whether any of these fields differs from another snapshot."""
        return any(not same(getattr(self, n), getattr(old, n)) for n in names)


def same(a: Any, b: Any) -> bool:
    """Whether two values of a field count as the same."""
    # Slides, maps and reports hold arrays and are compared by identity; only plain values by value.
    return a is b or (isinstance(a, str | float | Path | Output | Readout) and bool(a == b))
