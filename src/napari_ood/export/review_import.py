"""A reviewer's work in QuPath into the review of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from napari_ood.errors import ReviewError
from napari_ood.export.importing import read_for_run, scored_run
from napari_ood.export.verdict_import import as_verdicts
from napari_ood.review import ReviewStore, Verdict, review_folder, run_identity
from napari_ood.review.places import reviewer_key

if TYPE_CHECKING:
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.slides import Slide


@dataclass(frozen=True)
class Conflict:
    """A verdict of the file and another one of the same reviewer on the same region.

    Attributes
    ----------
    stored, imported : Verdict
    replaced : whether the imported one counts now, because it is the later one
    """

    stored: Verdict
    imported: Verdict
    replaced: bool

    @property
    def words(self) -> str:
        """One line for the user."""
        outcome = "is later and counts now" if self.replaced else "is not later and was left out"
        return (
            f"region {self.stored.region_key} of {self.stored.reviewer}: stored "
            f"“{_told(self.stored)}”; the file's “{_told(self.imported)}” {outcome}"
        )


@dataclass(frozen=True)
class ImportSummary:
    """What an import did.

    Attributes
    ----------
    folder : of the review
    added : verdicts that are new in the review, those that replaced others among them
    n_known : verdicts of the file that the review had already
    conflicts : verdicts that differ from stored ones
    passed_over : objects of the file that are no verdict, with the reason
    notes : what the user should know besides
    """

    folder: Path
    added: tuple[Verdict, ...]
    n_known: int
    conflicts: tuple[Conflict, ...] = ()
    passed_over: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def per_reviewer(self) -> dict[str, int]:
        """Reviewer → how many of their verdicts were added."""
        return dict(Counter(verdict.reviewer for verdict in self.added))

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "review": str(self.folder),
            "n_added": len(self.added),
            "n_added_per_reviewer": self.per_reviewer,
            "n_known": self.n_known,
            "conflicts": [
                {
                    "stored": conflict.stored.as_dict(),
                    "imported": conflict.imported.as_dict(),
                    "replaced": conflict.replaced,
                }
                for conflict in self.conflicts
            ],
            "passed_over": list(self.passed_over),
            "notes": list(self.notes),
        }

    @property
    def words(self) -> str:
        """One line: how many verdicts were added, known, in conflict, passed over."""
        kept = sum(not conflict.replaced for conflict in self.conflicts)
        parts = [f"{len(self.added):,} verdict{'s' * (len(self.added) != 1)} added"]
        if self.n_known:
            parts.append(f"{self.n_known:,} known already")
        if kept:
            parts.append(f"{kept:,} left out for later ones in the review")
        if self.passed_over:
            n = len(self.passed_over)
            parts.append(f"{n:,} object{'s' * (n != 1)} passed over")
        return ", ".join(parts)


def import_review(
    path: str | Path,
    run: ScoredRun | str | Path,
    reviewer: str | None = None,
    *,
    review: str | Path | None = None,
    slide: Slide | None = None,
    crop: bool = True,
) -> ImportSummary:
    """Add the verdicts of a GeoJSON file to the review of a run.

    A file may be imported any number of times: what the review has already is not added again.
    Where the same reviewer has said something else about the same region, the later one counts; a
    verdict that was drawn or changed in QuPath is as old as the file. Nothing is taken out of the
    review: what was replaced comes back by undo.

    Parameters
    ----------
    path : GeoJSON that QuPath or we wrote
    run : ScoredRun, or the run's folder
    reviewer : who drew or changed it in QuPath; needed unless all were exported by us. Exported
        verdicts that were not changed stay whose they were.
    review : folder of the review; by default the one beside the run
    slide, crop : where the file counts from, see ``read_for_run``

    Raises
    ------
    ExportError
        If the file cannot be read, is of another slide, or has no verdict.
    RunError, ReviewError
        If run or review cannot be read, or a verdict cannot be saved.
    """
    scored = scored_run(run)
    found, notes = read_for_run(path, scored, slide, crop)
    read = as_verdicts(found.annotations, scored, reviewer, _written(Path(path)))
    folder = review_folder(scored.run.path) if review is None else Path(review)
    importer = _Importer(folder, run_identity(scored.run))
    try:
        importer.add(read.verdicts)
    except ReviewError as error:
        raise ReviewError(
            f"{error}; {len(importer.added):,} verdicts were saved before, and importing again "
            "adds the others"
        ) from error
    return ImportSummary(
        folder,
        tuple(importer.added),
        importer.n_known,
        tuple(importer.conflicts),
        (*found.passed_over, *read.passed_over),
        notes,
    )


@dataclass
class _Given:
    """A reviewer's store, and what is in it by region and by tiles."""

    store: ReviewStore
    by_region: dict[str, Verdict]
    by_tiles: dict[bytes, Verdict]

    @classmethod
    def of(cls, store: ReviewStore) -> Self:
        given = cls(store, {}, {})
        for verdict in store.verdicts():
            given.note(verdict)
        return given

    def note(self, verdict: Verdict) -> None:
        self.by_region[verdict.region_key] = verdict
        self.by_tiles[verdict.cells.tobytes()] = verdict

    def counterpart(self, verdict: Verdict) -> Verdict | None:
        """The verdict on the same region: another score or temperature may have moved its peak."""
        stored = self.by_region.get(verdict.region_key)
        return stored or self.by_tiles.get(verdict.cells.tobytes())


class _Importer:
    def __init__(self, folder: Path, identity: str) -> None:
        self._folder, self._identity = folder, identity
        self._given: dict[str, _Given] = {}
        self.added: list[Verdict] = []
        self.conflicts: list[Conflict] = []
        self.n_known = 0

    def add(self, verdicts: Iterable[Verdict]) -> None:
        for verdict in verdicts:
            given = self._of(verdict.reviewer)
            stored = given.counterpart(verdict)
            if stored is not None and _said(stored) == _said(verdict):
                self.n_known += 1
                continue
            later = stored is None or verdict.time > stored.time
            if stored is not None:
                self.conflicts.append(Conflict(stored, verdict, later))
            if later:
                given.store.add(verdict)
                given.note(verdict)
                self.added.append(verdict)

    def _of(self, reviewer: str) -> _Given:
        key = reviewer_key(reviewer)
        if key not in self._given:
            self._given[key] = _Given.of(ReviewStore(self._folder, self._identity, reviewer))
        return self._given[key]


def _said(verdict: Verdict) -> tuple[object, ...]:
    """What makes two verdicts the same, whenever they were given."""
    return verdict.kind, verdict.label, verdict.artefact, verdict.comment, verdict.tiles


def _told(verdict: Verdict) -> str:
    return verdict.category + (f" ({verdict.comment})" if verdict.comment else "")


def _written(path: Path) -> str:
    """When a file was written, in UTC, but not in the future; ISO 8601."""
    moment = min(datetime.fromtimestamp(path.stat().st_mtime, UTC), datetime.now(UTC))
    return moment.isoformat(timespec="milliseconds")
