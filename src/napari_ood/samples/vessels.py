"""Blood vessels: a muscular or thin wall around a lumen."""

from __future__ import annotations

import numpy as np

from napari_ood.samples.epithelium import LAYERS
from napari_ood.samples.noise import Field, wrapped
from napari_ood.samples.structures import Vessel


def draw_vessel(vessel: Vessel, streaks: Field, warp: Field) -> tuple[Field, Field]:
    """Draw one vessel on a square of side ``2 * reach``.

    Parameters
    ----------
    vessel : Vessel
        Which vessel.
    streaks, warp : numpy.ndarray
        Tileable textures: fibres along x, and shape.

    Returns
    -------
    layers : numpy.ndarray
        ``(4, side, side)`` float32.
    opacity : numpy.ndarray
        ``(side, side)`` float32.
    """
    rng = np.random.default_rng(vessel.seed)
    side = 2 * vessel.reach
    axis = np.arange(side, dtype=np.float32) - side / 2 + 0.5
    y, x = np.meshgrid(axis, axis, indexing="ij")
    at = rng.integers(0, 4096, 4)
    bend = 0.05 * vessel.a
    y = y + bend * wrapped(warp, int(at[0]), int(at[1]), side, side)
    x = x + bend * wrapped(warp, int(at[2]), int(at[3]), side, side)
    cos, sin = np.float32(np.cos(vessel.theta)), np.float32(np.sin(vessel.theta))
    u, v = x * cos + y * sin, y * cos - x * sin
    q = np.hypot(u / vessel.a, v / vessel.b)
    out = (q - 1) * np.hypot(u, v) / np.maximum(q, 1e-3)

    around = (np.arctan2(v / vessel.b, u / vessel.a) * (vessel.a + vessel.b) / 2).astype(int)
    rings = streaks[(out * 1.3).astype(int) % streaks.shape[0], around % streaks.shape[1]]
    wall = np.clip(out / 1.5 + 0.5, 0, 1) * np.clip((vessel.wall - out) / 4 + 0.5, 0, 1)
    lining = np.exp(-(((out - 0.5) / 1.4) ** 2))
    lumen = np.clip(0.5 - out / 1.5, 0, 1)
    plasma = 0.10 * float(vessel.filled) * (1 + 0.2 * wrapped(warp, int(at[1]), 0, side, side))

    layers = np.zeros((LAYERS, side, side), np.float32)
    layers[0] = wall * 0.07 + lining * 0.15
    layers[1] = wall * np.clip(0.62 + 0.16 * rings, 0.1, 1.2) + lining * 0.25 + lumen * plasma
    return layers, np.clip(wall + lumen, 0, 1).astype(np.float32)
