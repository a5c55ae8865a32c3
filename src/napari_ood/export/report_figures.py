"""Figures of a report: overview with overlays, histograms, risk–coverage (matplotlib)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import SlideError
from napari_ood.evaluation.figures import STYLE
from napari_ood.export.report_content import TITLES
from napari_ood.export.report_regions import read_field
from napari_ood.passport.check import percent
from napari_ood.scores import score_bounds
from napari_ood.scores.names import score_in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from napari_ood.export.results import Results
    from napari_ood.scores.thresholds import Threshold
    from napari_ood.slides import Slide

RGB = NDArray[np.uint8]
FAMILIAR, SLIDE, LIMIT, QUIET = "#9a9a9a", "#0b6e99", "#b3261e", "#5a5a5a"
OVERVIEW_PX = 1400
N_BINS = 48
WIDE = 20.0
"""Ratio of the largest to the median score from which the axis is logarithmic."""
_OOD_STOPS = ("#21918c", "#35b779", "#9fda3a", "#fde725")
_UNCERTAIN_STOPS = ("#fed976", "#feb24c", "#f16913", "#7f2704")
REPORT_STYLE: Any = {**STYLE, "svg.fonttype": "path", "pdf.fonttype": 42}


@dataclass(frozen=True, eq=False)
class Overview:
    """The slide around the tiles of the run, small.

    Attributes
    ----------
    pixels : (h, w, 3) uint8; None without the slide
    field : y, x, h, w in level-0 px that it shows
    """

    pixels: RGB | None
    field: tuple[float, float, float, float]

    @property
    def aspect(self) -> float:
        """Height ÷ width."""
        return self.field[2] / self.field[3]


def overview_of(results: Results, slide: Slide | None) -> Overview:
    """Read the part of the slide that was run, with a margin."""
    run = results.scored.run
    shape = run.provenance["slide"]["size"]
    y0, x0, y1, x1 = 0.0, 0.0, float(shape[0]), float(shape[1])
    if run.n_tiles:
        boxes = run.boxes
        pad = 0.02 * max(shape)
        y0, x0 = np.maximum(boxes[:, :2].min(axis=0) - pad, 0).tolist()
        y1, x1 = np.minimum((boxes[:, :2] + boxes[:, 2:]).max(axis=0) + pad, shape).tolist()
    field = (y0, x0, max(y1 - y0, 1.0), max(x1 - x0, 1.0))
    if slide is None:
        return Overview(None, field)
    scale = OVERVIEW_PX / max(field[2:])
    size = max(1, round(field[2] * scale)), max(1, round(field[3] * scale))
    try:
        return Overview(read_field(slide, field, size), field)
    except SlideError:  # a damaged tile must not cost the report
        return Overview(None, field)


def overview_panels(results: Results) -> tuple[str, ...]:
    """What the overview shows beside the slide: the combined map, then one per threshold."""
    if not results.scored.run.n_tiles or results.scored.card.whole_image:
        return ("slide",)
    return ("slide", "combined", *results.thresholds)


def draw_overview(axes: Axes, results: Results, overview: Overview, panel: str) -> None:
    """Draw one panel: the slide, the combined map, or a score above its threshold."""
    y, x, h, w = overview.field
    axes.set(xlim=(x, x + w), ylim=(y + h, y), aspect="equal", xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=True, color="#cccccc")
    if overview.pixels is not None:
        axes.imshow(overview.pixels, extent=(x, x + w, y + h, y), interpolation="antialiased")
    if panel == "slide":
        axes.set_title("The slide" if overview.pixels is not None else "The slide is not at hand")
        _scale_bar(axes, results, overview)
    elif panel == "combined":
        axes.set_title("Prediction, fading to white where unsure")
        _draw_map(axes, results, _combined(results))
        _class_legend(axes, results)
    else:
        axes.set_title(TITLES.get(panel, panel))
        image = _score_map(results, panel)
        _draw_map(axes, results, image)
        _outline(axes, results, results.flagged[panel])


def _draw_map(axes: Axes, results: Results, rgba: NDArray[np.float32]) -> None:
    grid = results.scored.run.grid
    top, left = grid.region[:2]
    height, width = rgba.shape[0] * grid.pitch[0], rgba.shape[1] * grid.pitch[1]
    axes.imshow(
        rgba, extent=(left, left + width, top + height, top), interpolation="nearest", zorder=2
    )


def _combined(results: Results) -> NDArray[np.float32]:
    """Hue = class, fading to white with uncertainty, on the grid; (rows, cols, 4) float32."""
    from matplotlib.colors import to_rgb

    scored = results.scored
    hues = np.array([to_rgb(color) for color in scored.card.colors], np.float32)
    name = results.scores.get("uncertainty", "entropy")
    low, high = _limits(results, name)
    fade = np.nan_to_num(np.clip((scored.score(name) - low) / (high - low), 0, 1), nan=1.0)
    color = hues[scored.prediction()]
    rgba = np.concatenate([color + (1 - color) * fade[:, None], np.full((len(fade), 1), 0.6)], 1)
    rgba[np.isnan(scored.confidence()), 3] = 0
    return _spread(results, rgba.astype(np.float32))


def _score_map(results: Results, role: str) -> NDArray[np.float32]:
    """Score from transparent to opaque, on the grid; (rows, cols, 4) float32."""
    name = results.thresholds[role].score
    values = results.scored.score(name)
    low, high = _limits(results, name)
    place = np.clip((values - low) / (high - low), 0, 1)
    rgba = np.asarray(_ramp(role)(np.nan_to_num(place)), np.float32)
    rgba[:, 3] = np.where(np.isnan(place), 0, 0.1 + 0.65 * np.nan_to_num(place))
    return _spread(results, rgba)


def _spread(results: Results, rgba: NDArray[np.float32]) -> NDArray[np.float32]:
    run = results.scored.run
    out = np.zeros((*run.done.shape, 4), np.float32)
    out[run.done] = rgba
    return out


def _ramp(role: str) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    stops = _UNCERTAIN_STOPS if role == "uncertainty" else _OOD_STOPS
    return LinearSegmentedColormap.from_list(role, stops)


def _limits(results: Results, name: str) -> tuple[float, float]:
    """The score's fixed colour range, the same on every slide where there is a reference."""
    scored = results.scored
    if scored.reference is not None:
        return scored.reference.display_range(name)
    low, high = score_bounds(name, scored.card.n_classes, scored.card.n_heads)
    if np.isfinite([low, high]).all():
        return low, high
    known = scored.score(name)
    known = known[np.isfinite(known)]
    if not len(known):
        return 0.0, 1.0
    low, high = (float(q) for q in np.quantile(known, [0.05, 0.995]))
    return low, high if high > low else low + 1.0


def _outline(axes: Axes, results: Results, flagged: NDArray[np.bool_]) -> None:
    """Edges between flagged tiles and others."""
    from matplotlib.collections import LineCollection

    grid = results.scored.run.grid
    mask = np.pad(results.scored.on_grid(flagged, np.False_), 1)
    rows, cols = np.nonzero(mask[1:, 1:-1] != mask[:-1, 1:-1])
    across = np.stack([np.stack([cols, rows], 1), np.stack([cols + 1, rows], 1)], 1)
    rows, cols = np.nonzero(mask[1:-1, 1:] != mask[1:-1, :-1])
    down = np.stack([np.stack([cols, rows], 1), np.stack([cols, rows + 1], 1)], 1)
    lines = np.concatenate([across, down]).astype(np.float64)
    lines *= (grid.pitch[1], grid.pitch[0])
    lines += (grid.region[1], grid.region[0])
    axes.add_collection(
        LineCollection(list(lines), colors="#111111", linewidths=0.7, zorder=3, rasterized=True)
    )


def _scale_bar(axes: Axes, results: Results, overview: Overview) -> None:
    if results.mpp is None:
        return
    y, x, h, w = overview.field
    target = 0.22 * w * results.mpp[1]
    power = 10.0 ** np.floor(np.log10(target))
    length = max(step * power for step in (1, 2, 5) if step * power <= target)
    px = length / results.mpp[1]
    label = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    bottom = y + 0.965 * h
    axes.plot([x + 0.03 * w, x + 0.03 * w + px], [bottom] * 2, color="white", lw=5, zorder=4)
    axes.plot([x + 0.03 * w, x + 0.03 * w + px], [bottom] * 2, color="black", lw=2.5, zorder=5)
    text = axes.text(
        x + 0.03 * w + px / 2, bottom - 0.012 * h, label, ha="center", va="bottom", zorder=5
    )
    text.set_bbox({"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1})


def _class_legend(axes: Axes, results: Results) -> None:
    from matplotlib.patches import Patch

    card = results.scored.card
    handles = [Patch(color=c, label=n) for n, c in zip(card.classes, card.colors, strict=True)]
    axes.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=3, fontsize=7
    )


def draw_histogram(axes: Axes, results: Results, role: str, threshold: Threshold) -> None:
    """Scores of this slide in front of those of in-distribution tiles, with the threshold."""
    name = threshold.score
    values = results.scored.score(name)
    values = values[np.isfinite(values)]
    familiar = results.scored.familiar(name)
    familiar = np.empty(0, np.float32) if familiar is None else familiar[np.isfinite(familiar)]
    edges, log = _edges(np.concatenate([values, familiar]), threshold.value)
    if log:
        axes.set_xscale("log")
    for data, color, label in (
        (familiar, FAMILIAR, f"in distribution ({len(familiar):,} tiles)"),
        (values, SLIDE, f"this slide ({len(values):,} tiles)"),
    ):
        if len(data):
            counts, _ = np.histogram(np.clip(data, edges[0], edges[-1]), edges)
            share = counts / len(data)
            axes.stairs(share, edges, fill=True, color=color, alpha=0.35, label=label)
            axes.stairs(share, edges, color=color, lw=1.1)
    axes.axvline(threshold.value, color=LIMIT, lw=1.3, ls=(0, (4, 2)), label="threshold")
    axes.set(
        title=TITLES.get(role, role),
        xlabel=f"{score_in_words(name, results.scored.card)}   (more is worse →)",
        yticks=[],
    )
    axes.set_ylim(bottom=0)
    axes.spines["left"].set_visible(False)
    axes.legend(
        loc="upper left", bbox_to_anchor=(-0.02, -0.3), ncols=3, fontsize=7, columnspacing=1
    )


def _edges(values: NDArray[np.float32], threshold: float) -> tuple[NDArray[np.float64], bool]:
    shown = np.append(values.astype(np.float64), threshold)
    low, high = np.quantile(shown, [0.001, 0.999]).tolist() if len(values) else (0.0, 1.0)
    low, high = min(low, threshold), max(high, threshold)
    if high - low <= 1e-9 * max(abs(high), 1.0):
        low, high = low - 0.5, high + 0.5
    if low > 0 and high > WIDE * float(np.median(shown)):
        return np.geomspace(low, high, N_BINS + 1), True
    return np.linspace(low, high, N_BINS + 1), False


def draw_risk(axes: Axes, results: Results, role: str, threshold: Threshold) -> bool:
    """Risk against coverage on held-out tiles with the operating point; False without them."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    curve = results.scored.risk_curve(threshold.score)
    if curve is None:
        return False
    first = np.searchsorted(curve.coverage, 0.02)
    axes.plot(curve.coverage[first:], curve.risk[first:], color=QUIET, lw=1.6)
    point = results.scored.held_out(threshold)
    if point is not None and point.risk is not None:
        axes.plot([point.coverage], [point.risk], "o", color=LIMIT, ms=7, zorder=4)
        axes.annotate(
            f"{percent(point.risk, 1)} errors\namong the {percent(point.coverage)} kept",
            (point.coverage, point.risk),
            xytext=(-8, 14),
            textcoords="offset points",
            ha="right",
            fontsize=8,
        )
    top = float(curve.risk[first:].max(initial=0.0))
    axes.set(
        xlim=(0, 1),
        ylim=(0, top * 1.45 + 0.01),
        title=TITLES.get(role, role),
        xlabel="held-out tiles kept, least suspicious first",
        ylabel="wrong among kept",
    )
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1, symbol=" %"))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    return True


def watch(axes: Axes, look: Callable[[], None]) -> None:
    """Have ``look`` called whenever the axes are drawn, before and after what takes long in them.

    What it raises ends the drawing: a figure with several large maps takes seconds.
    """
    from matplotlib.artist import Artist

    class Looking(Artist):
        def draw(self, renderer: Any) -> None:
            look()

    for zorder in (-1.0, 2.5, 10.0):
        artist = Looking()
        artist.set_zorder(zorder)
        artist.set_in_layout(False)
        axes.add_artist(artist)


def new_figure(width: float, height: float) -> Figure:
    """A figure of its own, in inches: neither pyplot's state nor the user's backend is touched."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure
