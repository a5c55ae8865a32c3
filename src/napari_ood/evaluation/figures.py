"""Figures of an evaluation: ROC, score histograms, risk–coverage (matplotlib, loaded on use)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import OodError
from napari_ood.evaluation.metrics import ood_auroc, roc_curve
from napari_ood.evaluation.selective import aurc, risk_coverage
from napari_ood.evaluation.table import CONTROL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from napari_ood.evaluation.measure import Evaluation

COLORS = ("#4477aa", "#ee6677", "#228833", "#aa3377", "#66ccee", "#ccbb44")
"""Paul Tol's *bright* scheme, safe for colour-blind readers; then again with other dashes."""

DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
ID_COLOR, FOREIGN_COLOR, INK = "#9a9a9a", "#cc3311", "#333333"
DPI, N_BINS, MAX_CURVES = 160, 36, 12
UNITS = {"entropy": "nats", "disagreement": "nats", "msp": "probability", "energy": "logits"}
UNITS |= {"dissent": "heads", "maxlogit": "logits", "max": "1 = threshold"}
WIDE = 8
"""A score whose values spread further, in steps of the in-distribution tiles, gets a wide axis."""

STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.constrained_layout.use": True,
}


def require_matplotlib() -> None:
    """Raise OodError with advice when matplotlib is not there."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise OodError("figures need matplotlib: pip install matplotlib") from None


def write_figures(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write PNGs of the default scores into ``folder``, which is made; return their paths.

    Per default score, of the foreign sets without the controls, ``roc-…`` and ``histogram-…``;
    ``risk-coverage`` where tiles are labelled.
    Needs no display.
    """
    require_matplotlib()
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, draw in _figures(evaluation):
        path = folder / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.png"
        _write(path, draw)
        written.append(path)
    return written


def _figures(evaluation: Evaluation) -> Iterator[tuple[str, Callable[[Figure], None]]]:
    for role, score in evaluation.default_scores.items():
        inside = evaluation.id_scores.get(score)
        if inside is None or np.isnan(inside).any():
            continue
        sets = {
            name: values[score]
            for name, values in evaluation.ood_scores.items()
            if not name.startswith(CONTROL) and not np.isnan(values[score]).any()
        }
        if not sets:
            continue
        title = f"{role}: {score}"
        yield f"roc {role}", partial(draw_roc, title=title, inside=inside, sets=sets)
        yield f"histogram {role}", partial(draw_histograms, title=title, inside=inside, sets=sets)
    quality = evaluation.quality
    if quality.n_labelled:
        scores = {
            f"{role}: {name}": evaluation.id_scores[name][quality.rows]
            for role, name in evaluation.default_scores.items()
            if name in evaluation.id_scores
        }
        yield "risk coverage", partial(draw_risk_coverage, scores=scores, errors=quality.errors)


def _write(path: Path, draw: Callable[[Figure], None]) -> None:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # A canvas of its own: neither pyplot's global state nor the user's backend is touched.
    with matplotlib.rc_context(STYLE):
        figure = Figure(dpi=DPI)
        FigureCanvasAgg(figure)
        draw(figure)
        figure.savefig(path)


def draw_roc(
    figure: Figure, title: str, inside: NDArray[Any], sets: Mapping[str, NDArray[Any]]
) -> None:
    """ROC curves of one score, one per foreign set, the hardest first in the legend."""
    figure.set_size_inches(7.0, 4.3)
    axes = figure.subplots()
    axes.set_anchor("W")
    values = {name: ood_auroc(inside, outside) for name, outside in sets.items()}
    hardest = sorted(values, key=lambda name: values[name])[:MAX_CURVES]
    for i, name in enumerate(hardest):
        x, y = _roc(inside, sets[name])
        axes.plot(x, y, label=f"{values[name]:.3f}  {name}", lw=1.7, clip_on=False, **_look(i))
    axes.plot([0, 1], [0, 1], color="#bbbbbb", lw=0.8, zorder=0)
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1),
        aspect="equal",
        title=title,
        xlabel="in-distribution tiles flagged (share)",
        ylabel="foreign tiles flagged (share)",
    )
    left_out = len(values) - len(hardest)
    heading = "AUROC  set" + (f" ({left_out} easier ones left out)" if left_out else "")
    axes.legend(title=heading, loc="center left", bbox_to_anchor=(1.02, 0.5), alignment="left")


def draw_histograms(
    figure: Figure, title: str, inside: NDArray[Any], sets: Mapping[str, NDArray[Any]]
) -> None:
    """Histograms of one score: each foreign set against the in-distribution tiles."""
    columns = min(3, len(sets))
    n_rows = -(-len(sets) // columns)
    figure.set_size_inches(max(5.0, 3.1 * columns), 1.2 + 1.5 * n_rows)
    grid = figure.subplots(n_rows, columns, sharex=True, squeeze=False)
    scale = _Scale.of(inside, np.concatenate([inside, *sets.values()]))
    threshold = float(np.quantile(inside, 0.95))
    for axes, (name, outside) in zip(grid.flat, sets.items(), strict=False):
        scale.apply(axes)
        _histogram(axes, inside, scale.edges, ID_COLOR, "in distribution")
        _histogram(axes, outside, scale.edges, FOREIGN_COLOR, "foreign")
        axes.axvline(threshold, color=INK, lw=0.9, ls=(0, (3, 2)))
        axes.set_title(f"{name} ({len(outside):,} tiles)", fontsize=9, fontweight="normal")
        axes.set_yticks([])
        axes.set_ylim(bottom=0)
        axes.spines["left"].set_visible(False)
    used = len(sets)
    for axes in grid.flat[used:]:
        axes.set_visible(False)
    for column in range(columns):
        last = grid[(used - 1 - column) // columns, column]
        last.tick_params(labelbottom=True)
        last.set_xlabel(_label(title))
    handles, labels = grid[0, 0].get_legend_handles_labels()
    handles.append(grid[0, 0].lines[0])
    labels.append("95 % of in-distribution tiles lie left of this")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    figure.legend(handles, labels, loc="outside lower left", ncols=3)


def draw_risk_coverage(
    figure: Figure, scores: Mapping[str, NDArray[Any]], errors: NDArray[np.bool_]
) -> None:
    """Share of wrong predictions among the tiles that are kept, the least uncertain first."""
    from matplotlib.ticker import PercentFormatter

    figure.set_size_inches(6.4, 4.8)
    axes = figure.subplots()
    first = max(0.02, 20 / len(errors))  # of a handful of tiles the rate of errors is noise
    top = float(errors.mean())
    for i, (name, values) in enumerate(scores.items()):
        if np.isnan(values).any():
            continue
        curve = risk_coverage(values, errors)
        label = f"{aurc(values, errors):.3f}  {name}"
        settled = curve.coverage >= first
        axes.plot(curve.coverage[settled], curve.risk[settled], label=label, lw=1.7, **_look(i))
        top = max(top, float(curve.risk[settled].max(initial=0.0)))
    ideal = risk_coverage(errors.astype(float) + np.linspace(0, 0.5, len(errors)), errors)
    axes.plot(ideal.coverage, ideal.risk, color="#999999", lw=1.0, ls=(0, (1, 1)), label="ideal")
    axes.set(
        xlim=(0, 1),
        ylim=(0, top * 1.08 + 1e-3),
        title="Risk–coverage, in distribution",
        xlabel="coverage: tiles kept, the least uncertain first",
        ylabel="risk: kept tiles predicted wrongly",
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    figure.legend(title="AURC  score", alignment="left", loc="outside lower left")


def _roc(inside: NDArray[Any], outside: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    positive = np.r_[np.zeros(len(inside), bool), np.ones(len(outside), bool)]
    return roc_curve(np.r_[inside, outside], positive)


def _label(title: str) -> str:
    """Axis label for a title such as ``ood: mahalanobis@layer1``, with the score's unit."""
    method = re.split(r"[@(]", title.rpartition(": ")[2])[0]
    return f"score ({UNITS[method]})" if method in UNITS else "score (distance)"


def _look(index: int) -> dict[str, Any]:
    dash = DASHES[(index // len(COLORS)) % len(DASHES)]
    return {"color": COLORS[index % len(COLORS)], "ls": dash}


@dataclass(frozen=True)
class _Scale:
    """An axis for scores, linear, or squeezed where foreign tiles score far beyond all others."""

    name: str
    options: Mapping[str, float]
    edges: NDArray[np.float64]

    @classmethod
    def of(cls, inside: NDArray[Any], everything: NDArray[Any]) -> _Scale:
        low, high = np.quantile(everything, [0.001, 0.999]).astype(float).tolist()
        middle, threshold = np.quantile(inside, [0.5, 0.95]).astype(float).tolist()
        high = high if high > low else low + 1.0
        unit = max(threshold - middle, 1e-9 * (high - low))
        if high - middle < WIDE * unit:
            return cls("linear", {}, np.linspace(low, high, N_BINS + 1))
        if low > 0:
            return cls("log", {}, np.geomspace(low, high, N_BINS + 1))
        steps = np.linspace(np.arcsinh(low / unit), np.arcsinh(high / unit), N_BINS + 1)
        return cls("asinh", {"linear_width": unit}, np.sinh(steps) * unit)

    def apply(self, axes: Axes) -> None:
        """Give the axis this scale, with ticks in plain numbers."""
        from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

        axes.set_xscale(self.name, **self.options)
        if self.name == "log":
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.xaxis.set_minor_formatter(NullFormatter())
        if self.name != "linear":
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _histogram(
    axes: Axes, values: NDArray[Any], edges: NDArray[np.float64], color: str, label: str
) -> None:
    """Shares per bin, so that sets of any size compare; what lies outside is in the end bins."""
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    axes.stairs(counts / len(values), edges, fill=True, color=color, alpha=0.45, label=label)
    axes.stairs(counts / len(values), edges, color=color, lw=1.0)
