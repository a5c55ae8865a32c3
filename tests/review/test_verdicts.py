from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawn import DrawnRun
from napari_ood.analysis.regions import find_regions
from napari_ood.errors import ReviewError
from napari_ood.review import Artefact, Kind, Verdict
from napari_ood.review.cells import Cells

CELLS = st.lists(st.tuples(st.integers(-3, 12), st.integers(-3, 12)))
DETAILS = st.sampled_from(
    [
        (Kind.AGREE, None, None),
        (Kind.WRONG_CLASS, "nerve", None),
        *((Kind.ARTEFACT, None, artefact) for artefact in Artefact),
        (Kind.UNKNOWN_TISSUE, None, None),
        (Kind.SKIP, None, None),
    ]
)


@given(CELLS)
def test_cells_are_the_distinct_tiles_row_by_row_also_as_runs(cells: list[tuple[int, int]]) -> None:
    found = Cells(cells)
    assert tuple(found) == tuple(sorted(set(cells)))
    assert found == tuple(sorted(set(cells))) and len(found) == len(set(cells))
    assert hash(found) == hash(tuple(found))
    assert np.array(found).shape == (len(found), 2)
    assert [found[i] for i in range(len(found))] == list(found)
    runs = found.runs()
    assert Cells.from_runs(json.loads(json.dumps(runs))) == found
    # No two runs could be one.
    assert not {(row, col + n) for row, col, n in runs} & {(row, col) for row, col, _ in runs}


@pytest.mark.parametrize("bad", [[1, 2], [(1, 2, 3)], [(0.5, 1.0)], "ab"])
def test_what_is_no_list_of_cells_is_refused(bad: object) -> None:
    with pytest.raises(ValueError, match="pairs of whole numbers"):
        Cells(bad)  # type: ignore[arg-type]


@given(
    CELLS,
    DETAILS,
    st.text(),
    st.none() | st.floats(allow_nan=False),
    st.none() | st.sampled_from(["stroma", "tumour"]),
)
def test_a_verdict_survives_json(
    cells: list[tuple[int, int]],
    details: tuple[Kind, str | None, Artefact | None],
    comment: str,
    threshold: float | None,
    prediction: str | None,
) -> None:
    verdict = Verdict(
        "3-4", (0.5, 1.0, 2.0, 1e9), tuple(cells), *details, comment, "Zoë", "2026-01-01T00:00Z",
        None if threshold is None else "entropy", threshold, prediction,
    )  # fmt: skip
    line = json.dumps(verdict.as_dict(), allow_nan=False)
    again = Verdict.from_dict(json.loads(line))
    assert again == verdict and hash(again) == hash(verdict)
    assert again.peak_cell == (3, 4)
    assert "\n" not in line


def test_a_region_is_judged_with_all_that_finds_it_again() -> None:
    run = DrawnRun([[0, 1, 2], [0, 0, 1]], predicted=[[0, 1, 1], [0, 0, 1]])
    (region,) = find_regions(run, run.values > 0, "ood")  # type: ignore[arg-type]
    verdict = Verdict.of(
        region, Kind.WRONG_CLASS, reviewer="Ada", threshold=0.5, label="nerve", comment="see B3"
    )
    assert verdict.tiles == ((0, 1), (0, 2), (1, 2))
    assert (verdict.key, verdict.peak_cell, verdict.box) == ("0-2", (0, 2), (0, 20, 20, 40))
    assert (verdict.score, verdict.threshold) == ("mahalanobis@early", 0.5)
    assert (verdict.prediction, verdict.category) == ("tumour", "wrong class: nerve")
    assert (verdict.reviewer, verdict.comment) == ("Ada", "see B3")
    age = datetime.now(UTC) - datetime.fromisoformat(verdict.time)
    assert timedelta(0) <= age < timedelta(minutes=1)
    assert Verdict.of(region, Kind.SKIP, reviewer="Ada").category == "skip"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"kind": Kind.WRONG_CLASS}, "needs the class"),
        ({"label": "nerve"}, "needs the class"),
        ({"kind": Kind.ARTEFACT}, "needs the kind of artefact"),
        ({"artefact": Artefact.PEN}, "needs the kind of artefact"),
        ({"kind": Kind.WRONG_CLASS, "label": "tumour"}, "choose another class"),
    ],
)
def test_verdicts_that_contradict_themselves_are_refused(
    change: dict[str, object], told: str
) -> None:
    verdict = Verdict("0-0", (0, 0, 1, 1), ((0, 0),), Kind.AGREE, prediction="tumour")
    with pytest.raises(ReviewError, match=told):
        replace(verdict, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "maybe"},
        {"box": [1, 2]},
        {"runs": [[0, 0, 0]]},
        {"runs": [[0, 0]]},
        {"region": "x"},
        {"threshold": "high"},
        {"label": "nerve"},
    ],
)
def test_what_is_no_verdict_is_told(change: dict[str, object]) -> None:
    data = Verdict("0-0", (0, 0, 1, 1), ((0, 0),), Kind.AGREE).as_dict()
    with pytest.raises(ReviewError):
        Verdict.from_dict({**data, **change})
    for key in data:
        with pytest.raises(ReviewError, match=f"no verdict.*{key}"):
            Verdict.from_dict({k: v for k, v in data.items() if k != key})
