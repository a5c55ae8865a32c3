"""Blur against another scale, from how tiles' spectra differ from the usual one (numpy only).

Both take fine structure away; only blur leaves the coarse as it was. Which is which is told by a
linear rule (multinomial logistic regression) on the difference of the spectra, band by band, that
``napari_ood.training.fit_reference`` fits to blurred and resized copies of the training tiles.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

GRAINS = ("usual", "blurred", "magnified", "shrunk")


def grain_shares(spectrum: ArrayLike, usual: ArrayLike, rule: ArrayLike) -> NDArray[np.float64]:
    """Probability of each of `GRAINS`.

    Parameters
    ----------
    spectrum : [N, B], of ``napari_ood.slides.spectrum.tile_spectrum``
    usual : [B], mean of in-distribution tiles
    rule : [4, B + 1], weights of the bands and bias, of the reference

    Returns
    -------
    [N, 4] float64, rows sum to 1
    """
    difference = np.asarray(spectrum, np.float64) - np.asarray(usual, np.float64)
    weights = np.asarray(rule, np.float64)
    z = difference @ weights[:, :-1].T + weights[:, -1]
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))
