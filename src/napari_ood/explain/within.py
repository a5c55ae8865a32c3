"""What stands out inside one tile: an edge of double density, black ink, blur in one direction.

All of it is judged against the rest of the same tile, so that it does not depend on how dark or
how sharp training tiles are (numpy only).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

RGB = NDArray[np.uint8]
Doubles = NDArray[np.float64]

_DENSITY = -np.log10((np.arange(256) + 1) / 256)

CELLS = 24
"""A tile is 24 × 24 cells: of 4 px where it has 96."""
DIRECTIONS = 12
STRIP = 5
"""Cells on either side of an edge; the one cell on the edge itself is left out."""
LEAST_CELLS = 3 * CELLS
"""On either side: a corner of a tile is no side of an edge."""
LEAST_SPREAD = 1e-8
LEAST_LIT = 0.1
"""Optical density of the lighter side: an edge of tissue to glass is none of a fold."""
LEAST_RATIO, MOST_RATIO = 1.5, 3.0
"""Of the densities on both sides. Twice the same tissue has twice its density; over other tissue,
and where an edge is not quite straight, less or more."""
LEAST_OF_INK = 1.3
"""Ratio of the densities from which the denser side's colour is judged to be ink's."""
SAME_COLOUR, OTHER_COLOUR = 0.97, 0.9
"""Cosine of what is added to what is there, in density of R, G, B: a fold adds tissue (at least),
ink adds its own colour (at most)."""

BLACK_BRIGHTNESS, BLACK_CHROMA = 0.22, 0.06
"""Black ink: darker than any nucleus, R, G, B within 0.06 of white of each other. A share of what
little light there is (``ink`` of ``slides.appearance``) misses warm black, as real pens have it."""
BRIGHT = 0.5
"""A tile without a cell as bright as this has no bright field in it: black is not ink there."""
CELL_PX = 8

SECTORS = 8
FINE, MIDDLE = (0.25, 0.5), (0.088, 0.177)
"""Cycles per px: structures of 2 to 4 px, of 6 to 11 px."""
FLOOR = 1e-12


@dataclass(frozen=True)
class Edges:
    """The straight edges inside each tile that look most like that of a fold and of ink, [n] each.

    Attributes
    ----------
    fold : the contrast where both sides have the same colour: difference of their densities over
        the spread on either side; 0: no such edge
    ratio : of that edge, denser side over lighter
    ink : the contrast where the denser side has another colour
    """

    fold: Doubles
    ratio: Doubles
    ink: Doubles


def straight_edges(tiles: RGB, least_density: float = 0.0) -> Edges:
    """Find the straight edge beyond which there is more of the same, or ink.

    Parameters
    ----------
    tiles : [N, t, t, 3] uint8; t ≥ 24, smaller ones have no edge
    least_density : of a fold's denser side: mean optical density of R, G, B, base 10
    """
    found = np.tile([0.0, 1.0, 0.0], (len(tiles), 1))
    if min(tiles.shape[1:3]) >= CELLS:
        for i, tile in enumerate(tiles):
            found[i] = _edges(_cells(tile), least_density)
    return Edges(*found.T)


def _edges(cells: Doubles, least_density: float) -> tuple[float, float, float]:
    """What `Edges` holds, of one tile's cells."""
    (a, spread_a), (b, spread_b) = (_along(side, cells) for side in _sides())
    swap = (a.mean(axis=1) > b.mean(axis=1))[:, None]
    light, dense = np.where(swap, b, a), np.where(swap, a, b)
    low, high = light.mean(axis=1), dense.mean(axis=1)
    ratio = high / np.maximum(low, FLOOR)
    alike = _cosine(light, dense - light)
    spread = np.sqrt(np.maximum((spread_a + spread_b) / 2, LEAST_SPREAD))
    contrast = np.where(low > LEAST_LIT, (high - low) / spread, 0.0)
    doubled = (ratio >= LEAST_RATIO) & (ratio <= MOST_RATIO) & (high >= least_density)
    fold = contrast * (doubled & (alike >= SAME_COLOUR))
    ink = contrast * ((ratio >= LEAST_OF_INK) & (alike < OTHER_COLOUR))
    best = int(fold.argmax())
    return float(fold[best]), float(ratio[best] if fold[best] else 1.0), float(ink.max())


def _cells(tile: RGB) -> Doubles:
    """Mean density of R, G, B in each cell; [CELLS², 3]."""
    density = _DENSITY[tile]
    for axis, side in enumerate(tile.shape[:2]):
        starts = np.arange(CELLS + 1) * side // CELLS
        sums = np.add.reduceat(density, starts[:-1], axis=axis)
        density = sums / np.expand_dims(np.diff(starts), (1, 2) if axis == 0 else (0, 2))
    return np.asarray(density.reshape(-1, 3))


def _along(side: Doubles, cells: Doubles) -> tuple[Doubles, Doubles]:
    """Mean density [K, 3] beside each straight line, and the variance [K] of their mean there."""
    grey = cells.mean(axis=1)
    mean = side @ cells
    return mean, side @ np.square(grey) - np.square(side @ grey)


@cache
def _sides() -> tuple[Doubles, Doubles]:
    """Weights of the cells on either side of each straight line, rows sum to 1; [K, CELLS²]."""
    y, x = np.mgrid[:CELLS, :CELLS].reshape(2, -1) + 0.5 - CELLS / 2
    before, after = [], []
    for angle in np.arange(DIRECTIONS) * np.pi / DIRECTIONS:
        row = np.floor(x * np.cos(angle) + y * np.sin(angle)).astype(int)
        for line in range(row.min(), row.max() + 1):
            low, high = (line - STRIP <= row) & (row < line), (line < row) & (row <= line + STRIP)
            if min(low.sum(), high.sum()) >= LEAST_CELLS:
                before.append(low / low.sum())
                after.append(high / high.sum())
    return np.array(before), np.array(after)


def _cosine(a: Doubles, b: Doubles) -> Doubles:
    """Of each row of [K, 3] with the other's; [K]."""
    length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / np.maximum(length, FLOOR))


def black_share(tiles: RGB) -> Doubles:
    """Share of a tile's cells of 8 px that are black, where some are bright; [N]."""
    rows, cols = (side // CELL_PX for side in tiles.shape[1:3])
    whole = tiles[:, : rows * CELL_PX, : cols * CELL_PX]
    cells = whole.reshape(-1, rows, CELL_PX, cols, CELL_PX, 3).mean(axis=(2, 4)) / 255
    brightness = cells.mean(axis=3)
    black = (brightness < BLACK_BRIGHTNESS) & (np.ptp(cells, axis=3) < BLACK_CHROMA)
    lit = brightness.max(axis=(1, 2)) >= BRIGHT
    return np.asarray(black.mean(axis=(1, 2)) * lit)


def directional_fineness(tiles: RGB) -> tuple[Doubles, Doubles]:
    """How fine the structure is in the direction that is blurriest; [N] each, log10 of power.

    NaN where tiles are too small to tell directions apart.

    Returns
    -------
    against the middle : structures of 2 to 4 px there against those of 6 to 11 px in the strongest
    against across : the same structures there against those at a right angle
    """
    height, width = tiles.shape[1:3]
    sectors = _sectors(height, width)
    if not all(at.size for kind in sectors for at in kind):
        return np.full(len(tiles), np.nan), np.full(len(tiles), np.nan)
    window = np.outer(np.hanning(height), np.hanning(width))
    density = _DENSITY[tiles].mean(axis=3)
    density -= density.mean(axis=(1, 2), keepdims=True)
    power = np.square(np.abs(np.fft.rfft2(density * window))).reshape(len(tiles), -1)
    fine, middle = (
        np.stack([np.log10(power[:, at].mean(axis=1) + FLOOR) for at in kind], axis=1)
        for kind in sectors
    )
    blurriest = fine.argmin(axis=1)
    every = np.arange(len(tiles))
    least = fine[every, blurriest]
    across = fine[every, (blurriest + SECTORS // 2) % SECTORS]
    return least - middle.max(axis=1), least - across


@cache
def _sectors(height: int, width: int) -> tuple[tuple[NDArray[np.int64], ...], ...]:
    """Coefficients of rfft2 in each of `SECTORS` directions, of fine and of middle structures."""
    y, x = np.meshgrid(np.fft.fftfreq(height), np.fft.rfftfreq(width), indexing="ij")
    size = np.hypot(y, x).ravel()
    sector = np.floor(np.arctan2(y, x).ravel() % np.pi / np.pi * SECTORS).astype(int) % SECTORS
    return tuple(
        tuple(np.flatnonzero((size >= low) & (size < high) & (sector == i)) for i in range(SECTORS))
        for low, high in (FINE, MIDDLE)
    )
