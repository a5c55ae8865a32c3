"""Rows of an evaluation and the tables made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from napari_ood.evaluation.bootstrap import Interval, Intervals
from napari_ood.evaluation.metrics import fpr_at_tpr, ood_auroc

NONE = "–"
CONTROL, CONTRAST = "control: ", "contrast: "
"""Beginnings of the names of sets that are made of in-distribution tiles."""


@dataclass(frozen=True)
class Row:
    """One score on one foreign set.

    Attributes
    ----------
    n_id, n_ood : number of in-distribution and of foreign tiles
    auroc : chance that a foreign tile scores above an in-distribution tile; None: score is NaN
    fpr95 : share of foreign tiles kept when 95 % of the in-distribution tiles are kept
    auroc_ci, fpr95_ci : 95 % intervals; None where there are too few groups for one
    """

    set: str
    score: str
    n_id: int
    n_ood: int
    auroc: float | None
    auroc_ci: Interval | None
    fpr95: float | None
    fpr95_ci: Interval | None

    def as_json(self) -> dict[str, Any]:
        """Plain values; intervals as lists."""
        record = asdict(self)
        for key in ("auroc_ci", "fpr95_ci"):
            record[key] = None if record[key] is None else list(record[key])
        return record


def make_row(
    set_name: str,
    score: str,
    inside: ArrayLike,
    outside: ArrayLike,
    intervals: Intervals | None = None,
) -> Row:
    """Row from the scores of in-distribution and of foreign tiles."""
    a, b = np.asarray(inside), np.asarray(outside)
    defined = not (np.isnan(a).any() or np.isnan(b).any())
    return Row(
        set=set_name,
        score=score,
        n_id=len(a),
        n_ood=len(b),
        auroc=ood_auroc(a, b) if defined else None,
        auroc_ci=intervals.auroc if intervals and defined else None,
        fpr95=fpr_at_tpr(a, b) if defined else None,
        fpr95_ci=intervals.fpr95 if intervals and defined else None,
    )


def number(value: float | None, interval: Interval | None = None) -> str:
    """``0.912 (0.893–0.931)``."""
    if value is None:
        return NONE
    text = f"{value:.3f}"
    return text if interval is None else f"{text} ({interval[0]:.3f}–{interval[1]:.3f})"


def share(value: float | None) -> str:
    """``12.3 %``."""
    return NONE if value is None else f"{value:.1%}".replace("%", " %")


def set_table(
    rows: Sequence[Row], score: str, flagged: Mapping[str, float | None]
) -> list[tuple[str, ...]]:
    """Cells of one score's table, the header first; ``flagged`` per set."""
    header = ("set", "tiles", "AUROC (95 % interval)", "FPR95 (95 % interval)", "flagged")
    cells = [
        (
            row.set,
            f"{row.n_ood:,}",
            number(row.auroc, row.auroc_ci),
            number(row.fpr95, row.fpr95_ci),
            share(flagged.get(row.set)),
        )
        for row in rows
        if row.score == score
    ]
    return [header, *cells]


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns of equal width, the first left-aligned and the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in table
    ]


def markdown(table: Sequence[Sequence[str]]) -> str:
    """The same cells as a markdown table."""
    lines = [f"| {' | '.join(cells)} |" for cells in table]
    return "\n".join([lines[0], f"|---|{'---:|' * (len(table[0]) - 1)}", *lines[1:]])


def cross_table(rows: Sequence[Row], value: str) -> list[tuple[str, ...]]:
    """Cells of ``auroc`` or ``fpr95``: scores down, sets across, the best of each set in bold."""
    sets = list(dict.fromkeys(row.set for row in rows))
    scores = list(dict.fromkeys(row.score for row in rows))
    found = {(row.score, row.set): getattr(row, value) for row in rows}
    pick = max if value == "auroc" else min
    best = {
        name: pick(
            (round(v, 3) for s in scores if (v := found.get((s, name))) is not None), default=None
        )
        for name in sets
    }
    header = (value.upper(), *sets)
    lines = [
        (f"`{score}`", *(_marked(found.get((score, name)), best[name]) for name in sets))
        for score in scores
    ]
    return [header, *lines]


def _marked(value: float | None, best: float | None) -> str:
    text = number(value)
    return f"**{text}**" if value is not None and round(value, 3) == best else text
