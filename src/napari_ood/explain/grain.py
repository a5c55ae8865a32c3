"""Blur against another scale, from how tiles' spectra differ from the usual one (numpy only).

Both take fine structure away; only blur leaves the coarse as it was. Which is which is told by a
linear rule (multinomial logistic regression) on the difference of the spectra, band by band. It was
fitted to tiles of PatchCamelyon's training split, blurred or resized by a program:
``benchmarks/causes.py --fit`` prints it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

GRAINS = ("usual", "blurred", "magnified", "shrunk")
WEIGHTS = np.array(
    [
        [0.17, -0.93, 0.41, -0.58, 0.47, 1.88, -3.40, -4.55, 7.43],
        [-0.51, 0.96, 0.71, 0.64, 1.70, 1.04, 1.15, -4.09, -2.31],
        [-0.22, -0.43, 0.43, 1.14, 0.01, -1.04, 1.41, 3.91, -5.56],
        [0.56, 0.40, -1.56, -1.20, -2.18, -1.87, 0.84, 4.73, 0.44],
    ]
)
BIAS = np.array([4.30, -4.87, -1.92, 2.49])


def grain_shares(spectrum: ArrayLike, usual: ArrayLike) -> NDArray[np.float64]:
    """Probability of each of `GRAINS`.

    Parameters
    ----------
    spectrum : [N, B], of ``napari_ood.slides.spectrum.tile_spectrum``
    usual : [B], mean of in-distribution tiles

    Returns
    -------
    [N, 4] float64, rows sum to 1
    """
    difference = np.asarray(spectrum, np.float64) - np.asarray(usual, np.float64)
    z = difference @ WEIGHTS.T + BIAS
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))
