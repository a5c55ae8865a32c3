"""Saliency maps of the chosen tiles and tests of them: what is made, kept, and taken over. No Qt.

Part of the inspector's state; it knows which tiles are chosen, not how they were.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_ood.viewer.inspector_checks import Checks
from napari_ood.viewer.inspector_memory import Memory
from napari_ood.viewer.inspector_request import Requests
from napari_ood.viewer.inspector_state import Inspected, Shown, Tab
from napari_ood.viewer.inspector_work import Explained, Subject
from napari_ood.viewer.latest import Latest

if TYPE_CHECKING:
    from napari_ood.explain.methods import Method
    from napari_ood.viewer.inspector_state import Cell
    from napari_ood.viewer.maps import Maps
    from napari_ood.viewer.why import Why


class Explaining:
    """Makes the map that is wished for, remembers it, and tests it.

    Parameters
    ----------
    why : who answers
    memory : of the maps that were made
    state : returns the snapshot that holds now
    update : changes fields of it
    subject : returns the run that the chosen tiles are of, None where there is none
    device : returns where the network runs
    """

    def __init__(
        self,
        why: Why,
        memory: Memory,
        state: Callable[[], Inspected],
        update: Callable[..., None],
        subject: Callable[[], Subject | None],
        device: Callable[[], str],
    ) -> None:
        self._why, self._memory = why, memory
        self._state, self._update, self._subject, self._device = state, update, subject, device
        self._requests = Requests(why)
        self._work: Latest[Explained] = Latest()
        self._checks = Checks(state, update)

    # ---------------------------------------------------------------- which map

    def methods(self) -> dict[str, Method]:
        """Saliency methods by name."""
        return self._requests.methods()

    def wish(self, **changes: Any) -> None:
        """Ask for another ``method``, ``target`` or ``layer``."""
        s = self._state()
        wished = self._requests.possible(replace(s.wish, **changes))
        if wished == s.wish:
            return
        self.leave()
        shown = self._memory.shown(s.maps, s.cells, wished)
        self._update(wish=wished, shown=shown, explaining=False, problem="")
        self.follow()

    def remembered(self, maps: Maps, cells: tuple[Cell, ...]) -> Shown | None:
        """The map of these tiles that was made before, as it is wished for now."""
        return self._memory.shown(maps, cells, self._state().wish)

    def follow(self) -> None:
        """Make the map if tiles are followed, saliency is looked at, and the method is fast."""
        s = self._state()
        wanted = s.following and s.tab is Tab.SALIENCY and s.cells and s.shown is None
        if wanted and not s.explaining and not self.methods()[s.wish.method].slow:
            self.begin()

    def begin(self) -> bool:
        """Make the map that is wished for, of the chosen tiles; whether that was begun."""
        s, subject = self._state(), self._subject()
        if subject is None or not s.cells:
            return False
        problem = self._requests.why_not(s, subject)
        if problem:
            self._update(problem=problem)
            return False
        limit = self._memory.limit(subject.maps, s.wish, self._requests.target_of(s))
        self._checks.drop()
        self._work.ask(self._requests.work(s, subject, self._device(), limit))
        self._update(explaining=True, share=None, problem="")
        return True

    def cancel(self) -> None:
        """Stop making the map; the tiles stay chosen."""
        self._work.drop()
        self._update(explaining=False)

    # ---------------------------------------------------------------- is it to be trusted?

    def check(self, how: Any) -> bool:
        """Start ``randomise`` or ``curves_of`` of the map at hand; whether that was begun."""
        s, subject = self._state(), self._subject()
        if subject is None or s.shown is None:
            return False
        explainer = self._requests.explainer(subject, self._device(), s.temperature)
        self._checks.begin(how, subject, s.shown, explainer, self._why)
        return True

    def cancel_check(self) -> None:
        """Stop testing the map; what was found stays."""
        self._checks.cancel()

    # ---------------------------------------------------------------- leaving, taking over

    def leave(self) -> None:
        """Stop for another map; what was found about the last one is forgotten."""
        self._work.drop()
        self._checks.drop()

    def stop(self) -> None:
        """Work on nothing; what was found stays."""
        self._work.drop()
        self._checks.work.drop()

    def free(self) -> None:
        """Let the network go."""
        self._requests.free()

    @property
    def working(self) -> bool:
        """Whether :meth:`take` has something to do."""
        return self._work.working or self._checks.work.working

    def take(self) -> None:
        """Take over what the threads have done."""
        self._take_map()
        self._checks.take()

    def wait(self, timeout: float) -> bool:
        """Block until the threads have ended; whether so."""
        ended = [x.wait(timeout) for x in (self._work, self._checks.work)]
        return all(ended)

    def _take_map(self) -> None:
        task = self._work.take()
        if task is None:
            if self._state().explaining:
                self._update(share=self._work.share)
        elif task.result is None:
            self._update(explaining=False, problem=task.error or "")
        else:
            self._keep(task.result)

    def _keep(self, explained: Explained) -> None:
        s, shown = self._state(), explained.shown
        assert s.maps is not None
        if not s.running:
            # While a run goes on the sample is of what has been run so far.
            self._memory.keep(s.maps, shown)
        self._update(shown=shown, layers=explained.layers, explaining=False, problem="")
