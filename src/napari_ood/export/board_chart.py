"""The drift of one scanner as an SVG: dots are slides, the band is what is usual."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_ood.board.drift import Track
    from napari_ood.board.row import SlideRow

WIDTH, HEIGHT = 1400, 230
LEFT, RIGHT, TOP, FOOT = 52, 14, 12, 26
EXPECTED = 0.05
LEAST_TOP = 0.12
"""The axis goes up to this at least: the noise of a cohort that is well must not fill it."""
LEVELS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
LEVELS_PX = 22
"""Least distance of two levels that are written."""
MOST_DATES = 10
EPOCH = date(1970, 1, 1)


def drift_svg(track: Track, rows: Sequence[SlideRow]) -> str:
    """SVG of a track; names in it are escaped, and each dot has ``data-row``, its place."""
    if not len(track.rows):
        return ""
    axes = _Axes(track)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(track.words())}">',
        *_frame(axes),
    ]
    if track.ewma is not None and track.low is not None and track.high is not None:
        band = [*zip(track.days, track.high, strict=True)]
        band += [*zip(track.days[::-1], track.low[::-1], strict=True)]
        parts.append(f'<polygon class="band" points="{axes.points(band)}"/>')
        assert track.centre is not None
        y = axes.y(track.centre)
        parts.append(f'<line class="centre" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
    line = axes.points(zip(track.days, track.median, strict=True))
    parts.append(f'<polyline class="median" points="{line}"/>')
    if track.ewma is not None:
        line = axes.points(zip(track.days, track.ewma, strict=True))
        parts.append(f'<polyline class="ewma" points="{line}"/>')
    parts += _dots(axes, track, rows)
    return "".join([*parts, "</svg>"])


class _Axes:
    """Days and shares to the SVG's pixels."""

    def __init__(self, track: Track) -> None:
        self.first, self.last = float(track.days[0]), float(track.days[-1])
        if self.last - self.first < 1:
            self.first, self.last = self.first - 0.5, self.last + 0.5
        top = float(track.shares.max())
        if track.high is not None:
            # Limits that reach far beyond all slides would squeeze these together.
            top = max(top, min(float(track.high.max()), 2 * top))
        self.top = min(1.0, max(LEAST_TOP, 1.08 * top))

    def x(self, day: float) -> float:
        share = (day - self.first) / (self.last - self.first)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, share: float) -> float:
        """On a square-root scale: 2 and 5 % are told apart beside 70 %."""
        place = float(np.sqrt(min(max(share / self.top, 0.0), 1.0)))
        return round(TOP + (1 - place) * (HEIGHT - TOP - FOOT), 1)

    def points(self, pairs: object) -> str:
        return " ".join(f"{self.x(day)},{self.y(share)}" for day, share in pairs)  # type: ignore[attr-defined]

    def levels(self) -> list[float]:
        """Round shares that are not written on top of one another, from above."""
        chosen: list[float] = []
        for level in sorted(LEVELS, reverse=True):
            free = not chosen or self.y(level) - self.y(chosen[-1]) >= LEVELS_PX
            if level <= self.top and (free or level == 0):
                chosen.append(level)
        return chosen

    def dates(self) -> list[tuple[float, str]]:
        """Round days and how they are written: years, months, or days."""
        first, last = EPOCH + timedelta(self.first), EPOCH + timedelta(self.last)
        months = (last.year - first.year) * 12 + last.month - first.month
        if months >= 2:
            step = next((s for s in (1, 2, 3, 6, 12, 24, 60) if months / s <= MOST_DATES), 120)
            every = range(first.year * 12, last.year * 12 + 12)
            days = [date(m // 12, m % 12 + 1, 1) for m in every if m % step == 0]
            form = "%Y" if step >= 12 else "%b %Y"
        else:
            n = (last - first).days
            step = next((s for s in (1, 2, 7, 14) if n / s <= MOST_DATES), 30)
            days = [first + timedelta(i) for i in range(0, n + 2, step)]
            form = "%d %b %Y"
        ticks = [(float((day - EPOCH).days), day.strftime(form)) for day in days]
        return [(day, text) for day, text in ticks if self.first <= day <= self.last]


def _frame(axes: _Axes) -> list[str]:
    parts = []
    for level in axes.levels():
        y = axes.y(level)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{y + 4}" class="end">{100 * level:.0f} %</text>')
    y = axes.y(EXPECTED)
    parts.append(f'<line class="expected" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
    for day, text in axes.dates():
        x = min(max(axes.x(day), LEFT + 20), WIDTH - 36)
        parts.append(f'<text x="{x}" y="{HEIGHT - 8}" class="mid">{text}</text>')
    return parts


def _dots(axes: _Axes, track: Track, rows: Sequence[SlideRow]) -> list[str]:
    dots = []
    for place, day, share, out in zip(
        track.rows.tolist(), track.days, track.shares, track.out, strict=True
    ):
        row = rows[place]
        words = escape(f"{row.name}: {100 * share:.1f} %, {str(row.date)[:10]}")
        mark = f"dot {row.light}{' out' if out else ''}"
        dots.append(
            f'<circle class="{mark}" data-row="{place}" cx="{axes.x(float(day))}" '
            f'cy="{axes.y(float(share))}" r="4"><title>{words}</title></circle>'
        )
    return dots
