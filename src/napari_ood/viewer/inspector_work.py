"""What the inspector works out in threads: reading a tile, explaining it, testing a map. No Qt."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import OodError
from napari_ood.slides.tiles import read_tiles
from napari_ood.viewer.inspector_state import (
    Answer,
    Cell,
    Look,
    Randomised,
    Shown,
    Tested,
    Wish,
)
from napari_ood.viewer.tile_pixels import (
    sample_cells,
    stitch,
    stitched_placement,
)

if TYPE_CHECKING:
    from napari_ood.analysis.scored import ScoredRun
    from napari_ood.explain.explainer import Explainer
    from napari_ood.explain.target import Target
    from napari_ood.models import Bundle, Card
    from napari_ood.slides import Slide
    from napari_ood.viewer.maps import Maps
    from napari_ood.viewer.task import Task
    from napari_ood.viewer.why import Why

log = logging.getLogger(__name__)

T = TypeVar("T")
Floats = NDArray[np.float32]
Stored = tuple[Floats, Floats | None]
"""A tile's logits [M, C] and features [D], which a run for prediction only does not hold."""

NO_SLIDE = (
    "The slide of this run is not open, so its pixels cannot be seen: say in the dock OOD where "
    "the slide is."
)
RUNNING = "The run is going on: what its heads and features say is known when it has ended."
NOT_STORED = "The run is not where it was stored any more: open it from where it is now."
NO_BUNDLE = (
    "The bundle that made this run is not at hand: put it where it was, then open the run again."
)
NO_FEATURES = (
    "This run was made for its prediction only and holds no features, so tiles cannot be compared "
    "with the bundle's: run the slide again with features, into another output."
)
N_SCALE_TILES = 16
"""Tiles of the slide that the end of the colour scale is taken from."""


@dataclass(frozen=True, eq=False)
class Subject:
    """The run that tiles are of; ``scored`` is None while it goes on, or where it is gone."""

    slide: Slide | None
    maps: Maps
    scored: ScoredRun | None
    running: bool


def look_at(
    subject: Subject, cell: Cell, why: Why, publish: Callable[[Look], None], task: Task[Look]
) -> Look:
    """Find out what is known of a tile, publishing each answer; the quickest come first."""
    tile = _tried(lambda: _pixels(subject, cell))
    look = Look(cell, pixels=tile)
    publish(look)
    stored = _tried(lambda: _stored(subject, cell))
    parts: dict[str, Callable[[], Any]] = {
        "heads": lambda: _heads(subject, stored, why),
        "cause": lambda: _cause(subject, tile, stored, why),
        "prototypes": lambda: _prototypes(subject, stored, why),
    }
    for part, answer in parts.items():
        if task.cancelled:
            return look
        answered: Any = {part: _tried(answer)}
        look = replace(look, **answered)
        publish(look)
    return look


class _NoAnswer(OodError):
    """There is no answer, and this is why."""


def _tried(answer: Callable[[], T]) -> Answer[T]:
    try:
        return Answer(answer())
    except (OodError, ValueError) as error:  # ValueError: numbers that are not finite
        return Answer(None, str(error))
    except Exception as error:
        log.exception("an answer failed")  # the others can still be had
        return Answer(None, f"This failed: {type(error).__name__}: {error}")


def _pixels(subject: Subject, cell: Cell) -> NDArray[np.uint8]:
    if subject.slide is None:
        raise _NoAnswer(NO_SLIDE)
    return np.asarray(read_tiles(subject.slide, subject.maps.grid, [cell])[0])


def _stored(subject: Subject, cell: Cell) -> Stored:
    if subject.running:
        raise _NoAnswer(RUNNING)
    if subject.scored is None:
        raise _NoAnswer(NOT_STORED)
    return subject.scored.run.tile(*cell)


def _heads(subject: Subject, stored: Answer[Stored], why: Why) -> object:
    if stored.value is None or subject.scored is None:
        raise _NoAnswer(stored.words)
    return why.heads(stored.value[0], subject.scored.temperature)


def _prototypes(subject: Subject, stored: Answer[Stored], why: Why) -> object:
    if stored.value is None:
        raise _NoAnswer(stored.words)
    if stored.value[1] is None:
        raise _NoAnswer(NO_FEATURES)
    return why.prototypes(require_bundle(subject.maps), stored.value[1])


def _cause(
    subject: Subject,
    tile: Answer[NDArray[np.uint8]],
    stored: Answer[Stored],
    why: Why,
) -> object:
    if tile.value is None:
        raise _NoAnswer(tile.words)
    # Pixels tell of causes while the run goes on; its scores are known when it has ended.
    logits, features = stored.value or (None, None)
    return why.cause(require_bundle(subject.maps), tile.value, logits, features)


def require_bundle(maps: Maps) -> Bundle:
    """The bundle that made maps; OodError with advice where it is not at hand."""
    if maps.bundle is None:
        raise _NoAnswer(NO_BUNDLE)
    return maps.bundle


# -------------------------------------------------------------------------------- saliency


@dataclass(frozen=True, eq=False)
class Explained:
    """A map, the end of the slide's scale, and the layers that the network has."""

    shown: Shown
    layers: tuple[str, ...]


def explain(
    subject: Subject,
    cells: tuple[Cell, ...],
    wish: Wish,
    target: Target,
    title: str,
    explainer: Explainer,
    limit: float | None,
    task: Task[Explained],
) -> Explained:
    """Make the saliency map of tiles, on the one scale of the slide.

    ``limit`` is the end of that scale where it is known already.
    """
    if subject.slide is None:
        raise _NoAnswer(NO_SLIDE)
    maps = subject.maps
    if limit is None:
        sample = read_tiles(subject.slide, maps.grid, sample_cells(maps, N_SCALE_TILES))
        limit = explainer.scale(wish.method, target, sample, wish.layer)
    tiles = read_tiles(subject.slide, maps.grid, cells)
    saliency = explainer.explain(
        tiles, wish.method, target,
        layer=wish.layer, on_progress=task.tell, cancel=lambda: task.cancelled,
    )  # fmt: skip
    shown = Shown(
        wish=wish,
        target=target,
        cells=cells,
        saliency=saliency,
        values=stitch(saliency.values, cells, maps.grid),
        place=stitched_placement(cells, maps.grid, maps.mpp),
        limit=limit,
        title=title,
    )
    return Explained(shown, explainer.layers())


def randomise(
    subject: Subject, shown: Shown, explainer: Explainer, why: Why, task: Task[object]
) -> Randomised:
    """Compare the first tile's map with the one that random weights give."""
    tile = _pixels(subject, shown.cells[0])
    sanity = why.randomise(
        explainer, tile, shown.wish.method, shown.target, shown.wish.layer,
        task.tell, lambda: task.cancelled,
    )  # fmt: skip
    maps = sanity.original.values[0], sanity.randomised.values[0]
    return Randomised(*maps, sanity.trust, sanity.words, shown)


def curves_of(
    subject: Subject, shown: Shown, explainer: Explainer, why: Why, task: Task[object]
) -> Tested:
    """Delete and insert the first tile's most salient pixels."""
    tile = _pixels(subject, shown.cells[0])
    values = shown.saliency.values[0]
    curves = why.curves(explainer, tile, values, shown.target, task.tell, lambda: task.cancelled)
    return Tested(curves, plotted(shown.target, subject.maps.card), shown)


def plotted(target: Target, card: Card) -> str:
    """What the curves of a target are of: "Probability of tumour"."""
    words = target.words(card)
    if target.kind == "class":
        return f"Probability of {words}"
    if target.kind == "head":
        return f"Probability, {words}"
    unit = f" ({target.unit})" if target.kind == "uncertainty" else ""
    return f"{words[:1].upper()}{words[1:]}{unit}"
