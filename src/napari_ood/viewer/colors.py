"""Colours of the overlays, chosen to read over pink and purple tissue. No Qt, no napari.

Stained tissue takes the hues from pink over purple to blue. The maps therefore run through the hues
that it leaves free, and their opacity rises with the value: where nothing is wrong the tissue
shows through, and what is foreign or unsure stands out. Lightness changes monotonically, so the
order of the values also reads without hue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

N_COLORS = 256

RGBA = tuple[float, float, float, float]
TRANSPARENT: RGBA = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Ramp:
    """Colour stops (position 0 to 1, hex colour, opacity 0 to 1)."""

    stops: tuple[tuple[float, str, float], ...]

    def table(self, n: int = N_COLORS) -> NDArray[np.float32]:
        """Interpolated colours, [n, 4] float32 RGBA."""
        at = np.array([s[0] for s in self.stops])
        rgba = np.array([(*hex_to_rgb(s[1]), s[2]) for s in self.stops])
        x = np.linspace(0, 1, n)
        return np.stack([np.interp(x, at, rgba[:, i]) for i in range(4)], axis=1).astype(np.float32)


def hex_to_rgb(color: str) -> tuple[float, float, float]:
    """``"#RRGGBB"`` to three floats from 0 to 1."""
    digits = color.lstrip("#")
    red, green, blue = (int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))
    return red, green, blue


OOD = Ramp(
    (
        (0.0, "#21918c", 0.0),
        (0.30, "#21918c", 0.15),
        (0.5, "#35b779", 0.55),
        (0.75, "#9fda3a", 0.72),
        (1.0, "#fde725", 0.82),
    )
)
"""The green half of viridis: transparent teal to opaque yellow."""

UNCERTAINTY = Ramp(
    (
        (0.0, "#ffffcc", 0.0),
        (0.30, "#fed976", 0.20),
        (0.5, "#feb24c", 0.60),
        (0.75, "#f16913", 0.72),
        (1.0, "#7f2704", 0.82),
    )
)
"""Transparent cream over orange to dark brown."""

OUTLINE = Ramp(
    (
        (0.0, "#ffffff", 0.85),
        (0.22, "#ffffff", 0.85),
        (0.3, "#1a1a1a", 1.0),
        (0.7, "#1a1a1a", 1.0),
        (0.78, "#ffffff", 0.85),
        (1.0, "#ffffff", 0.85),
    )
)
"""Across the outline of flagged tiles: dark between light edges, so that it shows on any colour."""
