"""The control chart on cases whose answer is known."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_ood.board import Baseline, SlideRow, drift_of
from napari_ood.board.drift import (
    LAMBDA,
    LIMIT,
    control_chart,
    expit,
    logit,
    rolling_median,
)

from .conftest import row


def series(shares: list[float], scanner: str = "S", tiles: int = 1000) -> list[SlideRow]:
    """A slide a day."""
    days = [(date(2026, 1, 1) + timedelta(i)).isoformat() for i in range(len(shares))]
    return [
        row(i, share, date=day, scanner=scanner, n_tiles=tiles)
        for i, (share, day) in enumerate(zip(shares, days, strict=True))
    ]


def test_ewma_and_limits_of_a_step() -> None:
    """Of values 0, then 1 with σ = 1: z_k = 1 − (1 − λ)^k, limits ±L √(λ/(2−λ)(1−(1−λ)^2i))."""
    n, k = 10, 12
    values = np.r_[np.zeros(n), np.ones(k)]
    average, low, high = control_chart(values, np.arange(n + k) < n, 1.0)
    assert average[:n] == pytest.approx(0)
    assert average[n:] == pytest.approx(1 - (1 - LAMBDA) ** np.arange(1, k + 1))
    i = np.arange(1, n + k + 1)
    expected = LIMIT * np.sqrt(LAMBDA / (2 - LAMBDA) * (1 - (1 - LAMBDA) ** (2 * i)))
    assert high == pytest.approx(expected) and low == pytest.approx(-expected)
    assert high[-1] == pytest.approx(1.0, abs=0.01)  # L √(λ/(2−λ)) = 3 · 1/3


def test_a_shift_is_found_and_dated() -> None:
    usual = [0.04, 0.06, 0.05, 0.045, 0.055] * 6
    rows = series(usual + [0.12] * 10)
    (track,) = drift_of(rows).tracks
    assert track.drifting and not track.out[: len(usual)].any()
    # A large shift is clipped to 3 σ: found within three slides.
    assert track.since is not None
    found = (date.fromisoformat(track.since) - date(2026, 1, 1)).days
    assert 30 <= found <= 32
    words = f"has risen since {track.since}, from 5.0 % to 12.0 % (medians; {40 - found} slides"
    assert drift_of(rows).words.startswith(f"Drift: S: {words} since)")


def test_one_odd_slide_is_no_drift() -> None:
    usual = [0.04, 0.06, 0.05, 0.045, 0.055] * 6
    for place in (3, 15, 29):
        shares = list(usual)
        shares[place] = 0.95
        (track,) = drift_of(series(shares)).tracks
        assert not track.out.any(), place
    assert drift_of(series(usual)).words.startswith("No drift: S: steady at 5.0 %")


def test_a_drift_that_has_gone_is_told_as_such() -> None:
    usual = [0.04, 0.06, 0.05, 0.045, 0.055] * 4
    (track,) = drift_of(series(usual + [0.2] * 6 + usual * 2)).tracks
    assert track.out.any() and not track.drifting and track.since is None
    assert "within its limits now, out of them from 2026-01-2" in track.words()


def test_few_alarms_where_nothing_happens() -> None:
    """Tiles by chance alone, 40 scanners of 200 slides: hardly a slide is out of its limits."""
    rng = np.random.default_rng(0)
    rows = [
        slide
        for i in range(40)
        for slide in series((rng.binomial(1000, 0.05, 200) / 1000).tolist(), f"S{i}")
    ]
    drift = drift_of(rows, baseline=Baseline(first=60))
    assert np.mean([track.out.mean() for track in drift.tracks]) < 0.05


def test_spread_has_a_floor_by_chance() -> None:
    """Equal shares have no spread of their own; 1,000 tiles at 5 % still vary by 0.7 points."""
    (track,) = drift_of(series([0.05] * 20 + [0.052] * 20)).tracks
    assert not track.out.any()
    (track,) = drift_of(series([0.05] * 20 + [0.06] * 20, tiles=1_000_000)).tracks
    assert track.drifting


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "Not enough dates: no slide has a share yet."),
        ([row(0), row(1)], "Not enough dates: none of 2 slides says when it was scanned."),
        (series([0.05] * 4),
         "Not enough dates for a control chart: 4 slides with a date, a chart needs 11."),
        ([row(i, date="2026-01-01") for i in range(30)],
         "Not enough dates for a control chart: all 30 slides were scanned on one day."),
        ([*series([0.05] * 2), row(9)],
         "Not enough dates for a control chart: 2 slides with a date, a chart needs 11. "
         "1 slide has no date."),
    ],
)  # fmt: skip
def test_not_enough_dates(rows: list[SlideRow], words: str) -> None:
    assert drift_of(rows).words == words


def test_scanners_are_charted_apart() -> None:
    steady = series([0.05, 0.06, 0.04] * 10, "A")
    shifted = series([0.05, 0.06, 0.04] * 5 + [0.3] * 10, "B")
    few = series([0.05] * 3, "C")
    rows = [*shifted, *steady, *few, row(99, date=None), row(98, ood=None, date="2026-01-01")]
    drift = drift_of(rows)
    assert [track.scanner for track in drift.tracks] == ["A", "B", "C"]
    assert (drift.n_dated, drift.n_undated) == (58, 1)
    assert [track.drifting for track in drift.tracks] == [False, True, False]
    assert drift.tracks[2].note
    assert drift.words.startswith("Drift: B:") and "A:" not in drift.words


def test_chosen_days_are_the_baseline() -> None:
    rows = series([0.3] * 10 + [0.05, 0.06, 0.04] * 5)
    days = Baseline(start="2026-01-11", end="2026-01-20")
    (track,) = drift_of(rows, baseline=days).tracks
    assert np.flatnonzero(track.baseline).tolist() == list(range(10, 20))
    assert track.centre == pytest.approx(0.05, abs=0.002)
    (track,) = drift_of(rows, baseline=Baseline(start="2027-01-01")).tracks
    assert "0 slides lie in the baseline's days" in track.note


def test_rolling_median() -> None:
    values = np.array([1.0, 9, 2, 8, 3, 7, 4, 6, 5])
    found = rolling_median(values, 3)
    assert found.tolist() == [5, 2, 8, 3, 7, 4, 6, 5, 5.5]
    assert not len(rolling_median(np.empty(0)))


@given(st.floats(0, 1), st.integers(1, 10**6))
def test_logit_is_finite_and_near(share: float, tiles: int) -> None:
    values = logit(np.array([share]), np.array([float(tiles)]))
    assert np.isfinite(values).all()
    assert expit(values)[0] == pytest.approx(share, abs=0.5 / (tiles + 1) + 1e-9)
