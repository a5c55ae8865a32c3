"""Foreign regions planted in a section, and where they lie."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_ood.samples.anatomy import CELL, Anatomy, Part
from napari_ood.samples.noise import Field, smooth_noise
from napari_ood.samples.stains import INKS


class Foreign(IntEnum):
    """Kinds of planted regions, the labels of the truth."""

    NONE = 0
    PEN = 1
    BLUR = 2
    FOLD = 3
    IHC = 4
    UNKNOWN = 5


@dataclass(frozen=True)
class Planted:
    """What was planted, on the coarse grid.

    ``label`` holds :class:`Foreign`; ``blur``, ``fold`` and ``ihc`` are strengths in 0–1; ``ink``
    is an optical density ``(y, x, 3)``; ``pearls`` are keratin pearls ``[N, 3]`` (y, x, radius),
    px.
    """

    label: NDArray[np.uint8]
    blur: Field
    fold: Field
    ihc: Field
    ink: Field
    pearls: NDArray[np.float32]


def nothing(anatomy: Anatomy) -> Planted:
    """A section without foreign regions."""
    shape = anatomy.part.shape
    zero = np.zeros(shape, np.float32)
    return Planted(
        label=np.zeros(shape, np.uint8),
        blur=zero,
        fold=zero,
        ihc=zero,
        ink=np.zeros((*shape, 3), np.float32),
        pearls=np.zeros((0, 3), np.float32),
    )


def plant(rng: np.random.Generator, anatomy: Anatomy) -> Planted:
    """Plant one region of each kind (ink in three colours); changes ``anatomy.part`` for UNKNOWN.

    Fold, unknown tissue and blur lie side by side in the bowel wall in an order drawn from ``rng``,
    the IHC-like stain takes the whole biopsy, ink crosses the edges of wall and node.
    """
    k = anatomy.size / 8192
    wall = anatomy.piece == 1 + anatomy.kinds.index("bowel")
    u = anatomy.along / (np.ptp(anatomy.along[wall]) + 1)
    slots = rng.permutation([-0.27, 0.0, 0.27])
    rough = smooth_noise(rng, wall.shape, 260 / CELL) * 28 * k**0.5

    unknown = _squamous_nest(anatomy, wall, u, slots[0], k, rough)
    anatomy.part[unknown] = Part.SQUAMOUS
    blur = _defocus(anatomy, wall, u, slots[1], k)
    fold = _fold(rng, anatomy, wall, u, slots[2])
    biopsy = anatomy.piece == len(anatomy.kinds)
    ihc = ndimage.gaussian_filter(
        ndimage.binary_dilation(biopsy, iterations=6).astype(np.float32), 1.0
    )
    ink = _ink(rng, anatomy, k)

    label = np.zeros(wall.shape, np.uint8)
    tissue = anatomy.inside > 0
    label[biopsy] = Foreign.IHC
    label[(blur > 0.12) & tissue] = Foreign.BLUR
    label[(fold > 0.1) & tissue] = Foreign.FOLD
    label[unknown] = Foreign.UNKNOWN
    label[ink.sum(axis=-1) > 0.15] = Foreign.PEN
    return Planted(label, blur, fold, ihc, ink, _pearls(rng, unknown))


def _squamous_nest(
    anatomy: Anatomy, wall: NDArray[np.bool_], u: Field, slot: float, k: float, rough: Field
) -> NDArray[np.bool_]:
    """Cells of a nest of squamous epithelium in the deep wall."""
    deep = wall & np.isin(anatomy.part, [Part.SUBMUCOSA, Part.MUSCLE])
    here = deep & (np.abs(u - slot) < 0.02)
    middle = float(np.median(anatomy.depth[here]))
    width = float(np.ptp(anatomy.along[wall]))
    q = np.hypot((u - slot) * width / (840 * k), (anatomy.depth - middle) / (720 * k))
    return np.asarray(deep & (((1 - q) * 720 * k + rough) > 0))


def _pearls(rng: np.random.Generator, nest: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Keratin pearls, each in the roomiest place that is left in the nest."""
    room = ndimage.distance_transform_edt(nest) * CELL
    pearls = []
    axis = (np.arange(len(room)) + 0.5) * CELL
    for _ in range(9):
        y, x = np.argwhere(room >= room.max() * rng.uniform(0.8, 0.98))[0] * CELL
        radius = float(np.clip(room.max() * rng.uniform(0.25, 0.4), 45, 150))
        if room.max() < 90:
            break
        pearls.append((y, x, radius))
        away = np.hypot(axis[:, None] - y, axis[None, :] - x) - 2.0 * radius
        room = np.minimum(room, np.maximum(away, 0))
    return np.asarray(pearls, np.float32).reshape(-1, 3)


def _defocus(anatomy: Anatomy, wall: NDArray[np.bool_], u: Field, slot: float, k: float) -> Field:
    """Strength of defocus: a round region in mucosa and submucosa with a soft edge."""
    width = float(np.ptp(anatomy.along[wall]))
    q = np.hypot((u - slot) * width / (800 * k), (anatomy.depth - 1100 * k) / (950 * k))
    ramp = np.clip((1 - q) * 800 * k / 110 + 0.5, 0, 1)
    return np.asarray(ramp * wall, np.float32)


def _fold(
    rng: np.random.Generator, anatomy: Anatomy, wall: NDArray[np.bool_], u: Field, slot: float
) -> Field:
    """Strength of the fold: a winding band of doubled tissue across the wall."""
    width = float(np.ptp(anatomy.along[wall]))
    lean = rng.uniform(-0.25, 0.25)
    winding = 60 * smooth_noise(rng, wall.shape, 900 / CELL)
    across = (u - slot) * width - lean * anatomy.depth + winding
    half = 165 + 30 * smooth_noise(rng, wall.shape, 500 / CELL)
    return np.asarray(np.clip((half - np.abs(across)) / 8 + 0.5, 0, 1) * wall, np.float32)


def _ink(rng: np.random.Generator, anatomy: Anatomy, k: float) -> Field:
    """Optical density of three marker strokes over tissue edges."""
    size = anatomy.size
    node = _bounds(anatomy, anatomy.kinds.index("node") + 1)
    wall = _bounds(anatomy, anatomy.kinds.index("bowel") + 1)
    strokes = (
        # along the upper left edge of the node, half on glass
        (
            "green",
            (
                (node[2] + 0.02 * size, node[1] - 0.045 * size),
                (node[0] + 0.045 * size, (node[1] + node[3]) / 2 - 0.05 * size),
                (node[0] + 0.075 * size, node[3] - 0.08 * size),
            ),
            260 * k,
        ),
        # across the right end of the wall
        (
            "blue",
            (
                (wall[0] + 0.02 * size, wall[3] - 0.02 * size),
                (wall[0] + 0.16 * size, wall[3] - 0.055 * size),
                (wall[2] + 0.01 * size, wall[3] - 0.075 * size),
            ),
            170 * k,
        ),
        # across the left end of the wall and out over the glass
        (
            "black",
            (
                (wall[0] + 0.12 * size, wall[1] - 0.05 * size),
                (wall[0] + 0.22 * size, wall[1] + 0.06 * size),
                (wall[0] + 0.30 * size, wall[1] + 0.12 * size),
            ),
            140 * k,
        ),
    )
    density = np.zeros((*anatomy.part.shape, 3), np.float32)
    for colour, points, half in strokes:
        weight = _stroke(rng, density.shape[:2], np.asarray(points), half)
        density += weight[..., None] * np.asarray(INKS[colour], np.float32)
    return density


def _bounds(anatomy: Anatomy, piece: int) -> tuple[float, float, float, float]:
    rows, cols = np.nonzero(anatomy.piece == piece)
    top, left, bottom, right = rows.min(), cols.min(), rows.max() + 1, cols.max() + 1
    return float(top * CELL), float(left * CELL), float(bottom * CELL), float(right * CELL)


def _stroke(
    rng: np.random.Generator, shape: tuple[int, int], points: NDArray[np.floating], half: float
) -> Field:
    """Amount of ink of a stroke through three points (y, x; px): uneven, denser at its rim."""
    t = np.linspace(0, 1, 400)[:, None]
    p0, p1, p2 = points / CELL
    control = 2 * p1 - (p0 + p2) / 2
    path = (1 - t) ** 2 * p0 + 2 * t * (1 - t) * control + t**2 * p2
    grid = np.ones(shape, bool)
    i = np.clip(np.round(path).astype(int), 0, np.array(shape) - 1)
    inside = ((path >= 0) & (path < np.array(shape))).all(axis=1)
    grid[i[inside, 0], i[inside, 1]] = False
    distance = ndimage.distance_transform_edt(grid) * CELL
    distance = distance + half * 0.12 * smooth_noise(rng, grid.shape, 3 * half / CELL)
    body = np.clip((half - distance) / (0.22 * half + 8) + 0.5, 0, 1)
    rim = 0.25 * np.exp(-(((distance - 0.85 * half) / (0.2 * half)) ** 2))
    uneven = 0.72 + 0.13 * smooth_noise(rng, grid.shape, 1.5 * half / CELL)
    return np.asarray(ndimage.gaussian_filter(body * (uneven + rim), 1.5), np.float32)
