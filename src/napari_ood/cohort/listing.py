"""Which slides are meant: files, folders of slides, and lists with what is known of each."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_ood.errors import OodError
from napari_ood.naming import RUN_SUFFIX
from napari_ood.samples.truth import SUFFIX as TRUTH
from napari_ood.slides.acquisition import parse_date

LIST_SUFFIXES = (".csv", ".tsv", ".txt")
FACTS = ("scanner", "date", "group")
"""Columns of a list that are kept beside the slide."""
PATH_COLUMNS = ("slide", "path")
SLIDE_SUFFIXES = (
    ".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".qptiff", ".czi",
    ".tif", ".tiff", ".btf", ".dcm", ".dicom", ".zarr.zip",
)  # fmt: skip
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
DICOM_SUFFIXES = (".dcm", ".dicom")
ZARR_MARKERS = ("zarr.json", ".zgroup", ".zattrs")


@dataclass(frozen=True)
class Listed:
    """A slide that is meant.

    Attributes
    ----------
    path : absolute
    facts : what a list says of it, pairs of name (of FACTS) and text
    """

    path: Path
    facts: tuple[tuple[str, str], ...] = ()


def list_slides(sources: Iterable[str | Path], images: bool = False) -> list[Listed]:
    """Find the slides that files, folders and lists name; each once, in their order.

    Parameters
    ----------
    sources : slides; folders, in which slides are looked for, in all folders below, too; lists
        (``.csv``, ``.tsv``, ``.txt``): a path per line, or a table with a column ``slide`` and
        optionally ``scanner``, ``date`` (2026-11-21) and ``group``. Paths in a list are relative to
        it. A slide that is named, but not there, is listed: the cohort says so.
    images : whether folders' PNG and JPEG files are slides; beside whole slides they are previews

    Raises
    ------
    OodError
        For a list that cannot be read, a folder without slides, or a date that is none.
    """
    found: dict[Path, Listed] = {}
    for source in sources:
        for listed in _of_source(Path(source).expanduser().absolute(), images):
            known = found.get(listed.path)
            if known is None or not known.facts:
                found[listed.path] = listed
    return list(found.values())


def _of_source(source: Path, images: bool) -> Iterator[Listed]:
    if source.suffix.lower() in LIST_SUFFIXES:
        yield from _of_list(source, images)
    elif source.is_dir() and not _is_slide(source):
        paths = sorted(slides_under(source, images))
        if not paths:
            raise OodError(f"{source} holds no slides: name the folder in which they lie")
        yield from map(Listed, paths)
    else:
        yield Listed(source)


def slides_under(folder: Path, images: bool = False) -> Iterator[Path]:
    """Slides in a folder and all folders below it; no runs, hidden files, truths of samples."""
    suffixes = SLIDE_SUFFIXES + (IMAGE_SUFFIXES if images else ())
    for place, folders, files in os.walk(folder):
        within = Path(place)
        slides = [name for name in folders if _is_slide(within / name)]
        yield from (within / name for name in slides if not name.endswith(RUN_SUFFIX))
        folders[:] = [
            name for name in folders if name not in slides and not name.startswith((".", "_"))
        ]
        for name in files:
            low = name.lower()
            if low.endswith(suffixes) and not low.startswith(".") and not low.endswith(TRUTH):
                yield within / name


def _is_slide(folder: Path) -> bool:
    """Whether a folder is one slide (OME-Zarr, DICOM) or a run; looks at names alone."""
    if any((folder / marker).is_file() for marker in ZARR_MARKERS):
        return True
    with os.scandir(folder) as entries:
        names = [entry.name.lower() for entry in entries if entry.is_file()]
    # DICOM writes one slide as many files without a name of its own; others have one each.
    return len(names) > 0 and all(name.endswith(DICOM_SUFFIXES) for name in names)


def _of_list(file: Path, images: bool) -> Iterator[Listed]:
    lines = _lines(file)
    rows = list(_cells(lines))
    names = [name.strip().casefold() for name in rows[0][1]] if rows else []
    column = next((names.index(name) for name in PATH_COLUMNS if name in names), None)
    if not rows or (column is not None and len(rows) == 1):
        raise OodError(f"{file} names no slides")
    if column is None:
        if file.suffix.lower() != ".txt" and len(names) > 1:
            raise OodError(f"{file} needs a first line with its columns' names, one of them slide")
        for _, line in lines:
            yield from _named(file, line.strip(), (), images)
        return
    for number, cells in rows[1:]:
        row = dict(zip(names, (cell.strip() for cell in cells), strict=False))
        path = row.get(names[column], "")
        if not path:
            raise OodError(f"{file} line {number} names no slide")
        yield from _named(file, path, _facts(file, number, row), images)


def _named(
    file: Path, text: str, facts: tuple[tuple[str, str], ...], images: bool
) -> Iterator[Listed]:
    path = Path(os.path.normpath(file.parent / Path(text).expanduser()))
    if path.is_dir() and not _is_slide(path):
        yield from (Listed(slide, facts) for slide in sorted(slides_under(path, images)))
    else:
        yield Listed(path, facts)


def _facts(file: Path, number: int, row: dict[str, str]) -> tuple[tuple[str, str], ...]:
    date = row.get("date", "")
    if date and parse_date(date) is None:
        raise OodError(f"{file} line {number}: {date!r} is no date such as 2026-11-21")
    return tuple((name, row[name]) for name in FACTS if row.get(name))


def _lines(file: Path) -> list[tuple[int, str]]:
    """Lines that say something, with their numbers."""
    try:
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise OodError(f"{file} is not UTF-8 text: save it as CSV UTF-8") from None
    except OSError as error:
        raise OodError(f"{file} cannot be read: {error.strerror or error}") from error
    return [
        (number, line) for number, line in enumerate(text.splitlines(keepends=True), start=1)
        if line.strip() and not line.startswith("#")
    ]  # fmt: skip


def _cells(lines: Sequence[tuple[int, str]]) -> Iterator[tuple[int, list[str]]]:
    """Rows of a table, with the numbers of the lines that they end in."""
    header = lines[0][1] if lines else ""
    reader = csv.reader((line for _, line in lines), delimiter=max(",;\t", key=header.count))
    for cells in reader:
        yield lines[reader.line_num - 1][0], cells
