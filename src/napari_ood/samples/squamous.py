"""Keratinising squamous epithelium: the tissue that no class of the sample bundle knows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from napari_ood.samples.epithelium import LAYERS
from napari_ood.samples.noise import Field, wrapped

PITCH = 34.0
"""Mean distance of cell centres, px."""


def draw_squamous(
    centres: NDArray[np.float32],
    pearls: NDArray[np.float32],
    origin: tuple[int, int],
    weight: Field,
    basal: Field,
    grain: Field,
    warp: Field,
) -> Field:
    """Draw polygonal cells with pale nuclei around whorls of keratin.

    Parameters
    ----------
    centres : numpy.ndarray
        ``[N, 2]`` cell centres (y, x), px of the slide.
    pearls : numpy.ndarray
        ``[K, 3]`` keratin pearls (y, x, radius), px.
    origin : (int, int)
        (y, x) of the block on the slide.
    weight : numpy.ndarray
        ``(h, w)`` float32: > 0 where to draw.
    basal : numpy.ndarray
        ``(h, w)`` float32 in 0–1: how near the rim of the nest, where cells are small and dark.
    grain, warp : numpy.ndarray
        Tileable textures.

    Returns
    -------
    numpy.ndarray
        ``(4, h, w)`` float32 layers, zero where ``weight`` is 0.
    """
    h, w = weight.shape
    layers = np.zeros((LAYERS, h, w), np.float32)
    where = np.nonzero(weight > 0)
    if len(where[0]) == 0:
        return layers
    points = np.stack(where, axis=1).astype(np.float32) + np.asarray(origin, np.float32)
    fine = wrapped(grain, *origin, h, w)[where]
    swirl = wrapped(warp, *origin, h, w)[where]
    rim = basal[where]
    stains = _sheet(centres, points, fine, rim)
    for y, x, radius in pearls:
        _pearl(stains, points - (y, x), float(radius), fine, swirl)
    layers[:, where[0], where[1]] = stains
    return layers


def _sheet(
    centres: NDArray[np.float32], points: NDArray[np.float32], fine: Field, rim: Field
) -> Field:
    """Stains ``[4, N]`` of a sheet of polygonal cells at ``points``."""
    distance, index = KDTree(centres).query(points, k=2)
    distance = distance.astype(np.float32)
    first = index[:, 0]
    gap = distance[:, 1] - distance[:, 0]
    spread = np.random.default_rng(len(centres)).normal(0, 1, (3, len(centres))).astype(np.float32)
    tone = 1 + 0.12 * spread[0][first]
    border = np.exp(-((gap / 1.7) ** 2)) * np.clip(0.75 + 0.4 * fine, 0, 1)
    e = tone * (0.62 + 0.07 * fine) * (1 - 0.45 * border)
    h = tone * (0.20 + 0.35 * rim + 0.03 * fine) * (1 - 0.4 * border)
    radius = (8.6 - 1.6 * rim) * np.exp(0.14 * spread[1][first])
    offset = points - centres[first] - 2.6 * spread[:2, first].T
    angle, squeeze = 3 * spread[2][first], 0.78 + 0.1 * np.tanh(spread[0][first])
    along = offset[:, 0] * np.cos(angle) + offset[:, 1] * np.sin(angle)
    across = offset[:, 1] * np.cos(angle) - offset[:, 0] * np.sin(angle)
    q = np.hypot(along, across / squeeze) / radius
    nucleus = np.clip((1 - q) * 6 + 0.5, 0, 1) * (distance[:, 1] > 0)
    vacuolated = spread[1][first] > 1.3
    halo = np.exp(-(((q - 1.3) / 0.2) ** 2)) * np.where(vacuolated, 0.55, 0.1)
    ring = np.exp(-(((q - 0.9) / 0.16) ** 2))
    nucleolus = np.exp(-((np.hypot(along - 2 * spread[0][first], across) / 1.7) ** 2))
    dark = 0.62 + 0.45 * rim + 0.28 * ring + 0.75 * nucleolus + 0.17 * fine
    h = h * (1 - halo) * (1 - nucleus) + nucleus * dark * np.exp(0.2 * spread[2][first])
    e = e * (1 - halo) * (1 - nucleus) + nucleus * 0.3
    return np.stack([h, e, np.zeros_like(h), 0.3 * np.ones_like(h)]).astype(np.float32)


def _pearl(
    stains: Field, offset: NDArray[np.float32], radius: float, fine: Field, swirl: Field
) -> None:
    """Draw one whorl of keratin lamellae over the stains."""
    rho = np.hypot(offset[:, 0], offset[:, 1]) + 0.045 * radius * swirl
    keratin = np.clip((radius - rho) / 5 + 0.5, 0, 1)
    if not keratin.any():
        return
    turn = np.arctan2(offset[:, 0], offset[:, 1])
    phase = rho / 7.0 + 0.5 * swirl + 0.5 * np.sin(2 * turn)
    lamella = np.sin(2 * np.pi * phase / 2)
    cleft = np.clip(np.sin(phase * 0.83 + 2 * swirl + turn) * 3 - 2.1, 0, 1)
    flat = np.sin(turn * np.round(rho / 9) * 1.7 + 5 * np.round(phase))
    ghost = np.clip(lamella * 3 - 2, 0, 1) * np.clip(4 * flat - 3, 0, 1) * (rho > 0.4 * radius)
    body = (1 - 0.85 * cleft) * (1 + 0.08 * fine)
    drawn = np.stack(
        [
            body * 0.06 + 0.9 * ghost,
            body * (0.72 + 0.20 * lamella),
            body * (0.16 + 0.08 * lamella),
            0 * body,
        ]
    )
    stains *= 1 - keratin
    stains += keratin * drawn
