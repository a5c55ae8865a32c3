"""``napari-ood diff``: where two runs of a slide part ways."""

from __future__ import annotations

import csv
import json
import math
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ood.cli.report import STDOUT, check_folder, complain, print_table
from napari_ood.errors import OodError

if TYPE_CHECKING:
    from napari_ood.analysis.difference import RunDifference
    from napari_ood.analysis.diverging import Divergence

N_SHOWN = 10
COLUMNS = (
    "row", "col", "y", "x", "height", "width", "score_a", "score_b", "difference", "class_a",
    "class_b",
)  # fmt: skip


def diff(args: Namespace) -> int:
    """Compare two runs; print a summary, write JSON and a table where they are asked for."""
    from napari_ood import open_run
    from napari_ood.analysis.difference import compare_runs
    from napari_ood.analysis.diverging import diverging_regions
    from napari_ood.analysis.scored import ScoredRun

    for path in (args.json, args.out):
        check_folder(path)
    a, b = (ScoredRun(open_run(path)) for path in (args.run_a, args.run_b))
    difference = compare_runs(a, b, args.score, copies=args.copies)
    regions = diverging_regions(difference, args.by)
    if args.out is not None:
        _write(args.out, lambda: write_table(difference, args.out))
    record = as_json(difference, regions, args.by)
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if args.json == STDOUT:
        print(text, end="", flush=True)
        return 0
    print_table(summary(difference))
    print("\n".join(["", *region_lines(regions, args.by)]))
    if args.json is not None:
        _write(args.json, lambda: args.json.write_text(text, "utf-8"))
    return 0


def summary(d: RunDifference) -> list[tuple[str, str]]:
    """Rows to read."""
    name = d.names[0] if d.names[0] == d.names[1] else f"{d.names[0]} in A, {d.names[1]} in B"
    rows = [
        ("A", _what(d.a.run)),
        ("B", _what(d.b.run)),
        ("tiles", d.match.words),
        ("score", f"{name}; differences {d.scale.words}"),
    ]
    quantiles = _quantiles(d)
    if quantiles is not None:
        low, middle, high = (f"{q:+.3g}" for q in quantiles)
        rows.append(("B − A", f"median {middle}, 5 % below {low}, 5 % above {high}"))
    if d.correlation is not None:
        rows.append(("correlation", f"{d.correlation:.3f} (Spearman)"))
    if d.agreed is not None:
        chance = "not defined" if d.kappa is None else f"{d.kappa:.3f}"
        rows.append(("same class", f"{100 * d.agreed:.1f} % of tiles, Cohen's kappa {chance}"))
        rows += _table_rows(d)
    return rows


def _what(run: Any) -> str:
    return f"{run.path} ({run.provenance['bundle']['name']})"


def _quantiles(d: RunDifference) -> tuple[float, float, float] | None:
    import numpy as np

    finite = d.delta[np.isfinite(d.delta)]
    if not len(finite):
        return None
    low, middle, high = np.quantile(finite, (0.05, 0.5, 0.95)).tolist()
    return low, middle, high


def _table_rows(d: RunDifference) -> list[tuple[str, str]]:
    """Rows: what A says; columns: what B says."""
    width = max(len(f"{d.n:,}"), *(len(c) for c in d.classes)) + 2
    first = max(len(c) for c in d.classes)
    lines = [f"{'A, B:':<{first}}" + "".join(f"{c:>{width}}" for c in d.classes)]
    for label, counts in zip(d.classes, d.agreement.tolist(), strict=True):
        lines.append(f"{label:<{first}}" + "".join(f"{n:>{width},}" for n in counts))
    return [("agreement" if i == 0 else "", line) for i, line in enumerate(lines)]


def region_lines(regions: tuple[Divergence, ...], by: str) -> list[str]:
    """The worst regions, one per line."""
    if not regions:
        return [f"They diverge nowhere (by {by})."]
    lines = [f"Where they diverge most (by {by}; x, y, width, height in level-0 pixels):"]
    for r in regions[:N_SHOWN]:
        y, x, h, w = r.box
        labels = r.label_a if r.label_a == r.label_b else f"{r.label_a} -> {r.label_b}"
        place = f"{x:.0f},{y:.0f},{w:.0f},{h:.0f}"
        lines.append(f"{r.number:>3}  {r.peak:+9.3g}  {r.n_tiles:>7,} tiles  {place:<26} {labels}")
    if len(regions) > N_SHOWN:
        lines.append(f"     and {len(regions) - N_SHOWN} more in --json FILE")
    return lines


def as_json(d: RunDifference, regions: tuple[Divergence, ...], by: str) -> dict[str, Any]:
    """JSON-ready record; boxes are y, x, h, w in level-0 pixels."""
    return {
        "a": str(d.a.run.path),
        "b": str(d.b.run.path),
        "bundles": [s.run.provenance["bundle"]["name"] for s in (d.a, d.b)],
        "score": d.score,
        "names": list(d.names),
        "standardised": d.scale.standardised,
        "limit": d.scale.limit,
        "n_pairs": d.n,
        "n_only_a": d.match.n_only_a,
        "n_only_b": d.match.n_only_b,
        "same_grid": d.match.same_grid,
        "quantiles_5_50_95": _quantiles(d),
        "correlation": d.correlation,
        "classes": list(d.classes),
        "agreement": d.agreement.tolist(),
        "agreed": d.agreed,
        "kappa": d.kappa,
        "by": by,
        "regions": [_region_json(r) for r in regions],
    }


def _region_json(r: Divergence) -> dict[str, Any]:
    return {
        "number": r.number,
        "key": r.key,
        "peak": _finite(r.peak),
        "mean": _finite(r.mean),
        "n_tiles": r.n_tiles,
        "area_mm2": r.area_mm2,
        "box": list(r.box),
        "class_a": r.label_a,
        "class_b": r.label_b,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def write_table(d: RunDifference, path: Path) -> None:
    """One row per pair of tiles; boxes are those of the finer grid, in level-0 pixels."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        scores = zip(d.values_a.tolist(), d.values_b.tolist(), d.delta.tolist(), strict=True)
        labels = zip(d.predicted_a.tolist(), d.predicted_b.tolist(), strict=True)
        rows = zip(d.cells.tolist(), d.boxes.tolist(), scores, labels, strict=True)
        for cell, box, values, (a, b) in rows:
            known = ["" if math.isnan(v) else f"{v:.6g}" for v in values]
            writer.writerow([*cell, *box, *known, d.classes[a], d.classes[b]])


def _write(path: Path, write: Any) -> None:
    try:
        write()
    except OSError as error:
        raise OodError(f"{path} cannot be written: {error.strerror or error}") from error
    complain(f"wrote {path}")
