"""Tests of the saliency map at hand, in a thread: random weights, deletion and insertion."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_ood.viewer.inspector_state import Randomised, Tested
from napari_ood.viewer.inspector_work import Subject
from napari_ood.viewer.latest import Latest

if TYPE_CHECKING:
    from napari_ood.explain.explainer import Explainer
    from napari_ood.viewer.inspector_state import Inspected, Shown
    from napari_ood.viewer.why import Why


class Checks:
    """What is found goes into the inspector's state.

    Parameters
    ----------
    state : returns the snapshot that holds now
    update : changes fields of it
    """

    def __init__(self, state: Callable[[], Inspected], update: Callable[..., None]) -> None:
        self._state, self._update = state, update
        self.work: Latest[Randomised | Tested] = Latest()

    def begin(
        self, check: Any, subject: Subject, shown: Shown, explainer: Explainer, why: Why
    ) -> None:
        """Start ``randomise`` or ``curves_of`` of a map."""
        self.work.ask(partial(check, subject, shown, explainer, why))
        self._update(checking=True, check_share=None, check_problem="")

    def cancel(self) -> None:
        """Stop; what was found stays."""
        self.work.drop()
        self._update(checking=False)

    def drop(self) -> None:
        """Stop, and forget what was found: the map is another."""
        self.work.drop()
        self._update(randomised=None, tested=None, checking=False, check_problem="")

    def take(self) -> None:
        """Take over what the thread has found."""
        task = self.work.take()
        if task is None:
            if self._state().checking:
                self._update(check_share=self.work.share)
        elif isinstance(task.result, Randomised):
            self._update(randomised=task.result, checking=False)
        elif isinstance(task.result, Tested):
            self._update(tested=task.result, checking=False)
        else:
            self._update(checking=False, check_problem=task.error or "")
