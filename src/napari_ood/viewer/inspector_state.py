"""What the inspector knows: one immutable snapshot. No Qt, no napari."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_ood.viewer.state import same

if TYPE_CHECKING:
    from napari_ood.explain.causes import Cause
    from napari_ood.explain.explainer import Saliency
    from napari_ood.explain.heads import HeadsAtTile
    from napari_ood.explain.prototypes import Prototype
    from napari_ood.explain.sanity import Curves, Trust
    from napari_ood.explain.target import Target
    from napari_ood.slides import Slide
    from napari_ood.viewer.geometry import Placement
    from napari_ood.viewer.maps import Maps

T = TypeVar("T")
Cell = tuple[int, int]
RGB = NDArray[np.uint8]
Floats = NDArray[np.float32]

FIRST_METHOD = "grad_cam"


class Tab(StrEnum):
    """Which answer the dock shows."""

    HEADS = "heads"
    PROTOTYPES = "prototypes"
    CAUSE = "cause"
    SALIENCY = "saliency"


@dataclass(frozen=True, eq=False)
class Answer(Generic[T]):
    """An answer, or in words why there is none; neither while it is being worked out."""

    value: T | None = None
    words: str = ""

    @property
    def known(self) -> bool:
        """Whether an answer has come, if only that there is none."""
        return self.value is not None or bool(self.words)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The reference tiles that are most like a tile, nearest first, and in which space."""

    space: str
    tiles: tuple[Prototype, ...]


@dataclass(frozen=True, eq=False)
class Look:
    """What is known of one tile."""

    cell: Cell
    pixels: Answer[RGB] = field(default_factory=Answer)
    heads: Answer[HeadsAtTile] = field(default_factory=Answer)
    cause: Answer[Cause] = field(default_factory=Answer)
    prototypes: Answer[Neighbours] = field(default_factory=Answer)

    @property
    def complete(self) -> bool:
        """Whether every answer has come."""
        answers = (self.pixels, self.heads, self.cause, self.prototypes)
        return all(answer.known for answer in answers)

    def failed(self, words: str) -> Look:
        """The same, with these words where no answer has come."""
        missing = Answer[Any](None, words)

        def kept(answer: Answer[T]) -> Answer[T]:
            return answer if answer.known else missing

        return Look(
            self.cell,
            kept(self.pixels),
            kept(self.heads),
            kept(self.cause),
            kept(self.prototypes),
        )


@dataclass(frozen=True)
class Wish:
    """Which saliency map is wanted.

    ``target`` None is the class that the model predicts for the first chosen tile; ``layer`` None
    is the method's own choice.
    """

    method: str = FIRST_METHOD
    target: Target | None = None
    layer: str | None = None


@dataclass(frozen=True, eq=False)
class Shown:
    """A saliency map on the slide.

    Attributes
    ----------
    wish, target : what was asked for, and the target that this came to
    cells : the tiles that it covers
    saliency : the map of each of them
    values : (H, W) float32, NaN between tiles
    place : where ``values`` lies
    limit : end of the colour scale, the same for all tiles of the slide
    title : such as "Grad-CAM of tumour"
    """

    wish: Wish
    target: Target
    cells: tuple[Cell, ...]
    saliency: Saliency
    values: Floats
    place: Placement
    limit: float
    title: str


@dataclass(frozen=True, eq=False)
class Randomised:
    """A tile's map, the one that random weights give, both [t, t], and what that says."""

    original: Floats
    randomised: Floats
    trust: Trust
    words: str
    shown: Shown


@dataclass(frozen=True, eq=False)
class Tested:
    """Deletion and insertion curves of the first tile's map; ``what`` they are of, in words."""

    curves: Curves
    what: str
    shown: Shown


@dataclass(frozen=True, eq=False)
class Inspected:
    """One snapshot.

    Attributes
    ----------
    slide, maps : that the chosen tiles are of
    running : whether the run is still going on
    temperature : that logits are divided by; None for the bundle's own
    cells : the chosen tiles; the first is the one that is looked at
    note : one line about the choice of tiles, empty mostly
    look : what is known of the first tile; parts of it follow while ``looking``
    wish : the saliency map that is asked for
    following : whether a fast map is made for each chosen tile while it is looked for
    shown : the saliency map at hand
    explaining, share : whether a map is being made, and how far that is
    problem : why there is no map
    randomised, tested : what was found about the map at hand
    checking : whether that is going on; ``check_problem`` says why it failed
    layers : names of the network's layers with spatial maps, finest first; empty until known
    tab : the answer that is shown
    """

    slide: Slide | None = None
    maps: Maps | None = None
    running: bool = False
    temperature: float | None = None
    cells: tuple[Cell, ...] = ()
    note: str = ""
    look: Look | None = None
    looking: bool = False
    wish: Wish = Wish()
    following: bool = True
    shown: Shown | None = None
    explaining: bool = False
    share: float | None = None
    problem: str = ""
    randomised: Randomised | None = None
    tested: Tested | None = None
    checking: bool = False
    check_share: float | None = None
    check_problem: str = ""
    layers: tuple[str, ...] = ()
    tab: Tab = Tab.HEADS

    @property
    def cell(self) -> Cell | None:
        """The tile that is looked at."""
        return self.cells[0] if self.cells else None

    def differs(self, old: Inspected | None, *names: str) -> bool:
        """Whether any of these fields differs from another snapshot; True where there is none."""
        return old is None or any(
            not (same(a, b) or (isinstance(a, tuple | Wish) and a == b))
            for a, b in ((getattr(self, n), getattr(old, n)) for n in names)
        )
