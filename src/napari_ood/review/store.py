"""A review on disk: one folder per run, one file of JSON lines per reviewer.

Every verdict is a line, on the disk before ``add`` returns. Undo and redo are lines as well, so
they work across restarts and nothing is ever taken out of a file.
"""

from __future__ import annotations

import errno
import threading
import unicodedata
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_ood.errors import ReviewError
from napari_ood.review.fold import Entry, Fold
from napari_ood.review.journal import Journal, Record
from napari_ood.review.matching import Matches, match_verdicts
from napari_ood.review.places import file_name, reviewer_key
from napari_ood.review.verdicts import Verdict

if TYPE_CHECKING:
    from napari_ood.analysis.regions import Region

VERSION = 1


class ReviewStore:
    """Verdicts of all reviewers of a run; new ones are those of one reviewer.

    Several stores may be open on one folder, also for the same reviewer; one store may be used from
    several threads. Nothing is written before the first verdict.

    Parameters
    ----------
    path : folder, see :func:`review_folder`
    run_identity : str, see :func:`run_identity`
    reviewer : name, as it is shown; upper and lower case and spaces at the ends don't count

    Raises
    ------
    ReviewError
        If the reviewer has no name; if the folder holds the review of another run, or one that a
        newer version wrote; if it can't be read.
    """

    def __init__(self, path: str | Path, run_identity: str, reviewer: str) -> None:
        self.path = Path(path)
        self.run_identity = run_identity
        self.reviewer = " ".join(unicodedata.normalize("NFC", reviewer).split())
        if not self.reviewer:
            raise ReviewError("a review needs the reviewer's name: enter yours")
        self._lock = threading.RLock()
        self._verdicts: dict[str, Verdict] = {}
        self._own = Journal(self.path / file_name(self.reviewer), self._check)
        self._journals = {self._own.path: self._own}
        self._unsaved: list[Record] = []
        self.refresh()

    @property
    def unsaved(self) -> int:
        """Number of verdicts, undos and redos that the disk did not take; kept in memory."""
        return len(self._unsaved)

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user should know about the files: lines that a crash has cut off."""
        return tuple(
            f"{journal.path.name}: {n} line{'s' if n > 1 else ''} cut off when a program was "
            "stopped or the disk was full; left in the file and not used"
            for journal in self._journals.values()
            if (n := len(journal.damaged) + (journal.torn is not None))
        )

    def refresh(self) -> None:
        """Read what other windows and reviewers have added.

        Raises
        ------
        ReviewError
            As the constructor.
        """
        try:
            found = sorted(path for path in self.path.iterdir() if path.suffix == ".jsonl")
        except FileNotFoundError:
            found = []
        except OSError as error:
            raise ReviewError(
                f"cannot read {self.path} ({error.strerror or error}): choose another folder"
            ) from error
        with self._lock:
            for path in found:
                self._journals.setdefault(path, Journal(path, self._check))
            for journal in self._journals.values():
                journal.refresh()

    def add(self, verdict: Verdict) -> None:
        """Save a verdict; when this returns, it is on the disk.

        Raises
        ------
        ReviewError
            If it could not be saved. It counts all the same, is kept in memory, and saved by the
            next call or by :meth:`save`.
        ValueError
            If the verdict is another reviewer's.
        """
        if reviewer_key(verdict.reviewer) != reviewer_key(self.reviewer):
            raise ValueError(
                f"a verdict of {verdict.reviewer!r} in the review of {self.reviewer!r}"
            )
        self._write({"verdict": verdict.as_dict()})

    def undo(self) -> Verdict | None:
        """Take back this reviewer's last verdict, also one of before a restart; None if none.

        An earlier verdict on the same region counts again.

        Raises
        ------
        ReviewError
            As :meth:`add`.
        """
        return self._step("undo", lambda fold: fold.done)

    def redo(self) -> Verdict | None:
        """Bring back what was undone last, if no verdict was given since; None if nothing was.

        Raises
        ------
        ReviewError
            As :meth:`add`.
        """
        return self._step("redo", lambda fold: fold.undone)

    def _step(self, kind: str, entries_of: Callable[[Fold], list[Entry]]) -> Verdict | None:
        """Move this reviewer's last entry from one list to the other."""
        with self._lock:
            self.refresh()
            entries = entries_of(self._fold(self.reviewer))
            if not entries:
                return None
            last, verdict = entries[-1]
            self._write({kind: last})
            return verdict

    def save(self) -> None:
        """Try again to save what the disk did not take.

        Raises
        ------
        ReviewError
            If it still doesn't.
        """
        with self._lock:
            self.refresh()  # fails, before anything is written, if the file is no longer ours
            while self._unsaved:
                try:
                    self._own.append(self._unsaved[0])
                except OSError as error:
                    raise self._not_saved(error) from error
                self._own.refresh()  # before it leaves the other list: it is always in one
                del self._unsaved[0]

    def save_to(self, folder: str | Path) -> ReviewStore:
        """Copy all that this reviewer did, saved or not, to another folder; go on there.

        Raises
        ------
        ReviewError
            If that can't be written either, or belongs to another run.
        """
        other = ReviewStore(folder, self.run_identity, self.reviewer)
        there = {record["id"] for record in other._records(self.reviewer)}
        other._unsaved = [r for r in self._records(self.reviewer) if r["id"] not in there]
        other.save()
        return other

    def verdicts(self) -> tuple[Verdict, ...]:
        """This reviewer's latest verdict on each region, in the order they were given."""
        return self._fold(self.reviewer).latest()

    def all_verdicts(self) -> Mapping[str, tuple[Verdict, ...]]:
        """Each reviewer's latest verdict on each region; reviewers by name.

        Reads anew what others have added.

        Raises
        ------
        ReviewError
            As the constructor.
        """
        self.refresh()
        names = {reviewer_key(r["reviewer"]): r["reviewer"] for r in reversed(self._all_records())}
        verdicts = {name: self._fold(name).latest() for name in sorted(names.values())}
        return {name: given for name, given in verdicts.items() if given}

    def match(self, regions: Sequence[Region]) -> Matches:
        """Sort this reviewer's verdicts to regions, see :func:`match_verdicts`."""
        return match_verdicts(regions, self.verdicts())

    def progress(self, regions: Sequence[Region]) -> tuple[int, int]:
        """How many of these regions this reviewer has judged or skipped, and how many there are."""
        matches = self.match(regions)
        return sum(map(matches.done, regions)), len(regions)

    def _write(self, content: Record) -> None:
        record = {
            "version": VERSION,
            "run": self.run_identity,
            "reviewer": self.reviewer,
            "id": uuid.uuid4().hex,
            **content,
        }
        with self._lock:
            self._check(record)
            self._unsaved.append(record)
            self.save()

    def _not_saved(self, error: OSError) -> ReviewError:
        n = self.unsaved
        kept = f"{n} change{'s are' if n > 1 else ' is'} kept in this window"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return ReviewError(
                f"the disk of {self.path} is full, {kept}: free space and save again"
            )
        return ReviewError(
            f"cannot save in {self.path} ({error.strerror or error}), {kept}: make the folder "
            "writable and save again, or choose another folder"
        )

    def _check(self, record: Record) -> None:
        """Refuse what belongs to another run or can't be read; keep the verdict for later."""
        names = (record.get(key) for key in ("run", "reviewer", "id"))
        if record.get("version") != VERSION or not all(isinstance(name, str) for name in names):
            raise ReviewError(
                f"{self.path} has a review that this napari-ood cannot read: update napari-ood, or "
                "choose another folder"
            )
        if record["run"] != self.run_identity:
            raise ReviewError(
                f"{self.path} has the review of another run (other slide, bundle or tiles): choose "
                "another folder, or open that run"
            )
        if "verdict" in record:
            self._verdicts[record["id"]] = Verdict.from_dict(record["verdict"])

    def _all_records(self) -> list[Record]:
        with self._lock:
            saved = [r for journal in self._journals.values() for r in journal.records]
            return saved + self._unsaved

    def _records(self, reviewer: str) -> list[Record]:
        """What a reviewer did, each thing once, also where a file was copied beside itself."""
        of_reviewer = (
            r for r in self._all_records() if reviewer_key(r["reviewer"]) == reviewer_key(reviewer)
        )
        return list({record["id"]: record for record in of_reviewer}.values())

    def _fold(self, reviewer: str) -> Fold:
        return Fold(self._records(reviewer), self._verdicts)
