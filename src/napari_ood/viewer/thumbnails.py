"""Small pictures of regions, read from the slide in a thread. No Qt, no napari.

The list asks for what it is about to draw; what was asked for last is read first, as that is what
the user looks at. The thread ends when there is nothing left to read.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_ood.errors import OodError

if TYPE_CHECKING:
    from napari_ood.slides import Slide

RGB = NDArray[np.uint8]
Box = tuple[float, float, float, float]
"""y, x, h, w in level-0 pixels."""

THUMBNAIL_PX = 120
MAX_KEPT = 2000
MAX_WAITING = 64
"""Requests that are kept while the list is scrolled; older ones are asked for again when seen."""


@dataclass(frozen=True)
class Thumbnail:
    """A square picture and the level-0 box it shows; ``pixels`` is None where it cannot be read."""

    pixels: RGB | None
    field: Box


def field_of(box: Box, margin: float, least: float) -> Box:
    """Square level-0 box around a region, with some of what lies around it.

    Parameters
    ----------
    box : of the region
    margin : share of its longer side that is added on each side
    least : shortest side of the field, level-0 pixels
    """
    y, x, h, w = box
    side = max(max(h, w) * (1 + 2 * margin), least)
    return y + h / 2 - side / 2, x + w / 2 - side / 2, side, side


def read_field(slide: Slide, field: Box, px: int = THUMBNAIL_PX) -> RGB:
    """Read a square field as (px, px, 3) uint8; what lies outside the slide is white.

    Raises
    ------
    SlideError
        If it cannot be decoded.
    """
    y, x, side, _ = field
    wanted = side / px
    level = max((i for i, d in enumerate(slide.downsamples) if max(d) <= wanted * 1.01), default=0)
    dy, dx = slide.downsamples[level]
    window = (round(y / dy), round(x / dx), max(1, round(side / dy)), max(1, round(side / dx)))
    image = Image.fromarray(slide.read(level, *window))
    return np.asarray(
        image.resize((px, px), Image.Resampling.BOX if wanted > 1 else Image.Resampling.NEAREST)
    )


class Thumbnails:
    """Reads thumbnails of one slide in a thread and keeps the latest.

    Parameters
    ----------
    slide : Slide
    px : side of a thumbnail
    """

    def __init__(self, slide: Slide, px: int = THUMBNAIL_PX) -> None:
        self.slide, self.px = slide, px
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Thumbnail] = OrderedDict()
        self._waiting: OrderedDict[str, Box] = OrderedDict()
        self._new: list[str] = []
        self._closed = False
        self._thread: threading.Thread | None = None

    def get(self, key: str, field: Box) -> Thumbnail | None:
        """The thumbnail of a region when it has been read, else None and it is put in the queue."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and kept.field == field:
                self._kept.move_to_end(key)
                return kept
            self._waiting[key] = field
            self._waiting.move_to_end(key)
            while len(self._waiting) > MAX_WAITING:
                self._waiting.popitem(last=False)
            self._start()
        return None

    def take_new(self) -> tuple[str, ...]:
        """Keys of what was read since the last call."""
        with self._lock:
            new, self._new = tuple(self._new), []
        return new

    @property
    def busy(self) -> bool:
        """Whether anything waits to be read, or was read and not yet taken."""
        with self._lock:
            return self._thread is not None or bool(self._new)

    def close(self) -> None:
        """Read no more; the thread ends after the picture it is at."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            self._new.clear()

    def _start(self) -> None:
        if self._thread is None and not self._closed:
            # Not a daemon: a codec killed half-way through a call takes the interpreter along.
            self._thread = threading.Thread(target=self._work, name="napari-ood thumbnails")
            self._thread.start()

    def _work(self) -> None:
        while (request := self._next()) is not None:
            key, field = request
            try:
                pixels = read_field(self.slide, field, self.px)
            except OodError:
                pixels = None  # the list draws a placeholder; the canvas tells what is wrong
            self._keep(key, Thumbnail(pixels, field))

    def _next(self) -> tuple[str, Box] | None:
        with self._lock:
            if self._waiting and not self._closed and threading.main_thread().is_alive():
                return self._waiting.popitem(last=True)
            self._thread = None
            return None

    def _keep(self, key: str, thumbnail: Thumbnail) -> None:
        with self._lock:
            if self._closed:
                return
            self._kept[key] = thumbnail
            self._new.append(key)
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
