"""The cohort board as one HTML file: pictures, chart and table are inside it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from napari_ood.board.row import SlideRow
from napari_ood.cohort.manifest import now
from napari_ood.errors import ExportCancelled, SlideError
from napari_ood.export.board_chart import drift_svg
from napari_ood.export.files import new_file
from napari_ood.export.report_regions import read_field
from napari_ood.passport.run_checks import FOREIGN_RED, FOREIGN_YELLOW

if TYPE_CHECKING:
    from napari_ood.board import Board, Drift

TEMPLATE = "board.html.j2"
PICTURE_PX, JPEG_QUALITY = 176, 78
PICTURES = 200
"""Slides, those of the highest OOD shares, that get a picture: 6 kB each."""
MARGIN = 0.5
"""Of the region's longer side, around it."""
MOST_TILES_WIDE = 16.0
MOST_CHARTS = 12


def write_board(
    board: Board,
    drift: Drift,
    out: str | Path,
    thumbnails: int = PICTURES,
    on_progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Path:
    """Write a board as one HTML file, which points to no network and works from any folder.

    Parameters
    ----------
    board, drift : what to show
    out : path of the file
    thumbnails : slides, those of the highest OOD shares, whose worst region gets a picture, if
        the slide lies where its run found it
    on_progress : called with (done, total) pictures
    cancel : polled between pictures

    Raises
    ------
    ExportError
        If it cannot be written.
    ExportCancelled
        If ``cancel`` says so; nothing is written then.
    """
    chosen = worst_first(board.rows)[:thumbnails]
    pictures: dict[int, str] = {}
    for done, i in enumerate(chosen, start=1):
        if cancel is not None and cancel():
            raise ExportCancelled("the board was cancelled: nothing was written")
        picture = worst_picture(board.rows[i])
        if picture is not None:
            pictures[i] = picture
        if on_progress is not None:
            on_progress(done, len(chosen))
    path = Path(out)
    with new_file(path) as partial:
        partial.write_text(render_board(board, drift, pictures, path), "utf-8")
    return path


def worst_first(rows: Sequence[SlideRow]) -> list[int]:
    """Places of the rows that have a worst region, those of the highest OOD shares first."""
    known = [i for i, row in enumerate(rows) if row.worst is not None]
    return sorted(known, key=lambda i: -(rows[i].ood or 0.0))


def render_board(board: Board, drift: Drift, pictures: dict[int, str], out: Path) -> str:
    """Fill the template. What comes from files and lists is escaped: it cannot become code."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined)
    source = files("napari_ood.export").joinpath("templates", TEMPLATE).read_text("utf-8")
    shown = drift.tracks[:MOST_CHARTS] if drift.n_dated else ()
    return environment.from_string(source).render(
        title=board.folder.name or str(board.folder),
        board=board,
        drift=drift,
        made=now()[:16].replace("T", " ") + " UTC",
        tiles=list(_tiles(board.rows)),
        charts=[(track, drift_svg(track, board.rows)) for track in shown],
        n_hidden=len(drift.tracks) - len(shown),
        data=script_json(_data(board, pictures, out)),
        columns=_columns(board.rows),
        yellow=FOREIGN_YELLOW,
        red=FOREIGN_RED,
    )


def script_json(data: Any) -> str:
    """JSON that can stand inside of a script element, whatever its texts are."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def worst_picture(row: SlideRow) -> str | None:
    """The worst region of a slide as a data URI; None where the slide is not at hand."""
    from napari_ood.slides import open_slide

    if row.worst is None:
        return None
    try:
        with open_slide(row.slide) as slide:
            if row.fingerprint is not None and slide.fingerprint() != row.fingerprint:
                return None
            pixels = read_field(slide, _field(row, slide.shape), (PICTURE_PX, PICTURE_PX))
    except (SlideError, OSError):
        return None
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _field(row: SlideRow, shape: tuple[int, int]) -> tuple[float, float, float, float]:
    """Square around the worst region, or around its peak where it is very large.

    It lies in the slide where it fits: what is beyond has no pixels.
    """
    assert row.worst is not None
    y, x, h, w = row.worst.box
    tile = max(row.worst.peak_box[2:])
    side = (1 + 2 * MARGIN) * max(h, w)
    if side > MOST_TILES_WIDE * tile:
        side = MOST_TILES_WIDE * tile
        y, x, h, w = row.worst.peak_box
    side = min(side, max(shape))
    top, left = (
        min(max(middle - side / 2, 0.0), size - side) if side <= size else (size - side) / 2
        for middle, size in ((y + h / 2, shape[0]), (x + w / 2, shape[1]))
    )
    return top, left, side, side


def _tiles(rows: Sequence[SlideRow]) -> Iterator[tuple[str, str, str]]:
    """Numbers at the top: title, value, what it is of."""
    n = len(rows)
    whole = sum(row.outcome == "done" for row in rows)
    yield "Slides", f"{n:,}", "all of them run" if whole == n else f"{whole:,} of them run"
    shares = np.array([row.ood for row in rows if row.ood is not None])
    if len(shares):
        median = f"{100 * float(np.median(shares)):.1f} %"
        yield "Median OOD share", median, "5 % is to be expected"
        flagged = sum(row.light in ("yellow", "red") for row in rows)
        yield "To be looked at", f"{flagged:,}", f"slides from {100 * FOREIGN_YELLOW:.0f} % on"
    failed = sum(row.outcome in ("failed", "missing") for row in rows)
    if failed:
        yield "Failed or missing", f"{failed:,}", "their errors are in the table"
    known = [row.mm2 for row in rows if row.mm2 is not None]
    if known:
        yield "Tissue", f"{sum(known):,.0f} mm²", f"{sum(row.n_tiles for row in rows):,} tiles"


def _columns(rows: Sequence[SlideRow]) -> dict[str, bool]:
    """Which columns have anything to show."""
    names = ("appearance", "tissue", "uncertainty", "scanner", "date", "group", "mm2", "classes")
    return {name: any(getattr(row, name) not in (None, ()) for row in rows) for name in names}


def _data(board: Board, pictures: dict[int, str], out: Path) -> list[dict[str, Any]]:
    """Rows for the table's script."""
    folder = out.absolute().parent
    rows = []
    for i, row in enumerate(board.rows):
        data = row.as_dict()
        data["picture"] = pictures.get(i)
        top = row.top_class
        data["top"] = None if top is None else [top[0], top[1]]
        report = Path(row.report) if row.report else None
        # Only beside the board: another machine has it there, too.
        data["report"] = report.name if report is not None and report.parent == folder else None
        rows.append({key: value for key, value in data.items() if value not in (None, [], ())})
    return rows
