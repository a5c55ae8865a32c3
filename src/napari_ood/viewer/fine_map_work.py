"""What a thread does for a map finer than a tile: load, find the scale, fill. No Qt, no napari."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_ood.explain.mosaic import Mosaic, sample_tiles
from napari_ood.explain.tile_mapper import SaliencyMapper, TileMapper
from napari_ood.torch_import import load_torch

if TYPE_CHECKING:
    from napari_ood.explain.explainer import Explainer
    from napari_ood.explain.target import Target
    from napari_ood.models import Bundle
    from napari_ood.slides import Slide
    from napari_ood.viewer.job import Box
    from napari_ood.viewer.task import Task

LOADING = "Loading the network…"
SCALING = "Finding the colour scale of the slide…"
FINDING = "Finding tissue…"
FILLING = "Filling the map…"


@dataclass(frozen=True)
class FineRequest:
    """What is mapped; ``target`` is None for the bundle's own maps, ``region`` for the slide."""

    slide: Slide
    bundle: Bundle
    kind: str
    target: Target | None
    region: Box | None
    device: str
    temperature: float | None


@dataclass(eq=False)
class FineMap:
    """A map that a thread fills; its attributes are polled from the GUI.

    Attributes
    ----------
    request : what is mapped
    mosaic : None until the network was loaded and the scale of the slide is known
    stage : what is being done
    view : level-0 box that the user looks at, which is filled first
    seconds_left : at the speed so far; None until that is known
    """

    request: FineRequest
    mosaic: Mosaic | None = None
    stage: str = ""
    view: Box | None = None
    seconds_left: float | None = None
    _dirty: bool = field(default=False, repr=False)

    def touch(self) -> None:
        """Note that the mosaic has changed; called by the thread."""
        self._dirty = True

    def take_dirty(self) -> bool:
        """Whether the mosaic has changed since the last call."""
        dirty, self._dirty = self._dirty, False
        return dirty


def fill(made: FineMap, explainer: Explainer, task: Task[FineMap]) -> FineMap:
    """Fill a map, or what is missing of it, until the task is cancelled.

    Raises
    ------
    OodError
        If the map cannot be made; see ``Mosaic`` and ``Explainer``.
    """
    made.stage = LOADING
    mosaic = made.mosaic or _begin(made, explainer)
    made.mosaic, made.stage = mosaic, FILLING
    before, began = mosaic.n_done, time.monotonic()

    def note() -> None:
        pace = (time.monotonic() - began) / max(mosaic.n_done - before, 1)
        made.seconds_left = pace * (mosaic.n_tiles - mosaic.n_done)
        made.touch()

    mosaic.fill(lambda: made.view, lambda: task.cancelled, note)
    made.stage = ""
    return made


def _begin(made: FineMap, explainer: Explainer) -> Mosaic:
    request = made.request
    mapper = _mapper(made, explainer)
    made.stage = FINDING
    return Mosaic(request.slide, request.bundle, mapper, request.region)


def _mapper(made: FineMap, explainer: Explainer) -> TileMapper:
    """The map of tiles that is asked for, on the one scale of the slide."""
    load_torch()
    request = made.request
    if request.kind == "heatmap":
        from napari_ood.explain.heatmap import DecoderMap

        return DecoderMap(request.bundle, request.device)
    if request.kind == "locations":
        from napari_ood.explain.locations import LocationMap

        return LocationMap(request.bundle, request.device)
    assert request.target is not None
    tiles = sample_tiles(request.slide, request.bundle)
    explainer.layers()  # loads torch and the network, which takes seconds the first time
    made.stage = SCALING
    limit = explainer.scale(request.kind, request.target, tiles)
    return SaliencyMapper(explainer, request.kind, request.target, limit)
