"""Stains: optical densities of haematoxylin, eosin, blood, DAB and marker ink (Beer–Lambert)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Optical density (base e) in R, G, B of one unit of stain. H and E are near the vectors of Macenko
#: et al. 2009 (doi:10.1109/ISBI.2009.5193250), DAB near that of Ruifrok & Johnston 2001; blood is
#: eosin on haemoglobin, which scanners show brick red.
HAEMATOXYLIN = (0.60, 0.72, 0.36)
EOSIN = (0.10, 0.80, 0.50)
BLOOD = (0.20, 1.15, 0.95)
DAB = (0.27, 0.57, 0.84)
COUNTERSTAIN = (0.62, 0.50, 0.22)

#: Optical density of one layer of marker ink.
INKS = {
    "green": (1.55, 0.42, 0.62),
    "blue": (1.75, 1.05, 0.30),
    "black": (2.30, 2.35, 2.30),
}

GLASS_RGB = (244.0, 244.0, 243.0)


@dataclass(frozen=True)
class Stain:
    """Stain of one slide: optical density per unit, and how much of each the section took up."""

    haematoxylin: tuple[float, float, float] = HAEMATOXYLIN
    eosin: tuple[float, float, float] = EOSIN
    strength_h: float = 1.0
    strength_e: float = 1.0

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Stain:
        """Draw a slide's stain: batches differ slightly in hue and in strength."""

        def hue(base: tuple[float, float, float]) -> tuple[float, float, float]:
            r, g, b = np.asarray(base) * rng.normal(1, (0.06, 0.03, 0.06))
            return float(r), float(g), float(b)

        return cls(
            hue(HAEMATOXYLIN),
            hue(EOSIN),
            float(np.clip(rng.normal(1, 0.08), 0.85, 1.15)),
            float(np.clip(rng.normal(1, 0.09), 0.82, 1.18)),
        )


def density(
    stain: Stain, h: NDArray[np.float32], e: NDArray[np.float32], blood: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Optical density ``(y, x, 3)`` float32 of haematoxylin, eosin and blood amounts ``(y, x)``."""
    units = np.asarray(
        [
            np.asarray(stain.haematoxylin) * stain.strength_h,
            np.asarray(stain.eosin) * stain.strength_e,
            BLOOD,
        ],
        np.float32,
    )
    return np.asarray(np.stack([h, e, blood], axis=-1) @ units, np.float32)


def to_rgb(od: NDArray[np.float32], light: NDArray[np.float32]) -> NDArray[np.float32]:
    """Light through the section, ``light * exp(-od)``: ``(y, x, 3)`` float32 in 0–255."""
    return np.asarray(light * np.exp(-od), np.float32)
