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

from napari_ood.viewer.inspector_memory import Memory
from napari_ood.viewer.inspector_saliency import Explaining
from napari_ood.viewer.inspector_state import Cell, Inspected, Look, Tab
from napari_ood.viewer.inspector_tiles import cells_of_box, most_foreign, next_cell
from napari_ood.viewer.inspector_work import Subject, curves_of, look_at, randomise
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
NOT_A_NUMBER = (
    "The network's answer for this tile is not a number, so there is nothing to explain: its "
    "weights overflow. Run the slide on the CPU, or train the bundle again."
)


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
        self._memory = Memory()
        self._saliency = Explaining(
            self._why, self._memory, lambda: self.state, self._update, self._subject,
            lambda: session.state.device,
        )  # fmt: skip

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
        self._look.drop()
        self._saliency.stop()
        self._published.clear()
        self._update(
            look=None, looking=False, shown=None, explaining=False, problem="",
            randomised=None, tested=None, checking=False, check_problem="",
        )  # fmt: skip

    def stop(self) -> None:
        """Work on nothing and free the network; what was found stays. Nobody looks any more."""
        self._look.drop()
        self._saliency.stop()
        self._saliency.free()
        self._update(looking=False, explaining=False, checking=False)

    def resume(self) -> None:
        """Go on with what was stopped: somebody looks again."""
        look = self.state.look
        if look is not None and not self.state.looking and not look.complete:
            self.look_again()
        self._saliency.follow()

    # ---------------------------------------------------------------- choosing tiles

    def select(self, cell: Cell | None) -> bool:
        """Look at a tile; whether there is one. None is a point beside the grid of tiles."""
        maps = self.state.maps
        if maps is None or cell is None or maps.prediction[cell] == NO_TILE:
            self._update(note=self._why_not(cell))
            return False
        self._choose((cell,))
        return True

    def _why_not(self, cell: Cell | None) -> str:
        """Why there is nothing to look at; cell None: beside the grid."""
        maps = self.state.maps
        if maps is None:
            return ""
        scored = self.session.scored(maps) if cell is not None else None
        answered = scored is not None and bool(scored.run.done[cell])
        return NOT_A_NUMBER if answered else NO_TILE_THERE

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
            self._saliency.leave()
            self._memory.choose(maps, cells)
            shown = self._saliency.remembered(maps, cells)
            self._update(cells=cells, note="", problem="", explaining=False, shown=shown)
            self.look_again()
        self._update(note="")
        self._saliency.follow()

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
        self._saliency.follow()

    def set_following(self, following: bool) -> None:
        """Explain each chosen tile while saliency is looked at, if the method is fast."""
        self._update(following=following)
        self._saliency.follow()

    def wish(self, **changes: Any) -> None:
        """Ask for another ``method``, ``target`` or ``layer``."""
        self._saliency.wish(**changes)

    def methods(self) -> dict[str, Method]:
        """Saliency methods by name."""
        return self._saliency.methods()

    def explain(self) -> bool:
        """Make the map that is asked for, of the chosen tiles; whether that was begun."""
        return self._saliency.begin()

    def cancel(self) -> None:
        """Stop making the map; the tile stays chosen."""
        self._saliency.cancel()

    def randomise(self) -> bool:
        """Compare the map with that of random weights; whether that was begun."""
        return self._saliency.check(randomise)

    def test(self) -> bool:
        """Delete and insert the most salient pixels; whether that was begun."""
        return self._saliency.check(curves_of)

    def cancel_check(self) -> None:
        """Stop testing the map; what was found stays."""
        self._saliency.cancel_check()

    # ---------------------------------------------------------------- taking over

    @property
    def working(self) -> bool:
        """Whether :meth:`poll` has something to do."""
        return self._look.working or self._saliency.working

    def poll(self) -> bool:
        """Take over what the threads have done; whether they are still at work."""
        self._take_look()
        self._saliency.take()
        return self.working

    def wait(self, timeout: float = 60.0) -> bool:
        """Block until the threads have ended, and take over; whether so. For scripts and tests."""
        ended = self._look.wait(timeout) and self._saliency.wait(timeout)
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


_INSPECTORS: WeakKeyDictionary[Bridge, Inspector] = WeakKeyDictionary()


def inspector_of(bridge: Bridge) -> Inspector:
    """The inspector of a viewer, made on first use; it lives as long as the viewer."""
    if bridge not in _INSPECTORS:
        _INSPECTORS[bridge] = Inspector(bridge.session)
    return _INSPECTORS[bridge]
