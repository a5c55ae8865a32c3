"""Which two runs are compared and what came of it. No Qt, no napari: docks come and go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from psygnal import Signal

from napari_ood.analysis.diverging import By, Divergence, diverging_regions
from napari_ood.errors import RunError
from napari_ood.naming import RUN_SUFFIX, run_name
from napari_ood.viewer.output import default_folder
from napari_ood.viewer.places import Places, diverging_places
from napari_ood.viewer.task import Task

if TYPE_CHECKING:
    from napari_ood.analysis.difference import RunDifference
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.viewer.bridge import Bridge
    from napari_ood.viewer.maps import Maps
    from napari_ood.viewer.state import State

ROLES = ("ood", "uncertainty")
"""Scores that are offered before two runs have been read."""
MOST_CANDIDATES = 50


@dataclass(frozen=True)
class Compared:
    """What came of comparing two runs."""

    difference: RunDifference
    regions: dict[By, tuple[Divergence, ...]]
    scores: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """One snapshot: the two runs, the score, and the outcome so far.

    ``by_hand``: the user has chosen the runs, so that no others are suggested any more.
    """

    a: Path | None = None
    b: Path | None = None
    score: str = ROLES[0]
    by: By = By.SCORE
    copies: bool = False
    by_hand: bool = False
    busy: bool = False
    compared: Compared | None = None
    error: str = ""
    opened: tuple[Path, ...] = field(default=())

    @property
    def why_not(self) -> str:
        """Why these two cannot be compared yet; empty when they can."""
        if self.a is None or self.b is None:
            return "Choose two runs of one slide."
        if self.a == self.b:
            return "A and B are the same run: choose another one."
        return ""

    @property
    def regions(self) -> tuple[Divergence, ...]:
        """Regions of the kind that is looked at, the worst first."""
        return self.compared.regions[self.by] if self.compared else ()


class Comparison:
    """State and commands of the dock *OOD compare runs*; lives as long as its viewer.

    Signals
    -------
    changed(new, old) : after every change of ``choice``
    """

    changed = Signal(object, object)

    def __init__(self) -> None:
        self.choice = Choice()
        self._task: Task[Compared] | None = None
        self._runs: dict[Path, ScoredRun] = {}
        self._places: Task[Places] | None = None

    def _update(self, **changes: Any) -> None:
        old, self.choice = self.choice, replace(self.choice, **changes)
        self.changed.emit(self.choice, old)

    def choose(self, a: Path | None = None, b: Path | None = None) -> None:
        """Choose run A, run B, or both; what was compared before is forgotten."""
        if self.choice.busy:
            return
        old = self.choice
        self._update(a=a or old.a, b=b or old.b, by_hand=True, compared=None, error="")

    def suggest(self, a: Path, b: Path) -> None:
        """Choose runs for the user, who has not chosen any."""
        old = self.choice
        if not (old.by_hand or old.busy or old.compared or (old.a, old.b) == (a, b)):
            self._update(a=a, b=b, error="")

    def open(self, path: Path) -> None:
        """Add a run to those that are offered."""
        if path not in self.choice.opened:
            self._update(opened=(*self.choice.opened, path))

    def swap(self) -> None:
        """Exchange A and B."""
        self.choose(self.choice.b, self.choice.a)

    def set_by(self, by: By) -> None:
        """Look at regions that differ in score, or in class."""
        self._update(by=By(by))

    def set_copies(self, copies: bool) -> None:
        """Whether one slide may be a changed copy of the other."""
        self._update(copies=copies, error="")

    def set_score(self, score: str) -> None:
        """Compare another score, at once where two runs have been compared."""
        if score != self.choice.score and not self.choice.busy:
            again = self.choice.compared is not None
            self._update(score=score)
            if again:
                self.start()

    def start(self) -> None:
        """Compare the chosen runs in a thread."""
        choice = self.choice
        if choice.busy or choice.why_not:
            return
        self._update(busy=True, error="")
        self._task = Task(lambda task: self._compare(choice))

    def poll(self) -> bool:
        """Take over what the thread has done; whether it is still working."""
        task = self._task
        if task is None or task.alive:
            return task is not None
        self._task = None
        self._update(busy=False, compared=task.result, error=task.error or "")
        return False

    def find_places(self, maps: Maps) -> None:
        """Put the places that are listed on the grid of the run that is on screen, in a thread."""
        choice = self.choice
        if choice.compared is not None and self._places is None:
            difference, regions = choice.compared.difference, choice.regions
            self._places = Task(lambda task: diverging_places(difference, regions, choice.by, maps))

    def take_places(self) -> tuple[Places | None, str] | None:
        """The places, or what is wrong, once they were found; None before."""
        task = self._places
        if task is None or task.alive:
            return None
        self._places = None
        return task.result, task.error or ""

    @property
    def finding_places(self) -> bool:
        """Whether places are being looked for."""
        return self._places is not None

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the thread has ended; whether it has. For scripts and tests."""
        return self._task is None or self._task.wait(timeout)

    def _compare(self, choice: Choice) -> Compared:
        from napari_ood.analysis.difference import compare_runs

        assert choice.a is not None and choice.b is not None
        a, b = (self._scored(path) for path in (choice.a, choice.b))
        self._runs = {choice.a: a, choice.b: b}
        difference = compare_runs(a, b, choice.score, copies=choice.copies)
        # Asked for here, so that the window does not have to compute it.
        _ = difference.correlation, difference.agreement
        regions = {by: diverging_regions(difference, by) for by in By}
        roles = tuple(r for r in a.roles if r in b.roles)
        names = tuple(n for n in a.names() if n in b.names() and n not in map(a.roles.get, roles))
        return Compared(difference, regions, (*roles, *names))

    def _scored(self, path: Path) -> ScoredRun:
        from napari_ood.analysis.scored import ScoredRun
        from napari_ood.inference import open_run

        return self._runs.get(path) or ScoredRun(open_run(path))


def candidates(state: State, extra: Iterable[Path | None]) -> tuple[Path, ...]:
    """Stored runs to choose from: those on screen, those beside the slide, those opened by hand."""
    shown = [r.maps.path for r in state.results if r.maps.path is not None]
    folders = [state.folder, *(p.parent for p in shown)]
    names: tuple[str, ...] = tuple(run_name(p) for p in shown)
    if state.slide is not None:
        folders.append(default_folder(state.slide.path))
        names = (*names, state.slide.name)
    beside = [
        path
        for folder in dict.fromkeys(f.absolute() for f in folders if f is not None)
        for path in sorted(folder.glob(f"*{RUN_SUFFIX}"), key=lambda p: (len(p.name), p.name))
        if path.name.startswith(names)
    ]
    found = [*shown, *beside[:MOST_CANDIDATES], *(p for p in extra if p is not None)]
    return tuple(dict.fromkeys(path.absolute() for path in found))


def describe_run(path: Path) -> str:
    """Name and bundle of a stored run; its name alone where that cannot be read."""
    from napari_ood.inference.store import ATTRIBUTE, open_group

    name = run_name(path)
    try:
        record: Any = open_group(path).attrs[ATTRIBUTE]
    except RunError:
        return name
    return f"{name} · {record['bundle']['name']}"


_COMPARISONS: WeakKeyDictionary[Bridge, Comparison] = WeakKeyDictionary()


def comparison_of(bridge: Bridge) -> Comparison:
    """The comparison of a viewer, made on first use; it lives as long as the viewer."""
    return _COMPARISONS.setdefault(bridge, Comparison())
