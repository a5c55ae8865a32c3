"""Tables with one row per tile: CSV, and Parquet with types and provenance."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import ExportError
from napari_ood.export.files import Step, new_file, unwatched

if TYPE_CHECKING:
    from napari_ood.export.results import Results

BATCH_ROWS = 65_536
Rows = slice | NDArray[np.int64]

FLOAT32_DIGITS = 9
"""Significant digits that tell any two float32 apart."""


@dataclass(frozen=True)
class Column:
    """A column, made piece by piece.

    Attributes
    ----------
    name : str
    kind : ``int``, ``float32``, ``float64``, ``bool`` or ``text``
    values : rows (a slice or positions) → that many values; texts as objects, None where there is
        nothing
    nullable : whether negative integers, NaN and None mean that there is nothing
    """

    name: str
    kind: str
    values: Callable[[Rows], NDArray[Any]]


def tile_columns(results: Results) -> tuple[Column, ...]:
    """Columns of the table of tiles, the same in every format."""
    scored, run = results.scored, results.scored.run
    index, boxes = scored.index, scored.boxes
    probability = scored.probabilities()
    labels = np.array([*scored.classes, None], object)
    prediction = results.prediction
    mpp_y, mpp_x = results.mpp or (np.nan, np.nan)

    def constant(value: float) -> Callable[[Rows], NDArray[Any]]:
        return lambda rows: np.full(len(index[rows]), value)

    columns = [
        Column("row", "int", lambda rows: index[rows, 0]),
        Column("col", "int", lambda rows: index[rows, 1]),
        *(
            Column(name, "float64", lambda rows, i=i: boxes[rows, i])  # type: ignore[misc]
            for name, i in (("x", 1), ("y", 0), ("width", 3), ("height", 2))
        ),
        Column("mpp_x", "float64", constant(mpp_x)),
        Column("mpp_y", "float64", constant(mpp_y)),
        Column("partial", "bool", lambda rows: run.partial[rows]),
        Column("prediction", "text", lambda rows: labels[prediction[rows]]),
        *(
            Column(f"probability_{label}", "float32", lambda rows, i=i: probability[rows, i])  # type: ignore[misc]
            for i, label in enumerate(scored.classes)
        ),
        *(
            Column(f"score_{role}", "float32", lambda rows, s=score: scored.score(s)[rows])  # type: ignore[misc]
            for role, score in results.scores.items()
        ),
    ]
    for role in results.thresholds:
        flagged, region = results.flagged[role], _region_numbers(results, role)
        columns += [
            Column(f"flagged_{role}", "bool", lambda rows, f=flagged: f[rows]),  # type: ignore[misc]
            Column(f"region_{role}", "int", lambda rows, r=region: r[rows]),  # type: ignore[misc]
        ]
    for reviewer in results.verdicts:
        said = _verdicts(results, reviewer)
        columns.append(Column(f"verdict_{reviewer}", "text", lambda rows, v=said: v[rows]))  # type: ignore[misc]
    return tuple(columns)


def _region_numbers(results: Results, role: str) -> NDArray[np.int64]:
    numbers = np.full(len(results.scored.index), -1, np.int64)
    for region in results.regions[role]:
        numbers[region.tiles] = region.number
    return numbers


def _verdicts(results: Results, reviewer: str) -> NDArray[np.object_]:
    """What the reviewer says of each tile, the latest verdict on it; [N] str or None."""
    run = results.scored.run
    grid = np.full(run.done.shape, None, object)
    for verdict in sorted(results.verdicts[reviewer], key=lambda v: v.time):
        grid[tuple(verdict.cells.T)] = verdict.category
    return np.asarray(grid[run.done], object)


def write_csv(
    results: Results,
    path: Path,
    step: Step = unwatched,
    tiles: NDArray[np.int64] | None = None,
) -> Path:
    """Write one row per tile: UTF-8, comma, point, empty where a value is not known.

    Parameters
    ----------
    results : Results
    path : Path
    step : called between batches of rows
    tiles : [K] int64, positions in ``run.index`` of the tiles to write; all by default

    Raises
    ------
    ExportError
        If the file cannot be written, or the export was cancelled.
    """
    columns = tile_columns(results)
    n = len(results.scored.index) if tiles is None else len(tiles)
    with new_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow([column.name for column in columns])
        for batch in _batches(n):
            step(batch.start, n)
            rows = batch if tiles is None else tiles[batch]
            cells = [_as_text(column, column.values(rows)) for column in columns]
            template = ",".join(template for template, _ in cells) + "\n"
            file.writelines(template % row for row in zip(*(v for _, v in cells), strict=True))
    step(n, n)
    return path


def _batches(n: int) -> Iterator[slice]:
    for start in range(0, n, BATCH_ROWS):
        yield slice(start, min(start + BATCH_ROWS, n))


def _as_text(column: Column, values: NDArray[Any]) -> tuple[str, list[Any]]:
    """A template for one value, and the values that it takes."""
    if column.kind == "bool":
        return "%d", values.tolist()
    if column.kind == "text":
        quoted = {value: _quoted(value) for value in set(values.tolist())}
        return "%s", [quoted[value] for value in values.tolist()]
    empty = values < 0 if column.kind == "int" else ~np.isfinite(values)
    template = {"int": "%d", "float32": f"%.{FLOAT32_DIGITS}g", "float64": "%r"}[column.kind]
    if not empty.any():
        return template, values.tolist()
    filled = [
        "" if nothing else template % value
        for value, nothing in zip(values.tolist(), empty.tolist(), strict=True)
    ]
    return "%s", filled


def _quoted(value: str | None) -> str:
    if value is None:
        return ""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([value])
    return line.getvalue()


def write_json(
    results: Results, path: Path, about: Mapping[str, Any], tiles: NDArray[np.int64]
) -> Path:
    """Write ``about`` and, as ``tiles``, one object per tile; null where a value is not known.

    Parameters
    ----------
    results : Results
    path : Path
    about : JSON-ready
    tiles : [K] int64, positions in ``run.index`` of the tiles to write

    Raises
    ------
    ExportError
        If the file cannot be written.
    """
    columns = tile_columns(results)
    names = [column.name for column in columns]
    with new_file(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        head = json.dumps(about, ensure_ascii=False, allow_nan=False)
        file.write(f'{head[:-1]}{", " if about else ""}"tiles": [')
        for batch in _batches(len(tiles)):
            rows = zip(*(_as_json(c, c.values(tiles[batch])) for c in columns), strict=True)
            for i, row in enumerate(rows, start=batch.start):
                text = json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False)
                file.write((",\n" if i else "\n") + text)
        file.write("\n]}\n")
    return path


def _as_json(column: Column, values: NDArray[Any]) -> list[Any]:
    """Values that JSON has, None where there is nothing."""
    if column.kind in ("bool", "text"):
        return list(values.tolist())
    if column.kind == "float32":  # the shortest text that gives the same float32 again
        return [float(str(v)) if np.isfinite(v) else None for v in values]
    empty = values < 0 if column.kind == "int" else ~np.isfinite(values)
    return [None if nothing else v for v, nothing in zip(values.tolist(), empty, strict=True)]


def write_parquet(
    results: Results,
    path: Path,
    step: Step = unwatched,
    tiles: NDArray[np.int64] | None = None,
) -> Path:
    """Write the same rows with types; provenance is the schema's metadata ``napari_ood`` (JSON).

    Parameters are those of :func:`write_csv`.

    Raises
    ------
    ExportError
        Without pyarrow; if the file cannot be written, or the export was cancelled.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ExportError(
            "Parquet needs pyarrow, which is not installed: pip install 'napari-ood[parquet]', or "
            "export csv"
        ) from error
    columns = tile_columns(results)
    n = len(results.scored.index) if tiles is None else len(tiles)
    types = {
        "int": pa.int32(), "float32": pa.float32(), "float64": pa.float64(), "bool": pa.bool_(),
        "text": pa.dictionary(pa.int32(), pa.string()),
    }  # fmt: skip
    about = json.dumps(results.provenance(), ensure_ascii=False, allow_nan=False)
    schema = pa.schema(
        [pa.field(column.name, types[column.kind]) for column in columns],
        metadata={"napari_ood": about},
    )
    with (
        new_file(path) as partial,
        partial.open("wb") as file,
        pq.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        for batch in _batches(n):
            step(batch.start, n)
            rows = batch if tiles is None else tiles[batch]
            arrays = [
                _as_arrow(pa, field.type, column.kind, column.values(rows))
                for field, column in zip(schema, columns, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
    step(n, n)
    return path


def _as_arrow(pa: Any, to: Any, kind: str, values: NDArray[Any]) -> Any:
    """An array of pyarrow, null where there is nothing."""
    if kind == "text":
        return pa.array(values, pa.string()).dictionary_encode()
    if kind == "bool":
        return pa.array(values, to)
    empty = values < 0 if kind == "int" else np.isnan(values)
    return pa.array(values.astype(to.to_pandas_dtype(), copy=False), to, mask=empty)
