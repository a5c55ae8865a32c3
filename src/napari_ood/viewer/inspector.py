"""The chosen tile and why the model said so: state and commands. No Qt, no napari.

Commands belong to the GUI's thread and return at once; threads work things out and
:meth:`Inspector.poll` takes them over. An inspector lives as long as its viewer: docks come and go.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from psygnal import Signal

from napari_ood.viewer.inspector_checks import Checks
from napari_ood.viewer.inspector_memory import Memory
from napari_ood.viewer.inspector_request import Requests
from napari_ood.viewer.inspector_state import (
    Cell,
    Inspected,
    Look,
    Tab,
)
from napari_ood.viewer.inspector_tiles import cells_of_box, most_foreign, next_cell
from napari_ood.viewer.inspector_work import (
    Explained,
    Subject,
    curves_of,
    look_at,
    randomise,
)
from napari_ood.viewer.latest import Latest
from napari_ood.viewer.maps import NO_TILE
from napari_ood.viewer.state import Phase
from napari_ood.viewer.why import Why

if TYPE_CHECKING:
    from napari_ood.explain.methods import Method
    from napari_ood.slides.grid import Region
    from napari_ood.viewer.bridge import Bridge
    from napari_ood.viewer.session import Session
    from napari_ood.viewer.state import State

NO_TILE_THERE = "The run has no tile there: it looks at tissue only."


class Inspector:
    """State and commands of the dock *OOD inspector*.

    Parameters
    ----------
    session : Session
    why : Why, optional
        Who answers.

    Signals
    -------
    changed(new, old) : after every change of the state
    """

    changed = Signal(object, object)

    def __init__(self, session: Session, why: Why | None = None) -> None:
        self.state = Inspected()
        self.session = session
        self._why = Why() if why is None else why
        self._look: Latest[Look] = Latest()
        self._published: list[Look] = []
        self._explain: Latest[Explained] = Latest()
        self._checks = Checks(lambda: self.state, self._update)
        self._requests, self._memory = Requests(self._why), Memory()

    def _update(self, **changes: Any) -> None:
        old, new = self.state, replace(self.state, **changes)
        if new.differs(old, *changes):
            self.state = new
            self.changed.emit(new, old)

    # ---------------------------------------------------------------- following the session

    def follow(self, state: State) -> None:
        """Take over which slide and run are looked at."""
        maps, running = state.maps, state.phase is not Phase.IDLE
        s = self.state
        if maps is not s.maps:
            self._forget()
            cells = self._memory.cells(maps)
            self._update(maps=maps, slide=state.slide, running=running, cells=(), note="")
            if cells:
                self._choose(cells)
        elif (state.slide, running) != (s.slide, s.running):
            self._update(slide=state.slide, running=running)
            self.look_again()
        if state.temperature != self.state.temperature:
            self._change_temperature(state.temperature)

    def _change_temperature(self, temperature: float | None) -> None:
        """Heads, entropy and their maps are others now."""
        cells, maps = self.state.cells, self.state.maps
        self._forget()
        if maps is not None:
            self._memory.drop_maps(maps)
        self._update(temperature=temperature, cells=())
        if cells:
            self._choose(cells)

    def _forget(self) -> None:
        for latest in (self._look, self._explain, self._checks.work):
            latest.drop()
        self._published.clear()
        self._update(
            look=None, looking=False, shown=None, explaining=False, problem="",
            randomised=None, tested=None, checking=False, check_problem="",
        )  # fmt: skip

    def stop(self) -> None:
        """Work on nothing and free the network; what was found stays. Nobody looks any more."""
        for latest in (self._look, self._explain, self._checks.work):
            latest.drop()
        self._requests.free()
        self._update(looking=False, explaining=False, checking=False)

    def resume(self) -> None:
        """Go on with what was stopped: somebody looks again."""
        look = self.state.look
        if look is not None and not self.state.looking and not look.complete:
            self.look_again()
        self._explain_if_followed()

    # ---------------------------------------------------------------- choosing tiles

    def select(self, cell: Cell | None) -> bool:
        """Look at a tile; whether there is one. None is a point beside the grid of tiles."""
        maps = self.state.maps
        if maps is None or cell is None or maps.prediction[cell] == NO_TILE:
            self._update(note=NO_TILE_THERE if maps is not None else "")
            return False
        self._choose((cell,))
        return True

    def step(self, down: int, right: int) -> bool:
        """Go to the next tile in a direction, over gaps; whether there is one.

        Without a tile to start from, to the most foreign one.
        """
        maps, cell = self.state.maps, self.state.cell
        if maps is None:
            return False
        if cell is None:
            return self.select_most_foreign()
        return self._select_if_any(next_cell(maps, cell, down, right))

    def select_most_foreign(self) -> bool:
        """Look at the tile with the highest OOD score, else the most uncertain; whether any is."""
        maps = self.state.maps
        return self._select_if_any(most_foreign(maps) if maps is not None else None)

    def _select_if_any(self, cell: Cell | None) -> bool:
        return cell is not None and self.select(cell)

    def select_box(self, box: Region) -> bool:
        """Look at the tiles in a level-0 box y, x, h, w; whether they can be explained."""
        maps = self.state.maps
        if maps is None:
            return False
        cells, note = cells_of_box(maps, box)
        if not cells:
            self._update(note=note)
            return False
        self._choose(cells)
        return True

    def _choose(self, cells: tuple[Cell, ...]) -> None:
        maps = self.state.maps
        assert maps is not None
        if cells != self.state.cells:
            self._explain.drop()
            self._checks.drop()
            self._memory.choose(maps, cells)
            self._update(
                cells=cells, note="", problem="", explaining=False,
                shown=self._memory.shown(maps, cells, self.state.wish),
            )  # fmt: skip
            self.look_again()
        self._update(note="")
        self._explain_if_followed()

    def look_again(self) -> None:
        """Find out anew what is known of the chosen tile."""
        cell, subject = self.state.cell, self._subject()
        if cell is None or subject is None:
            return
        self._published.clear()
        self._look.ask(partial(look_at, subject, cell, self._why, self._published.append))
        self._update(look=Look(cell), looking=True)

    def _subject(self) -> Subject | None:
        s = self.state
        if s.maps is None:
            return None
        return Subject(s.slide, s.maps, self.session.scored(s.maps), s.running)

    # ---------------------------------------------------------------- saliency

    def show_tab(self, tab: Tab) -> None:
        """Show another answer."""
        self._update(tab=Tab(tab))
        self._explain_if_followed()

    def set_following(self, following: bool) -> None:
        """Explain each chosen tile while saliency is looked at, if the method is fast."""
        self._update(following=following)
        self._explain_if_followed()

    def wish(self, **changes: Any) -> None:
        """Ask for another ``method``, ``target`` or ``layer``."""
        wished = self._requests.possible(replace(self.state.wish, **changes))
        if wished == self.state.wish:
            return
        self._explain.drop()
        self._checks.drop()
        shown = self._memory.shown(self.state.maps, self.state.cells, wished)
        self._update(wish=wished, shown=shown, explaining=False, problem="")
        self._explain_if_followed()

    def methods(self) -> dict[str, Method]:
        """Saliency methods by name."""
        return self._requests.methods()

    def _explain_if_followed(self) -> None:
        s = self.state
        wanted = s.following and s.tab is Tab.SALIENCY and s.cells and s.shown is None
        if wanted and not s.explaining and not self.methods()[s.wish.method].slow:
            self.explain()

    def explain(self) -> bool:
        """Make the map that is asked for, of the chosen tiles; whether that was begun."""
        s, subject = self.state, self._subject()
        if subject is None or not s.cells:
            return False
        problem = self._requests.why_not(s, subject)
        if problem:
            self._update(problem=problem)
            return False
        limit = self._memory.limit(subject.maps, s.wish, self._requests.target_of(s))
        self._checks.drop()
        device = self.session.state.device
        self._explain.ask(self._requests.work(s, subject, device, limit))
        self._update(explaining=True, share=None, problem="")
        return True

    def cancel(self) -> None:
        """Stop making the map; the tile stays chosen."""
        self._explain.drop()
        self._update(explaining=False)

    # ---------------------------------------------------------------- is the map to be trusted?

    def randomise(self) -> bool:
        """Compare the map with that of random weights; whether that was begun."""
        return self._begin_check(randomise)

    def test(self) -> bool:
        """Delete and insert the most salient pixels; whether that was begun."""
        return self._begin_check(curves_of)

    def _begin_check(self, check: Any) -> bool:
        s, subject = self.state, self._subject()
        if subject is None or s.shown is None:
            return False
        device = self.session.state.device
        explainer = self._requests.explainer(subject, device, s.temperature)
        self._checks.begin(check, subject, s.shown, explainer, self._why)
        return True

    def cancel_check(self) -> None:
        """Stop testing the map; what was found stays."""
        self._checks.cancel()

    # ---------------------------------------------------------------- taking over

    @property
    def working(self) -> bool:
        """Whether :meth:`poll` has something to do."""
        return self._look.working or self._explain.working or self._checks.work.working

    def poll(self) -> bool:
        """Take over what the threads have done; whether they are still at work."""
        self._take_look()
        self._take_map()
        self._checks.take()
        return self.working

    def wait(self, timeout: float = 60.0) -> bool:
        """Block until the threads have ended, and take over; whether so. For scripts and tests."""
        ended = all(x.wait(timeout) for x in (self._look, self._explain, self._checks.work))
        self.poll()
        return ended

    def _take_look(self) -> None:
        while self._published:
            look = self._published.pop(0)
            if look.cell == self.state.cell:
                self._update(look=look)
        task = self._look.take()
        if task is not None and task.error and self.state.look is not None:
            self._update(look=self.state.look.failed(task.error), looking=False)
        elif task is not None:
            self._update(looking=False)

    def _take_map(self) -> None:
        task = self._explain.take()
        if task is None:
            if self.state.explaining:
                self._update(share=self._explain.share)
        elif task.result is None:
            self._update(explaining=False, problem=task.error or "")
        else:
            self._keep(task.result)

    def _keep(self, explained: Explained) -> None:
        s, shown = self.state, explained.shown
        assert s.maps is not None
        if not s.running:
            # While a run goes on the sample is of what has been run so far.
            self._memory.keep(s.maps, shown)
        self._update(shown=shown, layers=explained.layers, explaining=False, problem="")


_INSPECTORS: WeakKeyDictionary[Bridge, Inspector] = WeakKeyDictionary()


def inspector_of(bridge: Bridge) -> Inspector:
    """The inspector of a viewer, made on first use; it lives as long as the viewer."""
    if bridge not in _INSPECTORS:
        _INSPECTORS[bridge] = Inspector(bridge.session)
    return _INSPECTORS[bridge]
