"""The camera flies to a region. No Qt: works on a bare ``ViewerModel``."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import ref

import numpy as np

from napari_ood.viewer.geometry import slide_placement

if TYPE_CHECKING:
    from napari.components import ViewerModel

Pair = tuple[float, float]
Box = tuple[float, float, float, float]

FLIGHT_S = 0.3
FILLED = 0.5
"""Share of the canvas that a region fills at the end of a flight."""
CONTEXT_TILES = 8
"""Fewest tiles across the canvas: a region of one tile is seen with what lies around it."""
FAR = 2.0
"""Flights over more than so many canvases are jumps: the slide in between would have to be read."""
SLOW_FRAME_S = 0.1
"""A flight whose frames take longer than this ends at once."""


@dataclass(frozen=True)
class View:
    """Where a camera looks: world point (y, x) in the middle, screen pixels per world unit."""

    centre: Pair
    zoom: float


def view_of(box: Box, mpp: Pair | None, canvas: tuple[int, int], least: float) -> View:
    """The view that shows a level-0 box in the middle of the canvas.

    Parameters
    ----------
    box : y, x, h, w in level-0 pixels
    mpp : (y, x) µm per level-0 pixel
    canvas : (height, width) in screen pixels
    least : shortest side of what is seen, in level-0 pixels
    """
    scale = np.array(slide_placement(mpp).scale)
    centre = (np.array(box[:2]) + np.array(box[2:]) / 2 - 0.5) * scale
    extent = np.maximum(np.array(box[2:]) / FILLED, least) * scale
    zoom = float((np.asarray(canvas, float) / extent).min())
    return View((float(centre[0]), float(centre[1])), zoom)


def between(start: View, goal: View, share: float) -> View:
    """A view on the way: slow at both ends, zooming by equal factors in equal times."""
    if share >= 1:
        return goal
    eased = share * share * (3 - 2 * share)
    zoom = start.zoom * (goal.zoom / start.zoom) ** eased
    y, x = (a + eased * (b - a) for a, b in zip(start.centre, goal.centre, strict=True))
    return View((y, x), zoom)


class Flight:
    """Moves one viewer's camera to a view, frame by frame."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = ref(viewer)
        self._start = self._goal = View((0.0, 0.0), 1.0)
        self._began = self._last = 0.0

    def begin(self, goal: View) -> bool:
        """Set out; whether frames are to follow (False: the camera is there at once)."""
        viewer = self._viewer()
        if viewer is None:
            return False
        self._start, self._goal = view_now(viewer), goal
        distance = math.dist(self._start.centre, goal.centre)
        seen = min(viewer.canvas.size) / min(self._start.zoom, goal.zoom)
        if distance > FAR * seen:
            self._look(goal)
            return False
        self._began = self._last = time.monotonic()
        return True

    def step(self) -> bool:
        """Show the next frame; whether more are to follow."""
        now = time.monotonic()
        late = now - self._last > SLOW_FRAME_S
        share = 1.0 if late else (now - self._began) / FLIGHT_S
        self._last = now
        self._look(between(self._start, self._goal, share))
        return share < 1

    def _look(self, view: View) -> None:
        viewer = self._viewer()
        if viewer is not None:
            camera = viewer.scene.camera
            camera.center = (camera.center[0], *view.centre)
            camera.zoom = view.zoom


def view_now(viewer: ViewerModel) -> View:
    """Where a viewer's camera looks."""
    camera = viewer.scene.camera
    y, x = camera.center[-2:]
    return View((float(y), float(x)), float(camera.zoom))
