"""Maps finer than a tile over a slide: what is mapped where, and how far it is. No Qt, no napari.

Commands belong to the GUI's thread and return at once. A thread loads the network and fills the
mosaic; :meth:`FineMaps.poll` takes over how far it is. Docks come and go, the map stays.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_ood.viewer.fine_map_work import FineMap, FineRequest, fill
from napari_ood.viewer.latest import Latest
from napari_ood.viewer.saliency_choices import target_choices
from napari_ood.viewer.state import Scope, same

if TYPE_CHECKING:
    from napari_ood.explain.explainer import Explainer
    from napari_ood.explain.target import Target
    from napari_ood.models import Bundle, Card
    from napari_ood.slides import Slide
    from napari_ood.viewer.job import Box
    from napari_ood.viewer.maps import Overlay
    from napari_ood.viewer.session import Session
    from napari_ood.viewer.state import State

MAX_WAIT_S = 20.0
"""Longest that closing the window waits for the thread."""
NO_SLIDE = "Open a slide first."
NO_BUNDLE = "Choose a bundle in the dock OOD first."
NO_VIEW = "The slide is not on screen: move it into view, or choose the whole slide."
NO_BOX = "Draw a rectangle on the slide first: New shapes layer, then Add rectangles."
WHOLE_IMAGE = "This bundle judges an image as a whole: explain the image itself, above."


@dataclass(frozen=True)
class FineWish:
    """What is asked for: a method of ``METHODS`` or a map of the bundle's, of what, and where."""

    kind: str = "grad_cam"
    target: Target | None = None
    scope: Scope = Scope.VIEW


@dataclass(frozen=True)
class FineState:
    """One snapshot.

    Attributes
    ----------
    slide, bundle : what would be mapped
    wish : what is asked for
    running, stopping : whether a thread fills the map, or is to end after the patch it is at
    made : the map at hand, complete or not
    stage : what the thread is doing
    n_done, n_tiles : how much of the map there is; 0 of 0 until that is known
    seconds_left : None while that is not known
    problem : one line for the user
    """

    slide: Slide | None = None
    bundle: Bundle | None = None
    wish: FineWish = field(default_factory=FineWish)
    running: bool = False
    stopping: bool = False
    made: FineMap | None = None
    stage: str = ""
    n_done: int = 0
    n_tiles: int = 0
    seconds_left: float | None = None
    problem: str = ""

    @property
    def obstacle(self) -> str:
        """Why no map can be made now; empty when one can."""
        if self.slide is None:
            return NO_SLIDE
        if self.bundle is None:
            return NO_BUNDLE
        return WHOLE_IMAGE if self.bundle.card.whole_image else ""

    def differs(self, old: FineState, *names: str) -> bool:
        """Whether any of these fields differs from another snapshot."""
        return any(not _same(getattr(self, n), getattr(old, n)) for n in names)


class FineMaps:
    """State and commands of the maps finer than a tile of one viewer.

    Parameters
    ----------
    session : Session
        Whose slide and bundle are mapped; it is followed.

    Signals
    -------
    changed(new, old) : after every change of the state
    """

    changed = Signal(object, object)

    def __init__(self, session: Session) -> None:
        self.state = FineState()
        self._session = session
        self._work: Latest[FineMap] = Latest()
        self._explainer: tuple[tuple[object, ...], Explainer] | None = None
        self._hidden: Overlay | None = None
        session.changed.connect(self._follow)
        self._follow(session.state, None)

    def _update(self, **changes: Any) -> None:
        old, new = self.state, replace(self.state, **changes)
        if new.differs(old, *changes):
            self.state = new
            self.changed.emit(new, old)

    def _follow(self, state: State, old: State | None) -> None:
        """Take over slide and bundle; the map of a slide that is gone goes with it."""
        maps = state.maps
        # The run on screen is explained by the bundle that made it.
        bundle = maps.bundle if maps is not None and maps.bundle is not None else state.bundle
        self._update(slide=state.slide, bundle=bundle)
        made = self.state.made
        if made is not None and not any(s is made.request.slide for s in state.slides):
            self.drop()

    # ---------------------------------------------------------------- commands

    def wish(self, **changes: Any) -> None:
        """Ask for another ``kind``, ``target`` or ``scope``."""
        self._update(wish=replace(self.state.wish, **changes), problem="")

    def start(self, region: Box | None) -> bool:
        """Fill the map that is asked for; whether that was begun.

        A map that was stopped goes on when just the same is asked for, else it is replaced.

        Parameters
        ----------
        region : y, x, h, w in level-0 pixels; None for the whole slide
        """
        s, session = self.state, self._session
        if s.obstacle:
            self._update(problem=s.obstacle)
            return False
        assert s.slide is not None and s.bundle is not None
        device, temperature = session.state.device, session.state.temperature
        target = target_of(s.wish, s.bundle)
        request = FineRequest(s.slide, s.bundle, s.wish.kind, target, region, device, temperature)
        made = s.made if s.made is not None and s.made.request == request else FineMap(request)
        if session.state.overlay is not None:  # the map is read over tissue, not over colours
            self._hidden = session.state.overlay
            session.set_overlay(None)
        self._work.ask(partial(fill, made, self._explainer_for(request)))
        self._update(made=made, problem="", seconds_left=None, **self._progress(made))
        return True

    def _explainer_for(self, request: FineRequest) -> Explainer:
        """The explainer of a bundle: its network is loaded once."""
        from napari_ood.explain.explainer import Explainer

        wanted = (request.bundle, request.device, request.temperature)
        if self._explainer is None or self._explainer[0] != wanted:
            self._explainer = wanted, Explainer(*wanted)
        return self._explainer[1]

    def refuse(self, problem: str) -> None:
        """Say why nothing was begun."""
        self._update(problem=problem)

    def stop(self) -> None:
        """Stop after the patch that is being worked on; what there is of the map stays."""
        self._work.drop()
        self._update(**self._progress(self.state.made))

    def drop(self) -> None:
        """Stop, and forget the map; the overlay that was hidden for it comes back."""
        self._work.drop()
        self._update(made=None, **self._progress(None))
        if self._hidden is not None and self._session.state.overlay is None:
            self._session.set_overlay(self._hidden)
        self._hidden = None

    def end(self, *_: object) -> None:
        """Stop and wait, telling no one: for when the window is gone."""
        self._work.drop()
        self._work.wait(MAX_WAIT_S)

    def wait(self, timeout: float = 60.0) -> bool:
        """Block until the thread has ended, and take over; whether so. For scripts and tests."""
        ended = self._work.wait(timeout)
        self.poll()
        return ended

    # ---------------------------------------------------------------- the thread

    def look_at(self, view: Box | None) -> None:
        """Say what the user sees, a level-0 box: that is filled first."""
        if self.state.made is not None:
            self.state.made.view = view

    def poll(self) -> bool:
        """Take over what the thread has done; whether it is still at work."""
        task = self._work.take()
        error = task.error if task is not None else None
        made = self.state.made
        self._update(
            **self._progress(made), **({"problem": error} if error else {}),
            seconds_left=made.seconds_left if made is not None else None,
        )  # fmt: skip
        return self._work.working

    def _progress(self, made: FineMap | None) -> dict[str, Any]:
        mosaic = made.mosaic if made is not None else None
        busy = self._work.busy
        return {
            "running": busy,
            "stopping": self._work.working and not busy,
            "stage": made.stage if made is not None else "",
            "n_done": mosaic.n_done if mosaic is not None else 0,
            "n_tiles": mosaic.n_tiles if mosaic is not None else 0,
        }


def target_of(wish: FineWish, bundle: Bundle) -> Target | None:
    """What a wish means for a bundle; None for the bundle's own maps, which have no target."""
    targets = [target for _, target in fine_targets(bundle.card, wish.kind)]
    return wish.target if wish.target in targets else next(iter(targets), None)


def fine_targets(card: Card, kind: str) -> tuple[tuple[str, Target], ...]:
    """What a kind of map can be of, in words, the OOD score first; nothing for the bundle's own.

    Neither single heads nor the predicted class, which would be another from tile to tile.
    """
    from napari_ood.explain.methods import METHODS

    if kind not in METHODS:
        return ()
    every = [
        (words, target)
        for words, target in target_choices(card, METHODS[kind])
        if target is not None and target.kind != "head"
    ]
    return tuple(sorted(every, key=lambda choice: choice[1].kind != "score"))


def fine_kinds(bundle: Bundle | None) -> tuple[tuple[str, str], ...]:
    """Maps that can be made with a bundle: name and title."""
    from napari_ood.explain.methods import METHODS
    from napari_ood.models.card import HEATMAP, LOCATIONS

    own = (("heatmap", "OOD heatmap", HEATMAP), ("locations", "OOD per place", LOCATIONS))
    methods = tuple((name, METHODS[name].title) for name in ("grad_cam", "layer_cam"))
    files = bundle.card.files if bundle is not None else ()
    return methods + tuple((name, title) for name, title, file in own if file in files)


def fine_title(request: FineRequest) -> str:
    """What a map shows: "Grad-CAM of tumour"."""
    title = dict(fine_kinds(request.bundle))[request.kind]
    if request.target is None:
        return title
    return f"{title} of {request.target.words(request.bundle.card)}"


def _same(a: Any, b: Any) -> bool:
    return same(a, b) or (isinstance(a, FineWish | int | None) and bool(a == b))
