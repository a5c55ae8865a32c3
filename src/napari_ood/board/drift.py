"""Does a cohort drift? Shares per slide over time: rolling median and a control chart by scanner.

Tiles of one slide resemble each other, so a binomial p-chart, which takes them for independent,
would sound the alarm on almost every slide. What varies is the slide: the chart is one of slides.

- A slide's share k/n is taken as the empirical logit ln((k + ½) / (n − k + ½)) (Haldane 1956;
  Anscombe 1956), in which 2 → 4 % and 20 → 35 % are steps of a like size.
- Centre and spread are median and 1.4826 · MAD (median absolute deviation) of the baseline, which a
  few odd slides do not move. The spread is at least the binomial one of the baseline's median
  slide, so that equal shares by chance do not make an endless alarm.
- The chart is an exponentially weighted moving average (EWMA; Roberts 1959, Technometrics 1:239),
  z_i = λ y_i + (1 − λ) z_{i−1} with z_0 the centre, and its limits are
  centre ± L σ √(λ/(2−λ) (1 − (1−λ)^{2i})) (Montgomery, Introduction to Statistical Quality Control,
  9.2), λ = 0.2, L = 3. Before it enters, y_i is clipped to centre ± 3 σ: one slide under ink is an
  outlier and no drift; it takes several in a row. Limits are of logits, and shown as shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_ood.board.row import SlideRow

Floats = NDArray[np.float64]
Measure = Literal["ood", "appearance", "tissue"]
MEASURES: tuple[Measure, ...] = ("ood", "appearance", "tissue")

LAMBDA, LIMIT, CLIP = 0.2, 3.0, 3.0
MAD_TO_SIGMA = 1.4826
"""1 / Φ⁻¹(¾): MAD of normal values to their standard deviation."""
WINDOW = 7
"""Slides of the rolling median, centred."""
FIRST_SLIDES = 10
"""Slides of the baseline where nobody chose one."""
LEAST_BASELINE = 5
UNKNOWN = "scanner not known"


@dataclass(frozen=True)
class Baseline:
    """Which slides of each scanner say what is usual there.

    Attributes
    ----------
    first : the first so many
    start, end : or those between two days, both included, ISO 8601; None for no bound
    """

    first: int = FIRST_SLIDES
    start: str | None = None
    end: str | None = None

    @property
    def chosen(self) -> bool:
        """Whether days are given."""
        return self.start is not None or self.end is not None

    def of(self, dates: Sequence[str]) -> NDArray[np.bool_]:
        """Which of the slides, in ascending order of dates, belong to it; [n] bool."""
        if not self.chosen:
            return np.arange(len(dates)) < self.first
        low, high = self.start or "", self.end or "9999"
        return np.array([low <= date[: len(low) or None] and date[: len(high)] <= high
                         for date in dates], bool)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Track:
    """The slides of one scanner in the order of their dates; n slides.

    Attributes
    ----------
    scanner : its name
    rows : [n] int64, places on the board
    days : [n] float64, days since 1970-01-01
    dates : ISO 8601
    shares : [n] float64
    median : [n] float64, rolling median
    baseline : [n] bool
    ewma, low, high : [n] float64, the chart and its limits as shares; None without a baseline
    centre : of the chart, as a share; None without a baseline
    note : why there is no chart, else ""
    """

    scanner: str
    rows: NDArray[np.int64]
    days: Floats
    dates: tuple[str, ...]
    shares: Floats
    median: Floats
    baseline: NDArray[np.bool_]
    ewma: Floats | None = None
    low: Floats | None = None
    high: Floats | None = None
    centre: float | None = None
    note: str = ""

    @property
    def out(self) -> NDArray[np.bool_]:
        """Which slides the chart has out of its limits; [n] bool."""
        if self.ewma is None or self.low is None or self.high is None:
            return np.zeros(len(self.rows), bool)
        beyond = (self.ewma > self.high) | (self.ewma < self.low)
        return np.asarray(beyond & ~self.baseline, bool)

    @property
    def drifting(self) -> bool:
        """Whether the latest slide is out of the limits."""
        return bool(len(self.rows) and self.out[-1])

    @property
    def since(self) -> str | None:
        """Date of the first slide of the present excursion; None while there is none."""
        return self.dates[self._start_of_excursion()] if self.drifting else None

    def words(self) -> str:
        """One line."""
        if self.note:
            return f"{self.scanner}: {self.note}"
        assert self.ewma is not None and self.centre is not None
        usual = f"{100 * float(np.median(self.shares[self.baseline])):.1f} %"
        if self.since is not None:
            way = "risen" if self.ewma[-1] > self.centre else "fallen"
            # Not the average, which by its clipping is behind a large change.
            lately = self.shares[self._start_of_excursion() :]
            now = f"{100 * float(np.median(lately)):.1f} %"
            slides = f"{len(lately)} slide{'s' * (len(lately) > 1)}"
            return (
                f"{self.scanner}: has {way} since {self.since[:10]}, from {usual} to {now} "
                f"(medians; {slides} since)"
            )
        if self.out.any():
            first, last = (self.dates[int(i)][:10] for i in np.flatnonzero(self.out)[[0, -1]])
            return f"{self.scanner}: within its limits now, out of them from {first} to {last}"
        return f"{self.scanner}: steady at {usual}"

    def _start_of_excursion(self) -> int:
        inside = np.flatnonzero(~self.out)
        return int(inside[-1]) + 1 if len(inside) else 0


@dataclass(frozen=True, eq=False)
class Drift:
    """Shares over time, scanner by scanner.

    Attributes
    ----------
    measure : which share
    tracks : those with most slides first
    n_dated : slides that have a share and a date
    n_undated : slides that have a share and none
    """

    measure: Measure
    tracks: tuple[Track, ...]
    n_dated: int
    n_undated: int

    @property
    def words(self) -> str:
        """One line for the cohort."""
        if not self.n_dated:
            if not self.n_undated:
                return "Not enough dates: no slide has a share yet."
            which = f"none of {self.n_undated:,} slides" if self.n_undated > 1 else "no slide"
            return f"Not enough dates: {which} says when it was scanned."
        charted = [track for track in self.tracks if not track.note]
        have = "slide has" if self.n_undated == 1 else "slides have"
        undated = f" {self.n_undated:,} {have} no date." if self.n_undated else ""
        if not charted:
            return f"Not enough dates for a control chart: {self.tracks[0].note}.{undated}"
        drifting = [track for track in charted if track.drifting]
        if not drifting:
            return f"No drift: {_listed([t.words() for t in charted[:3]])}.{undated}"
        return f"Drift: {_listed([track.words() for track in drifting])}.{undated}"


def drift_of(
    rows: Sequence[SlideRow], measure: Measure = "ood", baseline: Baseline | None = None
) -> Drift:
    """Order the slides of each scanner by date and chart their shares.

    Parameters
    ----------
    rows : of the board
    measure : which share
    baseline : which slides say what is usual; by default the first ten of each scanner
    """
    usable = [i for i, row in enumerate(rows) if getattr(row, measure) is not None and row.n_tiles]
    dated = [i for i in usable if rows[i].date is not None]
    groups: dict[str, list[int]] = {}
    for i in sorted(dated, key=lambda i: (str(rows[i].date), rows[i].name)):
        groups.setdefault(rows[i].scanner or UNKNOWN, []).append(i)
    tracks = [
        _track(scanner, [rows[i] for i in places], places, measure, baseline or Baseline())
        for scanner, places in groups.items()
    ]
    tracks.sort(key=lambda track: (-len(track.rows), track.scanner))
    return Drift(measure, tuple(tracks), len(dated), len(usable) - len(dated))


def _track(
    scanner: str,
    rows: Sequence[SlideRow],
    places: Sequence[int],
    measure: Measure,
    baseline: Baseline,
) -> Track:
    shares = np.array([getattr(row, measure) for row in rows], np.float64)
    tiles = np.array([row.n_tiles for row in rows], np.float64)
    dates = tuple(str(row.date) for row in rows)
    chosen = baseline.of(dates)
    known = Track(
        scanner, np.array(places, np.int64), np.array([day_of(date) for date in dates]), dates,
        shares, rolling_median(shares), chosen,
    )  # fmt: skip
    note = _why_no_chart(known, baseline)
    if note:
        return Track(**{**vars(known), "note": note})
    chart = control_chart(logit(shares, tiles), chosen, _binomial_spread(shares, tiles, chosen))
    as_shares = [expit(values) for values in chart]
    centre = float(expit(np.array([np.median(logit(shares, tiles)[chosen])]))[0])
    return Track(**{
        **vars(known), "ewma": as_shares[0], "low": as_shares[1], "high": as_shares[2],
        "centre": centre,
    })  # fmt: skip


def _why_no_chart(track: Track, baseline: Baseline) -> str:
    n, n_base = len(track.rows), int(track.baseline.sum())
    if baseline.chosen and n_base < LEAST_BASELINE:
        return f"{n_base} slides lie in the baseline's days, at least {LEAST_BASELINE} are needed"
    if n_base < LEAST_BASELINE or n == n_base:
        least = max(LEAST_BASELINE, baseline.first) + 1
        return f"{n} slide{'s' * (n != 1)} with a date, a chart needs {least}"
    if len({date[:10] for date in track.dates}) < 2:
        return f"all {n} slides were scanned on one day"
    return ""


def control_chart(
    values: Floats, baseline: NDArray[np.bool_], least_spread: float
) -> tuple[Floats, Floats, Floats]:
    """EWMA of values with its limits; three [n] float64.

    Parameters
    ----------
    values : [n] float64, in the order of time
    baseline : [n] bool, those that say what is usual
    least_spread : standard deviation that is assumed at least
    """
    usual = values[baseline]
    centre = float(np.median(usual))
    spread = max(MAD_TO_SIGMA * float(np.median(np.abs(usual - centre))), least_spread)
    clipped = np.clip(values, centre - CLIP * spread, centre + CLIP * spread)
    average, z = np.empty(len(values)), centre
    for i, value in enumerate(clipped.tolist()):
        z = LAMBDA * value + (1 - LAMBDA) * z
        average[i] = z
    n = np.arange(1, len(values) + 1)
    reach = LIMIT * spread * np.sqrt(LAMBDA / (2 - LAMBDA) * (1 - (1 - LAMBDA) ** (2 * n)))
    return average, centre - reach, centre + reach


def _binomial_spread(shares: Floats, tiles: Floats, baseline: NDArray[np.bool_]) -> float:
    """Standard deviation of the logit, were tiles independent: 1 / √(n p (1 − p))."""
    share = np.median((shares * tiles + 0.5)[baseline] / (tiles + 1)[baseline])
    return float(1 / np.sqrt(np.median(tiles[baseline]) * share * (1 - share)))


def logit(shares: Floats, tiles: Floats) -> Floats:
    """Empirical logit of shares of so many tiles, which is finite at 0 and 1, too."""
    above = shares * tiles
    return np.log((above + 0.5) / (tiles - above + 0.5))


def expit(values: Floats) -> Floats:
    """Inverse of the logit of a share."""
    return 1 / (1 + np.exp(-values))


def rolling_median(values: Floats, window: int = WINDOW) -> Floats:
    """Median of the ``window`` values around each, fewer at the ends; [n] float64."""
    half = window // 2
    padded = np.pad(values, half, constant_values=np.nan)
    if not len(values):
        return values
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)
    return np.asarray(np.nanmedian(windows, axis=1), np.float64)


def day_of(date: str) -> float:
    """Days since 1970-01-01 of an ISO 8601 date or time."""
    return (datetime.fromisoformat(date) - datetime(1970, 1, 1)).total_seconds() / 86400


def _listed(texts: Sequence[str]) -> str:
    return "; ".join(texts)
