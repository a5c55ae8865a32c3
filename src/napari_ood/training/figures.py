"""Figures of a training report (matplotlib, loaded when a figure is drawn)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ood.training.config import EpochRecord
from napari_ood.training.lr_range import LrRange
from napari_ood.training.usage import HeadUsage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, RED, GREY = "#4477aa", "#cc3311", "#888888"


def draw_history(path: Path, history: Sequence[EpochRecord]) -> None:
    """Loss, NLL, accuracy and learning rate per epoch."""
    figure, (left, middle, right) = _figure(3)
    epochs = [record.epoch + 1 for record in history]
    left.plot(epochs, [r.train_loss for r in history], color=GREY, label="training loss")
    left.plot(epochs, [r.nll for r in history], color=BLUE, label="held-out NLL")
    best = min(history, key=lambda r: r.nll)
    left.plot(best.epoch + 1, best.nll, "o", color=RED, label="kept")
    middle.plot(epochs, [r.train_accuracy for r in history], color=GREY, label="training")
    middle.plot(epochs, [r.accuracy for r in history], color=BLUE, label="held out")
    right.plot(epochs, [r.learning_rate for r in history], color=BLUE)
    right.set_yscale("log")
    _whole_numbers(left.xaxis, middle.xaxis, right.xaxis)
    titles = ("Loss (nats)", "Accuracy", "Learning rate, end of epoch")
    for axes, title in zip((left, middle, right), titles, strict=True):
        axes.set(title=title, xlabel="epoch")
    for axes in (left, middle):
        axes.legend(frameon=False)
    _save(figure, path)


def draw_lr_range(path: Path, test: LrRange) -> None:
    """Smoothed loss against learning rate, and the suggestion."""
    figure, (axes,) = _figure(1)
    axes.plot(test.rates, test.losses, color=BLUE)
    axes.axvline(test.suggestion, color=RED, linestyle="--", label=f"used: {test.suggestion:g}")
    axes.set(xscale="log", title="Learning rate range test", xlabel="learning rate")
    axes.set_ylabel("smoothed loss (nats)")
    axes.legend(frameon=False)
    _save(figure, path)


def draw_heads(path: Path, usage: HeadUsage) -> None:
    """Win share, accuracy per head, agreement matrix."""
    figure, (left, middle, right) = _figure(3)
    heads = range(len(usage.win_share))
    left.bar(heads, usage.win_share, color=BLUE)
    left.axhline(1 / len(usage.win_share), color=RED, linestyle="--")
    left.set(title="Win share (dashed: equal)", xlabel="head")
    middle.plot(heads, usage.accuracy, "o", color=BLUE)
    middle.axhline(usage.ensemble_accuracy, color=RED, linestyle="--")
    middle.set(title="Accuracy (dashed: all heads)", xlabel="head")
    picture = right.imshow(usage.agreement, cmap="viridis", vmax=1.0)
    right.set(title="Agreement", xlabel="head", ylabel="head")
    figure.colorbar(picture, ax=right)
    _whole_numbers(left.xaxis, middle.xaxis, right.xaxis, right.yaxis)
    _save(figure, path)


def _figure(n: int) -> tuple[Figure, Sequence[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.0 * n, 3.2), layout="constrained")
    return figure, figure.subplots(1, n, squeeze=False)[0]


def _whole_numbers(*axes: Any) -> None:
    for axis in axes:
        axis.get_major_locator().set_params(integer=True)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=100)
