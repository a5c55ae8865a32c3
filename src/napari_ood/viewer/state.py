"""What a session knows: one immutable snapshot. No Qt, no napari."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ood.viewer.maps import OPACITIES, Maps, Overlay, Readout
from napari_ood.viewer.output import Output

if TYPE_CHECKING:
    from napari_ood.inference import Progress
    from napari_ood.models import Bundle
    from napari_ood.slides import Slide


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


@dataclass(frozen=True)
class State:
    """One snapshot. ``overlay`` is the one that is visible, None for none of them."""

    slides: tuple[Slide, ...] = ()
    slide: Slide | None = None
    bundle: Bundle | None = None
    scope: Scope = Scope.SLIDE
    device: str = "auto"
    folder: Path | None = None
    output: Output | None = None
    phase: Phase = Phase.IDLE
    progress: Progress | None = None
    outcome: str = ""
    results: tuple[Result, ...] = ()
    overlay: Overlay | None = Overlay.OOD
    opacities: Mapping[Overlay, float] = field(default_factory=lambda: OPACITIES)
    readout: Readout | None = None

    @property
    def maps(self) -> Maps | None:
        """Maps of the chosen slide, or of a run whose slide was not found."""
        return next((r.maps for r in self.results if r.slide is self.slide), None)

    def differs(self, old: State, *names: str) -> bool:
        """Whether any of these fields differs from another snapshot."""
        return any(not same(getattr(self, n), getattr(old, n)) for n in names)


def same(a: Any, b: Any) -> bool:
    """Whether two values of a field count as the same."""
    # Slides, maps and reports hold arrays and are compared by identity; only plain values by value.
    return a is b or (isinstance(a, str | float | Path | Output | Readout) and bool(a == b))
