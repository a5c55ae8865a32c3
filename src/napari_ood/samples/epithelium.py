"""Columnar epithelium: rows of cells on a membrane, rolled into crypts or laid on a surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_ood.samples.noise import Field, wrapped

LAYERS = 4
"""Layers of a canvas: haematoxylin, eosin, blood, epithelial membrane (what an IHC stain marks)."""


@dataclass(frozen=True)
class Cells:
    """A row of columnar cells; position ``s`` runs along the membrane, ``t`` from it upwards (px).

    All arrays have one value per cell.
    """

    edges: Field
    height: Field
    tone: Field
    goblet: NDArray[np.bool_]
    goblet_width: Field
    nucleus_t: Field
    nucleus_long: Field
    nucleus_short: Field
    nucleus_h: Field
    nucleus_ds: Field
    second: NDArray[np.bool_]

    @classmethod
    def draw(
        cls, rng: np.random.Generator, start: float, stop: float, height: float, goblets: float
    ) -> Cells:
        """Draw cells of about 6 µm width that fill ``start`` to ``stop``."""
        n = max(int((stop - start) / 14.5), 3)
        goblet = rng.random(n) < goblets
        width = rng.uniform(0.8, 1.2, n) * np.where(goblet, 1.35, 0.85)
        edges = start + np.concatenate([[0], np.cumsum(width)]) / width.sum() * (stop - start)
        phase = rng.uniform(0, 2 * np.pi, 3)
        turn = np.linspace(0, 2 * np.pi, n, endpoint=False)
        swell = sum(0.06 * np.sin((k + 1) * turn + phase[k]) for k in range(3))

        def per_cell(mean: float | NDArray[np.floating], spread: float) -> Field:
            return (mean * np.exp(rng.normal(0, spread, n))).astype(np.float32)

        depth = np.where(goblet, 0.17, 0.27) * height
        return cls(
            edges=edges.astype(np.float32),
            height=per_cell(height * (1 + swell), 0.012),
            tone=per_cell(1.0, 0.12),
            goblet=goblet,
            goblet_width=per_cell(0.98, 0.08),
            nucleus_t=(depth * np.exp(rng.normal(0, 0.22, n))).astype(np.float32),
            nucleus_long=per_cell(np.where(goblet, 6.0, 8.8), 0.12),
            nucleus_short=per_cell(np.where(goblet, 5.6, 4.7), 0.1),
            nucleus_h=per_cell(np.where(goblet, 1.45, 1.2), 0.13),
            nucleus_ds=rng.normal(0, 0.8, n).astype(np.float32),
            second=(rng.random(n) < 0.3) & ~goblet,
        )


def columnar(cells: Cells, s: Field, t: Field, scale: Field, grain: Field) -> tuple[Field, Field]:
    """Draw columnar cells in membrane coordinates.

    Parameters
    ----------
    cells : Cells
        The row of cells.
    s, t : numpy.ndarray
        ``(h, w)`` float32, position along the membrane and height above it, px.
    scale : numpy.ndarray
        Width of a unit of ``s`` at this height, relative to the membrane (1 where it is straight).
    grain : numpy.ndarray
        Chromatin and cytoplasm texture, mean 0, standard deviation 1.

    Returns
    -------
    layers : numpy.ndarray
        ``(4, h, w)`` float32, see :data:`LAYERS`.
    opacity : numpy.ndarray
        ``(h, w)`` float32: 1 in cells, 0 in the lumen and below the membrane.
    """
    n = len(cells.height)
    i = np.clip(np.searchsorted(cells.edges, s, side="right") - 1, 0, n - 1)
    wall = np.minimum(s - cells.edges[i], cells.edges[i + 1] - s) * scale
    height = cells.height[i]
    rel = t / height
    opacity = np.clip(t + 0.5, 0, 1) * np.clip((height - t) / 1.5 + 0.5, 0, 1)

    membrane = np.exp(-((wall / 1.1) ** 2)) * (rel > 0.05)
    brush = np.exp(-(((height - t - 1.5) / 1.6) ** 2))
    tone = cells.tone[i] * (1 + 0.13 * grain)
    e = tone * (0.42 + 0.06 * rel) + 0.20 * membrane + 0.4 * brush
    h = tone * (0.34 - 0.10 * rel) + 0.06 * membrane + 0.05 * brush
    marker = 0.35 + 0.9 * membrane + 0.8 * brush

    vacuole = _vacuole(cells, i, s, rel, scale)
    mucin = 0.10 + 0.03 * grain
    e = e * (1 - vacuole) + vacuole * 0.05
    h = h * (1 - vacuole) + vacuole * mucin
    marker = marker * (1 - 0.8 * vacuole)

    layers = np.stack([h, e, np.zeros_like(h), marker]).astype(np.float32)
    _nuclei(layers, cells, i, s, t, scale, grain)
    return layers, opacity.astype(np.float32)


def _vacuole(cells: Cells, i: NDArray[np.intp], s: Field, rel: Field, scale: Field) -> Field:
    """Opacity of goblet-cell mucin: a cup in the upper two thirds, as wide as its cell allows."""
    middle = (cells.edges[:-1] + cells.edges[1:]) / 2
    width = np.diff(cells.edges) * cells.goblet_width
    # the cup keeps its width towards the narrow apex of a crypt, neighbours flatten each other
    across = ((s - middle[i]) * scale / (0.5 * width[i] * np.maximum(scale, 0.55))) ** 2
    along = ((rel - 0.60) / np.where(rel > 0.60, np.float32(0.37), np.float32(0.29))) ** 2
    q = np.sqrt(across + along - 0.3 * np.minimum(across * along, 1))  # fuller than an ellipse
    cup = np.clip((1 - q) * 4.0 + 0.3, 0, 1)
    return np.asarray(cup * cells.goblet[i], np.float32)


def _nuclei(
    layers: Field,
    cells: Cells,
    i: NDArray[np.intp],
    s: Field,
    t: Field,
    scale: Field,
    grain: Field,
) -> None:
    """Draw a nucleus in each cell, and for some a second one behind, higher up."""
    middle = (cells.edges[:-1] + cells.edges[1:]) / 2
    n = len(middle)
    j = np.where(s >= middle[i], i, i - 1) % n
    behind = (cells.edges[j + 1] - s) * scale
    rows = (
        (behind, t - 1.75 * cells.nucleus_t[j], j, cells.second[j], 0.85),
        ((s - middle[i] - cells.nucleus_ds[i]) * scale, t - cells.nucleus_t[i], i, True, 1.0),
    )
    for across, along, k, present, depth in rows:
        q = np.sqrt(
            (across / cells.nucleus_short[k]) ** 2 + (along / cells.nucleus_long[k]) ** 2
        ).astype(np.float32)
        a = np.clip((1 - q) * cells.nucleus_short[k] * 0.8 + 0.5, 0, 1) * present
        ring = np.exp(-(((q - 0.88) * 5.0) ** 2) / 1.3)
        h = depth * cells.nucleus_h[k] * (0.80 + 0.22 * grain + 0.30 * ring)
        layers *= 1 - a
        layers[0] += a * np.clip(h, 0.1, 2.5)
        layers[1] += a * 0.25
        layers[3] += a * 0.1


@dataclass(frozen=True)
class Gland:
    """A crypt: a capsule with its centre, half length of the axis, outer radius (px), direction."""

    y: float
    x: float
    half_length: float
    radius: float
    theta: float
    height: float
    goblets: float
    seed: int

    @property
    def reach(self) -> int:
        """Half the side of the square that holds the crypt, px."""
        return int(self.half_length + self.radius + 16)


def draw_gland(gland: Gland, grain: Field, warp: Field) -> tuple[Field, Field]:
    """Draw one crypt on a square of side ``2 * reach``.

    Parameters
    ----------
    gland : Gland
        Which crypt.
    grain, warp : numpy.ndarray
        Tileable textures: chromatin (a few px) and shape (some tens of px).

    Returns
    -------
    layers : numpy.ndarray
        ``(4, side, side)`` float32.
    opacity : numpy.ndarray
        ``(side, side)`` float32: how far the crypt covers what lies under it.
    """
    rng = np.random.default_rng(gland.seed)
    side = 2 * gland.reach
    at = rng.integers(0, 4096, 6)
    axis = np.arange(side, dtype=np.float32) - side / 2 + 0.5
    y, x = np.meshgrid(axis, axis, indexing="ij")
    bend = 0.05 * gland.radius
    y = y + bend * wrapped(warp, int(at[0]), int(at[1]), side, side)
    x = x + bend * wrapped(warp, int(at[2]), int(at[3]), side, side)
    s, d = _membrane_coordinates(gland, y, x)

    half = np.pi * gland.radius + 2 * gland.half_length
    cells = Cells.draw(rng, -half, half, gland.height, gland.goblets)
    t = gland.radius - d
    on_cap = (np.abs(s) < np.pi / 2 * gland.radius) | (half - np.abs(s) < np.pi / 2 * gland.radius)
    scale = np.where(on_cap, np.maximum(d, 1) / gland.radius, 1).astype(np.float32)
    texture = wrapped(grain, int(at[4]), int(at[5]), side, side)
    layers, in_cells = columnar(cells, s, t, scale, texture)

    lumen = np.clip(t / 4, 0, 1) * (1 - in_cells)
    mucus = np.clip(0.04 + 0.035 * wrapped(warp, int(at[5]), int(at[0]), side, side), 0, 1)
    sheath = np.exp(-(((t + 1.6) / 1.3) ** 2)) * (1 - in_cells)
    layers *= in_cells
    layers[0] += lumen * mucus + 0.10 * sheath
    layers[1] += lumen * 0.6 * mucus + 0.55 * sheath
    return layers, np.clip(in_cells + lumen + sheath, 0, 1)


def _membrane_coordinates(gland: Gland, y: Field, x: Field) -> tuple[Field, Field]:
    """Position along the outline (0 at the tip, signed) and distance from the capsule's axis."""
    cos, sin = np.float32(np.cos(gland.theta)), np.float32(np.sin(gland.theta))
    u, v = x * cos + y * sin, y * cos - x * sin
    on_axis = np.clip(u, -gland.half_length, gland.half_length)
    du = u - on_axis
    d = np.hypot(du, v)
    turn = np.arctan2(np.abs(v), du)
    s = np.copysign(1, v) * (gland.radius * turn + gland.half_length - on_axis)
    return s.astype(np.float32), d.astype(np.float32)
