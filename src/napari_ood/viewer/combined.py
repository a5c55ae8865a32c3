"""Prediction and uncertainty in one picture: hue is the class, fading to white the uncertainty.

Pathologists read fading more easily than two maps side by side. The range of the fading is the
colour bar's of the uncertainty, so that it means the same on every slide. No Qt, no napari.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_ood.viewer.colors import hex_to_rgb

N_FADES = 64
"""Steps from the class's colour to white."""
WHITE = np.array([1.0, 1.0, 1.0])
ALPHA = 0.85
"""Opacity of a tile; the layer's own opacity lets the tissue through."""


def fade_table(class_colors: Sequence[str]) -> NDArray[np.uint8]:
    """Colours by label and fade; [C + 1, N_FADES, 4] uint8 RGBA, label 0 (no tile) transparent."""
    hues = np.array([hex_to_rgb(color) for color in class_colors])
    fade = np.linspace(0, 1, N_FADES)[:, None]
    table = np.zeros((len(hues) + 1, N_FADES, 4), np.uint8)
    table[1:, :, :3] = np.round(255 * ((1 - fade) * hues[:, None] + fade * WHITE))
    table[1:, :, 3] = round(255 * ALPHA)
    return table


def combine(
    labels: NDArray[np.integer], fade: NDArray[np.floating], table: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Colour of each tile; [..., 4] uint8 RGBA.

    Parameters
    ----------
    labels : [...] class + 1, 0 where there is no tile
    fade : [...] uncertainty on its colour bar, 0 (sure) to 1; NaN (not known) counts as unsure
    table : of :func:`fade_table`
    """
    step = np.nan_to_num(fade, nan=1.0) * (N_FADES - 1) + 0.5
    return np.asarray(table[labels, step.astype(np.intp)], np.uint8)
