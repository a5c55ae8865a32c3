"""What a reviewer's records come to, undone and redone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from napari_ood.review.journal import Record
from napari_ood.review.verdicts import Verdict

Entry = tuple[str, Verdict]
"""A record's id and the verdict it gave."""


class Fold:
    """What a reviewer's records come to: verdicts that count and those that were undone."""

    def __init__(self, records: Iterable[Record], verdicts: Mapping[str, Verdict]) -> None:
        self.done: list[Entry] = []
        self.undone: list[Entry] = []
        for record in records:
            if "verdict" in record:
                self.done.append((record["id"], verdicts[record["id"]]))
                self.undone.clear()
            elif "undo" in record:
                _move(record["undo"], self.done, self.undone)
            elif "redo" in record:
                _move(record["redo"], self.undone, self.done)

    def latest(self) -> tuple[Verdict, ...]:
        """The last verdict on each region, in the order they were given."""
        by_region: dict[str, Verdict] = {}
        for _, verdict in self.done:
            by_region.pop(verdict.region_key, None)
            by_region[verdict.region_key] = verdict
        return tuple(by_region.values())


def _move(record_id: str, source: list[Entry], target: list[Entry]) -> None:
    """Move an entry; two windows that undid the same verdict at once undo it once."""
    for i, entry in enumerate(source):
        if entry[0] == record_id:
            target.append(source.pop(i))
            return
