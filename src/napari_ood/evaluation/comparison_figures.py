"""Figures of a comparison of methods: ROC, histograms, risk–coverage (matplotlib, on use)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import OodError
from napari_ood.evaluation.comparison import SeedScores, t_interval
from napari_ood.evaluation.figures import COLORS, DASHES, DPI, ID_COLOR, STYLE, require_matplotlib
from napari_ood.evaluation.metrics import roc_curve
from napari_ood.evaluation.selective import aurc, risk_coverage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Scores = Mapping[str, Sequence[SeedScores]]
Floats = NDArray[np.float64]
GRID = np.linspace(0, 1, 201)
N_BINS = 40


def write_figures(scores: Scores, sets: Sequence[str], folder: Path) -> list[Path]:
    """Write ``roc.png``, ``histograms.png`` (with foreign sets) and ``risk-coverage.png``.

    Parameters
    ----------
    scores : method → one ``SeedScores`` per seed
    sets : names of the foreign sets
    folder : which exists

    Raises
    ------
    OodError
        Without matplotlib, or if a file can't be written.
    """
    require_matplotlib()
    figures: dict[str, Callable[[Figure], None]] = {
        "risk-coverage": lambda figure: _risk_coverage(figure, scores)
    }
    if sets:
        figures["roc"] = lambda figure: _roc(figure, scores, sets)
        figures["histograms"] = lambda figure: _histograms(figure, scores, sets)
    return [_write(folder / f"{name}.png", draw) for name, draw in figures.items()]


def _write(path: Path, draw: Callable[[Figure], None]) -> Path:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(dpi=DPI)
        FigureCanvasAgg(figure)
        draw(figure)
        try:
            figure.savefig(path)
        except OSError as error:
            raise OodError(f"{path} cannot be written: {error}") from error
    return path


def _roc(figure: Figure, scores: Scores, sets: Sequence[str]) -> None:
    """One panel per foreign set; each seed thin, the mean over seeds at equal x thick."""
    columns = min(3, len(sets))
    rows = -(-len(sets) // columns)
    figure.set_size_inches(max(4.6, 3.1 * columns), 3.1 * rows + 0.9)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes, name in zip(grid.flat, sets, strict=False):
        for i, (method, seeds) in enumerate(scores.items()):
            curves = [_roc_on_grid(s.inside, s.outside[name]) for s in seeds]
            _curves(axes, GRID, curves, i, method)
        axes.plot([0, 1], [0, 1], color="#bbbbbb", lw=0.8, zorder=0)
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title=name)
    for axes in list(grid.flat)[len(sets) :]:
        axes.set_visible(False)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=3)
    figure.supxlabel("in-distribution tiles flagged by H(p̄) (share)", fontsize=9)
    figure.supylabel("foreign tiles flagged (share)", fontsize=9)


def _histograms(figure: Figure, scores: Scores, sets: Sequence[str]) -> None:
    """One panel per method: H(p̄) of all seeds, in distribution filled, foreign sets as lines."""
    figure.set_size_inches(7.2, 1.6 * len(scores) + 0.9)
    grid = figure.subplots(len(scores), 1, squeeze=False, sharex=True)
    top = max(
        float(values.max(initial=0.0))
        for seeds in scores.values()
        for s in seeds
        for values in (s.inside, *s.outside.values())
    )
    edges = np.linspace(0, max(top, 1e-6), N_BINS + 1)
    for axes, (method, seeds) in zip(grid.flat, scores.items(), strict=True):
        inside = _shares(np.concatenate([s.inside for s in seeds]), edges)
        axes.stairs(inside, edges, fill=True, color=ID_COLOR, alpha=0.6, label="in distribution")
        for i, name in enumerate(sets):
            values = np.concatenate([s.outside[name] for s in seeds])
            axes.stairs(_shares(values, edges), edges, lw=1.2, label=name, **_look(i))
        axes.set_title(method, fontsize=9)
        # Confident tiles pile up at 0 by the thousand; roots keep the rest visible.
        axes.set_yscale("function", functions=(np.sqrt, np.square))
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
    grid[-1, 0].set_xlabel("H(p̄), nats (height: square root of the share of tiles)")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside right upper")


def _risk_coverage(figure: Figure, scores: Scores) -> None:
    figure.set_size_inches(6.4, 4.2)
    axes = figure.subplots()
    top = 0.0
    for i, (method, seeds) in enumerate(scores.items()):
        curves = []
        for s in seeds:
            curve = risk_coverage(s.inside, s.wrong)
            curves.append(np.interp(GRID, curve.coverage, curve.risk))
        value = t_interval([aurc(s.inside, s.wrong) for s in seeds]).mean
        top = max(top, *(float(curve[GRID >= 0.05].max()) for curve in curves))
        _curves(axes, GRID, curves, i, f"{value:.4f}  {method}")
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1.08 * top + 1e-3),
        title="Risk–coverage by H(p̄), in distribution",
        xlabel="coverage (share of tiles kept)",
        ylabel="risk (share of kept tiles predicted wrongly)",
    )
    axes.legend(title="AURC", alignment="left")


def _roc_on_grid(inside: NDArray[Any], outside: NDArray[Any]) -> Floats:
    positive = np.r_[np.zeros(len(inside), bool), np.ones(len(outside), bool)]
    x, y = roc_curve(np.r_[inside, outside], positive)
    return np.interp(GRID, x, y)


def _curves(axes: Axes, x: Floats, curves: Sequence[Floats], index: int, label: str) -> None:
    look = _look(index)
    for curve in curves if len(curves) > 1 else ():
        axes.plot(x, curve, lw=0.6, alpha=0.45, **look)
    axes.plot(x, np.mean(curves, axis=0), lw=1.7, label=label, **look)


def _shares(values: NDArray[Any], edges: Floats) -> Floats:
    counts, _ = np.histogram(values, edges)
    return counts / len(values)


def _look(index: int) -> dict[str, Any]:
    dash = DASHES[(index // len(COLORS)) % len(DASHES)]
    return {"color": COLORS[index % len(COLORS)], "ls": dash}
