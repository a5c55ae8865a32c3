"""What a heatmap decoder is to answer: differences to the closest in-distribution tile (torch)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

WeightBy = Literal["heatmap", "image"]
WEIGHT = 5.0
CHUNK = 256


def closest_of_class(
    features: ArrayLike, predicted: ArrayLike, id_features: ArrayLike, id_predicted: ArrayLike
) -> NDArray[np.int64]:
    """Index of the closest in-distribution tile of the same predicted class, for each tile.

    Euclidean, in the space of the penultimate features. Where no in-distribution tile is predicted
    as that class, the closest of all.

    Parameters
    ----------
    features, id_features : [N, D], [K, D]
    predicted, id_predicted : [N], [K] int, predicted classes

    Returns
    -------
    [N] int64, rows of ``id_features``

    Raises
    ------
    ValueError
        If there is no in-distribution tile, or shapes don't fit.
    """
    x, bank = np.asarray(features, np.float64), np.asarray(id_features, np.float64)
    own, theirs = np.asarray(predicted), np.asarray(id_predicted)
    if not len(bank) or own.shape != x.shape[:1] or theirs.shape != bank.shape[:1]:
        raise ValueError(f"need features and classes of tiles: {x.shape}, {bank.shape}")
    nearest = np.empty(len(x), np.int64)
    for label in np.unique(own):
        rows = np.flatnonzero(own == label)
        candidates = np.flatnonzero(theirs == label)
        if not len(candidates):
            candidates = np.arange(len(bank))
        members = bank[candidates]
        squares = np.square(members).sum(axis=1)
        for part in np.split(rows, range(CHUNK, len(rows), CHUNK)):
            # the rows' own squares don't change which is closest
            distance = squares - 2 * x[part] @ members.T
            nearest[part] = candidates[distance.argmin(axis=1)]
    return nearest


def difference_targets(
    tiles: NDArray[np.uint8],
    prototypes: NDArray[np.uint8],
    masks: NDArray[np.bool_],
    size: tuple[int, int],
) -> Tensor:
    """(x' − x) / 2 of images in −1…1, where the mask says that x is foreign; else 0.

    Parameters
    ----------
    tiles : [N, t, t, 3] uint8, the foreign tiles x
    prototypes : [N, t, t, 3] uint8, for each the closest in-distribution tile x'
    masks : [N, t, t] bool, which pixels are foreign
    size : height and width of the targets, averaged over their pixels

    Returns
    -------
    [N, 3, h, w] float16 in −1…1
    """
    out = torch.empty((len(tiles), 3, *size), dtype=torch.float16)
    for i in range(0, len(tiles), CHUNK):
        x, known = (torch.from_numpy(a[i : i + CHUNK]).float() for a in (tiles, prototypes))
        # images in −1…1 are v / 127.5 − 1, so half their difference is the difference / 255
        difference = (known - x) / 255 * torch.from_numpy(masks[i : i + CHUNK])[..., None]
        out[i : i + CHUNK] = adaptive_avg_pool2d(difference.permute(0, 3, 1, 2), size).half()
    return out


def images(tiles: NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
    """Tiles in −1…1 at the size of the targets; [N, 3, h, w] float16."""
    out = torch.empty((len(tiles), 3, *size), dtype=torch.float16)
    for i in range(0, len(tiles), CHUNK):
        x = torch.from_numpy(tiles[i : i + CHUNK]).permute(0, 3, 1, 2).float() / 127.5 - 1
        out[i : i + CHUNK] = adaptive_avg_pool2d(x, size).half()
    return out


def weighted_error(
    output: Tensor, target: Tensor, weight_by: WeightBy = "heatmap", image: Tensor | None = None
) -> Tensor:
    """Mean over the tiles of Σ (1 + 5 |w|) (h − target)², over pixels and channels a mean.

    Parameters
    ----------
    output, target : [B, 3, h, w]
    weight_by : ``heatmap``: w is the target, so that a foreign pixel counts more; ``image``: w is
        the image that the target is relative to, as in the released code, where bright and dark
        pixels count more
    image : [B, 3, h, w] in −1…1, for ``image``
    """
    weight = target if weight_by == "heatmap" else image
    if weight is None:
        raise ValueError("weighting by the image needs the image")
    return ((1 + WEIGHT * weight.abs()) * (output - target).square()).mean()
