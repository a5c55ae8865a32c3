from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from drawn import DrawnRun
from napari_ood.analysis.regions import Region, find_regions
from napari_ood.review import (
    Artefact,
    Kind,
    Proportion,
    Verdict,
    cohens_kappa,
    error_rate,
)
from napari_ood.review.agreement import agreement

PAIRS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd")))


def regions_of(run: DrawnRun, threshold: float = 0) -> tuple[Region, ...]:
    return find_regions(run, run.values > threshold, "ood")  # type: ignore[arg-type]


def say(region: Region, what: str, reviewer: str = "Ada") -> Verdict:
    details = {"nerve": {"label": "nerve"}, "pen": {"artefact": Artefact.PEN}}
    kinds = {"nerve": Kind.WRONG_CLASS, "pen": Kind.ARTEFACT}
    kind = kinds[what] if what in kinds else Kind(what)
    return Verdict.of(region, kind, reviewer=reviewer, **details.get(what, {}))


@given(PAIRS)
def test_kappa_is_that_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    a, b = ([pair[i] for pair in pairs] for i in (0, 1))
    kappa = cohens_kappa(a, b)
    assert kappa.counts.sum() == kappa.n == len(pairs)
    assert kappa.n_agreed == sum(x == y for x, y in pairs)
    if len({*a, *b}) < 2:  # scikit-learn warns and gives NaN, or fails without verdicts
        assert (kappa.value, kappa.low, kappa.high) == (None, None, None)
        assert "not defined" in kappa.words() or "no region" in kappa.words()
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = cohen_kappa_score(a, b)
    assert kappa.value == pytest.approx(expected, abs=1e-12)
    assert kappa.low is not None and kappa.high is not None
    assert -1 <= kappa.low <= kappa.value <= kappa.high <= 1


def kappa_of(p: np.ndarray) -> float:
    chance = p.sum(axis=0) @ p.sum(axis=1)
    return float((np.trace(p) - chance) / (1 - chance))


@given(
    st.lists(st.integers(0, 40), min_size=9, max_size=9).filter(lambda n: sum(v > 0 for v in n) > 2)
)
def test_the_interval_is_that_of_the_delta_method(counts: list[int]) -> None:
    """Standard error by numerical derivatives and the multinomial covariance, not by a formula."""
    table = np.array(counts).reshape(3, 3)
    a, b = (np.repeat(x.ravel(), table.ravel()) for x in np.mgrid[0:3, 0:3])
    kappa = cohens_kappa([f"c{i}" for i in a], [f"c{i}" for i in b])
    n = int(table.sum())
    p, step = table / n, 1e-5

    gradient = np.zeros(9)
    for i in range(9):
        moved = np.zeros(9)
        moved[i] = step
        up, down = (kappa_of(p + sign * moved.reshape(3, 3)) for sign in (1, -1))
        gradient[i] = (up - down) / (2 * step)
    flat = p.ravel()
    error = math.sqrt(max(0.0, gradient**2 @ flat - (gradient @ flat) ** 2) / n)

    assert kappa.value is not None
    assert kappa.low == pytest.approx(max(-1, kappa.value - 1.959964 * error), abs=1e-4)
    assert kappa.high == pytest.approx(min(1, kappa.value + 1.959964 * error), abs=1e-4)


def test_kappa_in_words() -> None:
    few = cohens_kappa([*"aaaabbbb"], [*"aaabbbba"]).words()
    assert "kappa 0.50" in few and "no interval" in few
    told = cohens_kappa([*"aaaabbbb"] * 5, [*"aaabbbba"] * 5).words()
    assert told.startswith("same verdict on 30 of 40 regions; kappa 0.50 (95 % interval ")
    assert cohens_kappa([], []).words() == "no region was judged by both"
    with pytest.raises(ValueError, match="same regions"):
        cohens_kappa(["a"], [])


def test_reviewers_are_compared_where_both_have_judged() -> None:
    run = DrawnRun([[1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]])
    r = regions_of(run)
    ada = [say(r[i], w) for i, w in enumerate(["agree", "nerve", "pen", "skip", "agree"])]
    bob = [say(r[i], w, "Bob") for i, w in enumerate(["agree", "agree", "pen", "agree", "skip"])]
    (pair,) = agreement({"Bob": bob, "Ada": ada}, r)
    assert (pair.first, pair.second) == ("Ada", "Bob")
    assert (pair.kinds.n, pair.kinds.n_agreed) == (3, 2), "skipped by either is not judged"
    expected = cohen_kappa_score(["agree", "wrong", "pen"], ["agree", "agree", "pen"])
    assert pair.kinds.value == pytest.approx(expected)
    assert "wrong class: nerve" in pair.details.categories
    assert agreement({"Ada": ada}, r) == ()
    three = agreement({"Ada": ada, "Bob": bob, "Cy": []}, r)
    assert [(x.first, x.second, x.kinds.n) for x in three] == [
        ("Ada", "Bob", 3), ("Ada", "Cy", 0), ("Bob", "Cy", 0),
    ]  # fmt: skip


def test_reviewers_at_other_thresholds_meet_and_each_meeting_counts_once() -> None:
    run = DrawnRun([[3, 1, 3, 1, 3, 0, 2]])
    (whole, right), pieces = regions_of(run, 0), regions_of(run, 1)
    ada = [say(whole, "pen"), say(right, "agree")]
    bob = [say(piece, "pen" if i < 2 else "agree", "Bob") for i, piece in enumerate(pieces)]
    (coarse,) = agreement({"Ada": ada, "Bob": bob}, (whole, right))
    assert coarse.kinds.n == 2
    (fine,) = agreement({"Ada": ada, "Bob": bob[:1]}, pieces)
    assert fine.kinds.n == 1
    # One verdict each on the whole, now in three pieces: one meeting.
    (again,) = agreement({"Ada": [say(whole, "pen")], "Bob": [say(whole, "pen", "Bob")]}, pieces)
    assert again.kinds.n == 1


@given(st.integers(0, 60), st.integers(0, 60))
def test_wilson_interval_is_that_of_scipy(k: int, others: int) -> None:
    part = Proportion(k, k + others)
    if not part.n:
        assert part.value is None and part.interval is None
        return
    low, high = binomtest(k, part.n).proportion_ci(method="wilson")
    assert part.interval == pytest.approx((low, high), abs=1e-12)
    assert part.value == k / part.n


def test_error_rate_per_threshold() -> None:
    run = DrawnRun([[1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7]])
    said = ["agree", "nerve", "agree", "nerve", "nerve", "pen", "unknown tissue"]
    verdicts = [say(r, what) for r, what in zip(regions_of(run), said, strict=True)]
    verdicts.append(say(regions_of(run)[0], "skip", "Bob"))
    zero, three, all_kept = error_rate(verdicts, run, "ood", (0, 3, np.inf))  # type: ignore[arg-type]
    assert (zero.flagged, zero.kept) == (Proportion(3, 5), Proportion(0, 0))
    assert (zero.n_artefact, zero.n_unknown, zero.n_skipped) == (1, 1, 1)
    # A score at the threshold is kept.
    assert (three.flagged, three.kept) == (Proportion(2, 2), Proportion(1, 3))
    assert (three.n_artefact, three.n_unknown, three.n_skipped) == (1, 1, 0)
    assert (all_kept.flagged, all_kept.kept) == (Proportion(0, 0), Proportion(3, 5))
    assert error_rate([], run, "ood", (1.0,))[0].flagged.value is None  # type: ignore[arg-type]


def test_error_rate_goes_by_the_highest_score_of_now_and_compares_in_its_precision() -> None:
    run = DrawnRun([[0.1, 0.3, 0.2]])
    (region,) = regions_of(run)
    moved = DrawnRun([[np.nan, 0.1, 0.4]])
    (at,) = error_rate([say(region, "nerve")], moved, "ood", (0.4,))  # type: ignore[arg-type]
    assert at.kept == Proportion(1, 1), "float32(0.4) is above 0.4, but not above float32(0.4)"
    lost = DrawnRun([[np.nan, np.nan, np.nan]])
    (gone,) = error_rate([say(region, "nerve")], lost, "ood", (0.4,))  # type: ignore[arg-type]
    assert gone.kept == gone.flagged == Proportion(0, 0)
