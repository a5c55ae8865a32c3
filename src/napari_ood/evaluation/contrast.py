"""In-distribution tiles against each other: does a score tell scanners, stains or centres apart?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import OodError
from napari_ood.evaluation.bootstrap import Intervals, Resampler, separation_intervals
from napari_ood.evaluation.table import CONTRAST, Row, make_row

MAX_VALUES = 10


def contrast_rows(
    column: str,
    of_tiles: NDArray[np.str_],
    groups: NDArray[np.str_],
    values: Mapping[str, NDArray[np.float32]],
    n_bootstrap: int,
    seed: int,
) -> list[Row]:
    """Rows of each value of a column against the most frequent one.

    Parameters
    ----------
    column : its name, for the rows
    of_tiles : [N] str, the column; tiles with "" are left out
    groups : [N] str
    values : score → [N] float32
    n_bootstrap, seed : of the intervals

    Raises
    ------
    OodError
        If the column has fewer than 2 or more than 10 values.
    """
    counts = Counter(value for value in of_tiles.tolist() if value)
    if not 2 <= len(counts) <= MAX_VALUES:
        raise OodError(
            f"column {column!r} has {len(counts)} values on the tiles evaluated; a contrast needs "
            f"2 to {MAX_VALUES}"
        )
    # Ties go to the name that sorts first, so that rows don't depend on the order of the tiles.
    (usual, _), *others = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    inside = of_tiles == usual
    rows = []
    for value, _ in others:
        name = f"{CONTRAST}{column} {value} against {usual}"
        outside = of_tiles == value
        draws = [
            Resampler(int(mask.sum()), groups[mask].tolist(), n_bootstrap, seed, key)
            for mask, key in ((inside, usual), (outside, value))
        ]
        usable = [score for score, v in values.items() if not np.isnan(v).any()]
        found = separation_intervals(
            draws[0],
            [values[score][inside] for score in usable],
            [(draws[1], [values[score][outside] for score in usable])],
        )[0]
        intervals: dict[str, Intervals] = dict(zip(usable, found, strict=True))
        rows += [
            make_row(name, score, v[inside], v[outside], intervals.get(score))
            for score, v in values.items()
        ]
    return rows
