"""Read a cohort's folder: what its manifest and its runs say, row by row."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ood.board.cache import RowCache, stamp_of
from napari_ood.board.ongoing import state_of
from napari_ood.board.row import DONE, FAILED, MISSING, UNFINISHED, SlideRow
from napari_ood.cohort.earlier import all_records
from napari_ood.cohort.manifest import MANIFEST, read_manifest
from napari_ood.errors import BundleError, OodError, RunError, SlideError
from napari_ood.naming import RUN_SUFFIX, run_name
from napari_ood.slides.acquisition import Acquisition, acquisition_of, parse_date

if TYPE_CHECKING:
    from napari_ood.inference import Run
    from napari_ood.models import Bundle

THREADS = 2
"""Runs that are measured beside one another: reading waits, and numpy lets others go on."""

OnRow = Callable[[int, SlideRow], None]


@dataclass(frozen=True)
class Entry:
    """A slide before its run was looked at.

    Attributes
    ----------
    run : folder of the run
    slide : path, "" where only the run could tell
    record : what the manifest says; empty for a run that is in no manifest
    """

    run: Path
    slide: str
    record: Mapping[str, Any]


@dataclass(frozen=True)
class Board:
    """A cohort, slide by slide.

    Attributes
    ----------
    folder : of the cohort
    rows : as in the manifest, its last call first, then runs that it does not name, by name
    started, ended : of the cohort, ISO 8601 in UTC; None without a manifest, or while it goes on
    complete : whether all rows were read; False where reading was cancelled
    state : a sentence where the cohort went on, or was interrupted; else ""
    """

    folder: Path
    rows: tuple[SlideRow, ...]
    started: str | None = None
    ended: str | None = None
    complete: bool = True
    state: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        rows = [row.as_dict() for row in self.rows]
        return {"folder": str(self.folder), "started": self.started, "ended": self.ended,
                "complete": self.complete, "state": self.state, "slides": rows}  # fmt: skip


def read_board(
    folder: str | Path,
    on_row: OnRow | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Board:
    """Read the board of a cohort's folder, or of any folder that holds runs.

    What was measured before is taken from ``board.jsonl`` beside the manifest, unless the run has
    changed since. A slide that cannot be read keeps its row, with the error. Takes a moment per
    run the first time, and half a millisecond after.

    Parameters
    ----------
    folder : with ``cohort.json`` and runs
    on_row : called with the row's place and the row, first with all that the manifest says, then
        again for each run that was looked at; from this thread
    on_progress : called with (done, total) runs
    cancel : polled between runs; what was not read is as the manifest has it

    Raises
    ------
    RunError
        If the folder holds neither a manifest nor runs.
    """
    folder = Path(folder).expanduser().absolute()
    manifest, entries = list_entries(folder)
    rows = [row_of_entry(entry) for entry in entries]
    tell_row, stop = on_row or _nothing, cancel or _never
    for i, row in enumerate(rows):
        tell_row(i, row)
    reader = _Reader(RowCache(folder))
    done = 0
    for i, row in reader.read(entries, stop):
        rows[i] = row
        tell_row(i, row)
        done += 1
        if on_progress is not None:
            on_progress(done, len(rows))
    complete = done == len(rows)
    if complete:
        reader.cache.tidy(reader.used)
    times = manifest.get("started"), manifest.get("ended")
    return Board(folder, tuple(rows), *times, complete, state_of(folder, manifest))


def list_entries(folder: Path) -> tuple[dict[str, Any], list[Entry]]:
    """The manifest, {} for none, and the slides of it and of runs that it does not name.

    Raises
    ------
    RunError
        If there is neither.
    """
    manifest: dict[str, Any] = {}
    if (folder / MANIFEST).exists():
        manifest = read_manifest(folder)
    entries = [
        Entry(_found_run(folder, str(record["run"])), str(record["slide"]), record)
        for record in all_records(manifest)
    ]
    known = {entry.run.name for entry in entries}
    try:
        beside = sorted(p for p in folder.glob(f"*{RUN_SUFFIX}") if p.name not in known)
    except OSError as error:
        raise RunError(f"cannot read {folder}: {error.strerror or error}") from error
    entries += [Entry(path, "", {}) for path in beside]
    if not entries and not manifest:
        raise RunError(
            f"{folder} holds neither {MANIFEST} nor runs: choose the --out folder of "
            "napari-ood cohort or run"
        )
    return manifest, entries


def _found_run(folder: Path, recorded: str) -> Path:
    """A run beside its manifest, else where the manifest has it: folders are moved and copied."""
    beside = folder / Path(recorded.replace("\\", "/")).name
    return beside if beside.exists() else Path(recorded)


def row_of_entry(entry: Entry) -> SlideRow:
    """What the manifest alone says of a slide."""
    record = entry.record
    error = record.get("error")
    row = SlideRow(
        name=run_name(entry.run),
        slide=entry.slide,
        run=str(entry.run),
        outcome=_outcome(record),
        error=None if not error else str(error["message"]),
        n_tiles=int(record.get("n_tiles", 0)),
        n_total=record.get("n_total"),
    )
    return _with_list(row, record)


def _outcome(record: Mapping[str, Any]) -> str:
    outcome = record.get("outcome")
    return {"done": DONE, "failed": FAILED, "cancelled": UNFINISHED}.get(str(outcome), UNFINISHED)


def _with_list(row: SlideRow, record: Mapping[str, Any]) -> SlideRow:
    """What a list of slides said, over what files say: whoever wrote it down knew better."""
    listed = record.get("listed") or {}
    date = parse_date(str(listed.get("date", "")))
    return replace(
        row,
        scanner=listed.get("scanner") or row.scanner,
        group=listed.get("group") or row.group,
        date=date or row.date,
        date_source="the list of slides" if date else row.date_source,
    )


class _Reader:
    """Measures runs, or knows them from before."""

    def __init__(self, cache: RowCache) -> None:
        self.cache = cache
        self.used: set[str] = set()
        self._bundles: dict[str, tuple[Bundle | None, str]] = {}
        self._lock = threading.Lock()

    def read(
        self, entries: Iterable[Entry], stop: Callable[[], bool]
    ) -> Iterator[tuple[int, SlideRow]]:
        """Rows as they come, with their places."""
        with ThreadPoolExecutor(THREADS, "napari-ood board") as pool:
            tasks = {}
            for i, entry in enumerate(entries):
                if stop():
                    break
                known = self._known(entry)
                if known is not None:
                    yield i, known
                else:
                    tasks[pool.submit(self._measured, entry, stop)] = i
            for task in as_completed(tasks):
                row = task.result()
                if row is not None:
                    yield tasks[task], row

    def _known(self, entry: Entry) -> SlideRow | None:
        """The row as it was measured before; of a slide without run, what the manifest says."""
        record = _run_record(entry.run)
        if record is None:
            row = row_of_entry(entry)
            return row if row.outcome == FAILED or row.error else _lost(row)
        stamp = self._stamp(entry.run, record)
        row_before = self.cache.get(stamp) if stamp else None
        if stamp is None or row_before is None or row_before.outcome != DONE:
            return None
        self.used.add(stamp)
        return self._placed(row_before, entry, record)

    def _measured(self, entry: Entry, stop: Callable[[], bool]) -> SlideRow | None:
        if stop():
            return None
        try:
            return self._measure(entry)
        except OodError as error:
            return _with_error(row_of_entry(entry), str(error))
        except Exception as error:  # noqa: BLE001  one damaged run must not cost the board
            return _with_error(row_of_entry(entry), f"{type(error).__name__}: {error}")

    def _measure(self, entry: Entry) -> SlideRow:
        from napari_ood.board.measure import measure_run
        from napari_ood.inference import open_run

        run = open_run(entry.run)
        bundle, why_not = self._bundle(entry.run, run.provenance)
        row = _with_acquisition(measure_run(run, bundle, why_not), run)
        stamp = self._stamp(entry.run, run.provenance)
        if stamp is not None and row.outcome == DONE:
            self.cache.put(stamp, row)
            self.used.add(stamp)
        return self._placed(row, entry, run.provenance)

    def _placed(self, row: SlideRow, entry: Entry, record: Mapping[str, Any]) -> SlideRow:
        """A measured row with what it does not depend on: paths, the manifest, the list."""
        report = entry.run.with_name(f"{run_name(entry.run)}.report.html")
        told = row_of_entry(entry)
        failed = told.outcome == FAILED
        row = replace(
            row,
            name=told.name,
            run=str(entry.run),
            slide=entry.slide or str(record["slide"]["path"]),
            outcome=FAILED if failed else row.outcome,
            error=told.error if failed else row.error,
            report=str(report) if report.is_file() else None,
        )
        return _with_list(row, entry.record)

    def _stamp(self, run: Path, record: Mapping[str, Any]) -> str | None:
        found = self._bundle(run, record)[0]
        return stamp_of(run, _hash_of(record) if found is not None else "")

    def _bundle(self, run: Path, record: Mapping[str, Any]) -> tuple[Bundle | None, str]:
        """The bundle of a run, or why there is none; looked for once for all runs that it made."""
        from napari_ood.inference import open_run

        key = _hash_of(record)
        with self._lock:
            if key not in self._bundles:
                try:
                    opened = open_run(run)
                except RunError as error:  # of this run: others of the bundle may be well
                    return None, str(error)
                try:
                    self._bundles[key] = opened.bundle(), ""
                except (RunError, BundleError) as error:
                    # Told of every run that it made, not only of this one.
                    self._bundles[key] = None, str(error).replace(run.name, "it", 1)
            return self._bundles[key]


def _run_record(run: Path) -> dict[str, Any] | None:
    """A run's provenance, read without zarr; None where there is no run or it is damaged."""
    from napari_ood.inference.store import ATTRIBUTE

    try:
        record: dict[str, Any] = json.loads((run / "zarr.json").read_bytes())["attributes"][
            ATTRIBUTE
        ]
        record["bundle"]["hashes"], record["slide"]["path"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record


def _hash_of(record: Mapping[str, Any]) -> str:
    hashes = json.dumps(record["bundle"]["hashes"], sort_keys=True)
    return blake2b(hashes.encode(), digest_size=16).hexdigest()


def _with_acquisition(row: SlideRow, run: Run) -> SlideRow:
    """Scanner and date as the run recorded them; runs of before do not, then the slide is asked."""
    slide = run.provenance["slide"]
    recorded = slide.get("acquisition")
    objective = row.objective
    if recorded is not None:
        found = Acquisition.from_dict(recorded)
    else:
        from napari_ood.slides import open_slide

        try:
            with open_slide(slide["path"]) as opened:
                found, objective = acquisition_of(opened), opened.objective
        except SlideError:
            vendor = str(slide.get("vendor") or "")
            found = Acquisition(None if vendor in ("", "generic", "dicom") else vendor)
    return replace(row, scanner=found.scanner, date=found.date, date_source=found.date_source,
                   objective=objective)  # fmt: skip


def _with_error(row: SlideRow, error: str) -> SlideRow:
    return replace(row, outcome=FAILED, error=row.error or " ".join(error.split()))


def _lost(row: SlideRow) -> SlideRow:
    if row.outcome == UNFINISHED:
        return replace(row, outcome=MISSING, error="it was not begun: run the cohort again")
    return replace(row, outcome=MISSING, error=f"its run is not at {row.run} any more")


def _nothing(i: int, row: SlideRow) -> None:
    pass


def _never() -> bool:
    return False
