"""Which part of a slide's canvas was scanned, where the file tells.

MIRAX, Leica and other scanners store scanned areas on a larger canvas. Our level-0 pixels are those
of the whole canvas, as OpenSlide's are. QuPath crops to the scanned part and counts from there.
"""

from __future__ import annotations

from collections.abc import Mapping

Bounds = tuple[int, int, int, int]
"""y, x, height, width in level-0 pixels of the whole canvas."""

_NAMES = ("y", "x", "height", "width")


def scanned_bounds(metadata: Mapping[str, str]) -> Bounds | None:
    """Return the scanned part that OpenSlide names, None where it names none.

    As QuPath does it, all four ``openslide.bounds-*`` must be whole numbers to count.

    Parameters
    ----------
    metadata : ``Slide.metadata``
    """
    try:
        y, x, h, w = (int(metadata[f"openslide.bounds-{name}"]) for name in _NAMES)
    except (KeyError, ValueError):
        return None
    return y, x, h, w
