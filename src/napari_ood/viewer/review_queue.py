"""The review queue: regions above a threshold, one after the other, and what is said of them.

No Qt, no napari; commands belong to the GUI's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from napari_ood.errors import ReviewError
from napari_ood.viewer.rematch import Given, by_region, rematch
from napari_ood.viewer.review_listing import Listing, place_of
from napari_ood.viewer.review_state import QueueState

if TYPE_CHECKING:
    from pathlib import Path

    from napari_ood.review.store import ReviewStore
    from napari_ood.review.verdicts import Artefact, Kind, Verdict

T = TypeVar("T")


class ReviewQueue(Listing):
    """Regions of the run that is shown in a session, and a reviewer's verdicts on them."""

    def judge(
        self, kind: Kind, *, label: str | None = None, artefact: Artefact | None = None
    ) -> None:
        """Give a verdict on the region at hand, save it, and go on to the next one."""
        if self.state.region is None:
            self._update(notice="First go to a region: press N or click on one.")
        elif self._save(kind, label, artefact, self.state.draft):
            self._go_on()

    def set_draft(self, text: str) -> None:
        """Take over the comment as it is being typed; a verdict brings it along."""
        self._update(draft=text)

    def keep_draft(self) -> None:
        """Save a comment that was typed: with the verdict there is, else as one of ‘skip’."""
        from napari_ood.review.verdicts import Kind

        if self.state.region is None or self.state.draft.strip() == self._comment():
            return
        given = self.state.verdict
        if given is None:
            self._save(Kind.SKIP, None, None, self.state.draft)
        else:
            self._save(given.kind, given.label, given.artefact, self.state.draft)

    def _save(self, kind: Kind, label: str | None, artefact: Artefact | None, comment: str) -> bool:
        from napari_ood.review.verdicts import Verdict

        s = self.state
        assert s.region is not None and s.found is not None and s.matches is not None
        try:
            verdict = Verdict.of(
                s.region, kind, reviewer=s.found.store.reviewer, label=label, artefact=artefact,
                comment=comment.strip(), threshold=s.found.query.level,
            )  # fmt: skip
        except ReviewError as error:
            self.failed.emit(str(error))
            return False
        self._write(lambda store: store.add(verdict))
        self._take_over({**s.given, verdict.key: verdict})
        self._update(draft=verdict.comment, notice=f"{_place(s)}: {verdict.category}.")
        return True

    def _take_over(self, given: Given) -> None:
        """Sort verdicts to the regions anew where they have changed."""
        s = self.state
        assert s.found is not None and s.matches is not None
        matches = rematch(s.matches, s.regions, s.found.owners, s.given, given)
        self._update(matches=matches, given=given)

    def undo(self) -> None:
        """Take back this reviewer's last verdict, also one of before a restart, and go there."""
        self._step_back(lambda store: store.undo(), "Undone", "Nothing to undo.")

    def redo(self) -> None:
        """Bring back what was undone last."""
        self._step_back(lambda store: store.redo(), "Redone", "Nothing to redo.")

    def _step_back(
        self, step: Callable[[ReviewStore], Verdict | None], word: str, nothing: str
    ) -> None:
        found = self.state.found
        if found is None:
            return
        # A comment that is being typed belongs to what is on screen now.
        self.keep_draft()
        saved, verdict = self._write(step)
        if saved and verdict is None:
            self._update(notice=nothing)
            return
        self._take_over(by_region(found.store.verdicts()))
        self._update(draft=self._comment())
        if verdict is None:
            return
        place = place_of(verdict, found)
        if place is None:
            self._update(notice=f"{word}: {verdict.category}, of a region that is not listed now.")
            return
        self.choose(place)
        self._update(notice=f"{word}: {_place(self.state)}, {verdict.category}.")

    def _write(self, step: Callable[[ReviewStore], T]) -> tuple[bool, T | None]:
        """Change the store; what the disk does not take counts all the same and is told."""
        found = self.state.found
        assert found is not None
        self._n_written += 1
        saved, result = False, None
        try:
            result = step(found.store)
            saved = True
        except ReviewError as error:
            self.failed.emit(str(error))
        self._update(unsaved=found.store.unsaved)
        return saved, result

    def save_again(self) -> None:
        """Try once more to save what the disk did not take."""
        if self.state.found is not None:
            self._write(lambda store: store.save())

    def save_to(self, folder: Path) -> None:
        """Go on in another folder, with all that was done so far."""
        found = self.state.found
        if found is None:
            return
        _, moved = self._write(lambda store: store.save_to(folder))
        if moved is not None:
            self._update(found=replace(found, store=moved), unsaved=moved.unsaved)
            self._update(notice=f"Saved in {moved.path}.")

    def reload(self) -> None:
        """Take over what was written to the review from elsewhere: an import, another window."""
        found = self.state.found
        if found is None:
            return
        try:
            found.store.refresh()
        except ReviewError as error:
            self.failed.emit(str(error))
            return
        self._n_written += 1
        self._take_over(by_region(found.store.verdicts()))
        if not self.state.draft:
            self._update(draft=self._comment())

    def close(self) -> None:
        """Save what was typed; look for nothing any more. May be called more than once."""
        self.keep_draft()
        self._wanted = None


def _place(state: QueueState) -> str:
    return f"{(state.current or 0) + 1} of {len(state.regions)}"
