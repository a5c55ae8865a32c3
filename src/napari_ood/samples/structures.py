"""Structures of a procedural section: where each crypt, vessel, fibre and nucleus lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_ood.samples.anatomy import CELL, Anatomy, Part
from napari_ood.samples.epithelium import Gland
from napari_ood.samples.noise import lattice, lookup, smooth_noise

SURFACE_HEIGHT = 48.0
"""Height of the surface epithelium, px."""


@dataclass(frozen=True)
class Marks:
    """Stamps in drawing order: position (px), direction (radians), bank, variant, amount."""

    yx: NDArray[np.float32]
    theta: NDArray[np.float32]
    kind: NDArray[np.int16]
    variant: NDArray[np.int16]
    amount: NDArray[np.float32]

    def near(self, corner: tuple[int, int], shape: tuple[int, ...], reach: int) -> NDArray[np.intp]:
        """Indices, in drawing order, of the marks that may touch a box."""
        (y, x), (h, w) = corner, shape
        lo, hi = (y - reach, x - reach), (y + h + reach, x + w + reach)
        return np.flatnonzero(((self.yx >= lo) & (self.yx < hi)).all(axis=1))


@dataclass(frozen=True)
class Vessel:
    """A blood vessel: centre, semi-axes of the lumen, wall thickness (px), direction, blood."""

    y: float
    x: float
    a: float
    b: float
    wall: float
    theta: float
    filled: bool
    seed: int

    @property
    def reach(self) -> int:
        """Half the side of the square that holds the vessel, px."""
        return int((max(self.a, self.b) + self.wall) * 1.25 + 8)


@dataclass(frozen=True)
class Scatter:
    """How one kind of mark is scattered over one compartment."""

    part: Part
    kind: str
    spacing: float
    keep: float = 1.0
    spread: float = 3.0
    """Spread of the direction around the compartment's, radians; 3 is any direction."""


FIBRES = (
    Scatter(Part.MUCOSA, "fibril", 24, spread=0.9),
    Scatter(Part.MUSCLE_THIN, "muscle", 17, spread=0.12),
    Scatter(Part.SUBMUCOSA, "fibril", 28, spread=0.8),
    Scatter(Part.SUBMUCOSA, "collagen", 27, spread=0.34),
    Scatter(Part.SUBMUCOSA, "cleft", 36, 0.8, spread=0.3),
    Scatter(Part.MUSCLE, "muscle", 17, spread=0.10),
    Scatter(Part.MUSCLE, "cleft", 52, 0.6, spread=0.08),
    Scatter(Part.MUCOSA, "cleft", 70, 0.6),
    Scatter(Part.CAPSULE, "cleft", 60, 0.6, spread=0.1),
    Scatter(Part.CAPSULE, "collagen", 20, spread=0.12),
    Scatter(Part.LYMPHOID, "fibril", 60),
    Scatter(Part.SINUS, "fibril", 34),
)

NUCLEI = (
    Scatter(Part.MUCOSA, "lymphocyte", 34, 0.75),
    Scatter(Part.MUCOSA, "plasma", 34, 0.7),
    Scatter(Part.MUCOSA, "fibroblast", 40, 0.8, spread=0.8),
    Scatter(Part.MUSCLE_THIN, "cigar", 42, spread=0.15),
    Scatter(Part.SUBMUCOSA, "fibroblast", 52, 0.8, spread=0.35),
    Scatter(Part.SUBMUCOSA, "lymphocyte", 110, 0.5),
    Scatter(Part.MUSCLE, "cigar", 44, 0.85, spread=0.12),
    Scatter(Part.LYMPHOID, "lymphocyte", 14.6, 0.97),
    Scatter(Part.GERMINAL, "blast", 20.5, 0.95),
    Scatter(Part.GERMINAL, "lymphocyte", 42, 0.6),
    Scatter(Part.SINUS, "lymphocyte", 36, 0.7),
    Scatter(Part.SINUS, "histiocyte", 48, 0.7),
    Scatter(Part.CAPSULE, "fibroblast", 46, spread=0.15),
)


def scatter(
    rng: np.random.Generator,
    anatomy: Anatomy,
    rules: tuple[Scatter, ...],
    kinds: tuple[str, ...],
    blocked: NDArray[np.bool_],
) -> Marks:
    """Scatter marks by ``rules``, none on the coarse cells that are ``blocked``.

    Compartments are looked up a few px off each point, so that neighbours mix at their border.
    """
    shape = (anatomy.size, anatomy.size)
    found = []
    for rule in rules:
        points = lattice(rng, shape, rule.spacing, 0.22)
        points = points[rng.random(len(points)) < rule.keep]
        near = points + rng.normal(0, 7, points.shape).astype(np.float32)
        here = lookup(anatomy.part, CELL, near) == rule.part
        points = points[here & ~lookup(blocked, CELL, points)]
        n = len(points)
        theta = lookup(anatomy.theta, CELL, points) + rng.normal(0, rule.spread, n)
        kind = np.full(n, kinds.index(rule.kind))
        found.append((points, theta, kind))
    points, theta, kind = (np.concatenate(column) for column in zip(*found, strict=True))
    order = rng.permutation(len(points))
    return Marks(
        yx=points[order].astype(np.float32),
        theta=theta[order].astype(np.float32),
        kind=kind[order].astype(np.int16),
        variant=rng.integers(0, 1 << 14, len(points)).astype(np.int16),
        amount=np.exp(rng.normal(0, 0.12, len(points))).astype(np.float32),
    )


def append(marks: Marks, placed: NDArray[np.float32], kind: int) -> Marks:
    """Add marks of one kind at ``placed`` ``[N, 3]`` (y, x, theta), drawn last."""
    n = len(placed)
    return Marks(
        yx=np.concatenate([marks.yx, placed[:, :2]]),
        theta=np.concatenate([marks.theta, placed[:, 2]]),
        kind=np.concatenate([marks.kind, np.full(n, kind, np.int16)]),
        variant=np.concatenate([marks.variant, np.arange(n).astype(np.int16)]),
        amount=np.concatenate([marks.amount, np.ones(n, np.float32)]),
    )


def place_glands(
    rng: np.random.Generator, anatomy: Anatomy
) -> tuple[list[Gland], NDArray[np.bool_]]:
    """Pack crypts into the mucosa, large ones first; also return the coarse cells they cover.

    Where the cut runs along the crypts they are long test tubes, elsewhere rings.
    """
    free = (anatomy.part == Part.MUCOSA) & (anatomy.depth > SURFACE_HEIGHT + 6)
    room = ndimage.distance_transform_edt(free).astype(np.float32) * CELL
    shape = anatomy.part.shape
    cut = smooth_noise(rng, shape, 1400 / CELL)
    taken = np.zeros(shape, bool)
    glands: list[Gland] = []
    for low, high, lengthen in ((84, 104, 1.0), (76, 94, 0.5), (66, 84, 0.2), (54, 68, 0.1)):
        points = lattice(rng, (anatomy.size, anatomy.size), 24, 0.3)
        points = points[lookup(room, CELL, points) > low]
        for y, x in points[rng.permutation(len(points))]:
            i, j = int(y / CELL), int(x / CELL)
            if taken[min(i, shape[0] - 1), min(j, shape[1] - 1)]:
                continue
            radius = float(rng.uniform(low, high))
            long = lengthen * radius * np.clip(1.1 * cut[i, j] + rng.normal(0.35, 0.3), 0, 2.6)
            theta = float(anatomy.theta[i, j] + np.pi / 2 + rng.normal(0, 0.12))
            gland = Gland(
                y=float(y),
                x=float(x),
                half_length=float(long),
                radius=radius,
                theta=theta,
                height=float(rng.uniform(0.60, 0.80) * radius + 4),
                goblets=float(np.clip(rng.normal(0.5, 0.2), 0.05, 0.9)),
                seed=int(rng.integers(1 << 31)),
            )
            if _fits(gland, free, taken):
                glands.append(gland)
    return glands, taken


def _fits(gland: Gland, free: NDArray[np.bool_], taken: NDArray[np.bool_]) -> bool:
    """Whether a crypt has room; if so, mark its coarse cells as taken."""
    gap = 8.0
    reach = gland.half_length + gland.radius + gap
    i0, i1 = int((gland.y - reach) // CELL), int((gland.y + reach) // CELL) + 1
    j0, j1 = int((gland.x - reach) // CELL), int((gland.x + reach) // CELL) + 1
    if i0 < 0 or j0 < 0 or i1 > free.shape[0] or j1 > free.shape[1]:
        return False
    y = (np.arange(i0, i1) + 0.5)[:, None] * CELL - gland.y
    x = (np.arange(j0, j1) + 0.5)[None, :] * CELL - gland.x
    u = x * np.cos(gland.theta) + y * np.sin(gland.theta)
    v = y * np.cos(gland.theta) - x * np.sin(gland.theta)
    d = np.hypot(u - np.clip(u, -gland.half_length, gland.half_length), v) - gland.radius
    window = np.s_[i0:i1, j0:j1]
    if (taken[window] & (d < gap)).any() or (~free[window] & (d < -0.15 * gland.radius)).any():
        return False
    taken[window] |= d < 2
    return True


def place_vessels(
    rng: np.random.Generator, anatomy: Anatomy
) -> tuple[list[Vessel], NDArray[np.bool_]]:
    """Place arteries, veins and capillaries in the stroma; also return the cells they cover."""
    stroma = np.isin(anatomy.part, [Part.SUBMUCOSA])
    room = ndimage.distance_transform_edt(stroma) * CELL
    taken = np.zeros(stroma.shape, bool)
    axis = (np.arange(stroma.shape[0]) + 0.5) * CELL
    vessels: list[Vessel] = []
    for spacing, low, high in ((620, 70, 150), (330, 26, 60), (170, 9, 18)):
        for y, x in lattice(rng, (anatomy.size, anatomy.size), spacing, 0.25):
            i, j = int(y / CELL), int(x / CELL)
            if not (0 <= i < stroma.shape[0] and 0 <= j < stroma.shape[1]):
                continue
            a = float(rng.uniform(low, high))
            b = a * float(rng.uniform(0.45, 0.95))
            artery = rng.random() < 0.45
            wall = a * 0.42 + 6 if artery else a * 0.10 + 5
            vessel = Vessel(
                float(y),
                float(x),
                a,
                b,
                wall,
                float(anatomy.theta[i, j] + rng.normal(0, 0.4)),
                bool(rng.random() < 0.6),
                int(rng.integers(1 << 31)),
            )
            if room[i, j] < vessel.reach * 0.8:
                continue
            n = int((a + wall) / CELL) + 1
            window = np.s_[max(i - n, 0) : i + n + 1, max(j - n, 0) : j + n + 1]
            near = np.hypot(axis[window[0], None] - y, axis[None, window[1]] - x) < a + wall
            if (taken[window] & near).any():
                continue
            vessels.append(vessel)
            taken[window] |= near
    return vessels, taken


def place_cells_of_vessels(
    rng: np.random.Generator, vessels: list[Vessel]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Nuclei of vessel walls ``[N, 3]`` (y, x, theta); red cells ``[K, 2]`` and their amounts."""
    nuclei: list[tuple[float, float, float]] = []
    red: list[NDArray[np.floating]] = [np.zeros((0, 2))]
    for v in vessels:
        rings = [1.0] + [v.wall * f for f in (0.35, 0.7) if v.wall > 16]
        for ring in rings:
            around = 2 * np.pi * (v.a + v.b) / 2 + 2 * np.pi * ring
            for phi in np.sort(rng.uniform(0, 2 * np.pi, max(3, int(around / 58)))):
                nuclei.append(_on_ring(v, ring, phi))
        if v.filled:
            cells = lattice(rng, (int(2 * v.b), int(2 * v.a)), 11.5, 0.18) - (v.b, v.a)
            cells = cells[(cells[:, 0] / v.b) ** 2 + (cells[:, 1] / v.a) ** 2 < 0.8]
            cells = cells[rng.random(len(cells)) < rng.uniform(0.5, 0.95)]
            red.append(_turned(v, cells[:, 0], cells[:, 1]))
    cells = np.concatenate(red).astype(np.float32)
    amounts = rng.uniform(0.75, 1.1, len(cells)).astype(np.float32)
    return np.asarray(nuclei, np.float32).reshape(-1, 3), cells, amounts


def _turned(
    vessel: Vessel, v: NDArray[np.floating], u: NDArray[np.floating]
) -> NDArray[np.floating]:
    cos, sin = np.cos(vessel.theta), np.sin(vessel.theta)
    return np.stack([vessel.y + v * cos + u * sin, vessel.x + u * cos - v * sin], axis=-1)


def _on_ring(vessel: Vessel, ring: float, phi: float) -> tuple[float, float, float]:
    u, v = (vessel.a + ring) * np.cos(phi), (vessel.b + ring) * np.sin(phi)
    y, x = _turned(vessel, np.asarray(v), np.asarray(u))
    du, dv = -(vessel.a + ring) * np.sin(phi), (vessel.b + ring) * np.cos(phi)
    return float(y), float(x), float(np.arctan2(dv, du) + vessel.theta)
