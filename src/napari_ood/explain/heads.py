"""What each head says of one tile, and where they disagree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_ood.scores import disagreement, dissenters, entropy, mean_probability

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class HeadsAtTile:
    """The M heads' word on one tile.

    Attributes
    ----------
    probabilities : [M, C] float32, softmax of each head's logits over the temperature
    mean : [C] float32, p̄, their mean: what the prediction and its entropy belong to
    entropy : H(p̄) in nats, 0 to ln C
    mutual_information : H(p̄) − mean H(pₘ) in nats: the part of the entropy that is the heads'
        disagreement. The rest they share: each of them is unsure.
    dissenters : heads that find another class more probable than the predicted one, ascending
    prediction : index of the class, argmax p̄
    """

    probabilities: Floats
    mean: Floats
    entropy: float
    mutual_information: float
    dissenters: tuple[int, ...]
    prediction: int

    @property
    def n_heads(self) -> int:
        """Number of heads, M."""
        return len(self.probabilities)


def look_at_heads(logits: ArrayLike, temperature: float = 1.0) -> HeadsAtTile:
    """Take one tile's logits apart by head, by the definitions that the scores have.

    Parameters
    ----------
    logits : [M, C] float, of one tile
    temperature : of the card, or as the user set it

    Raises
    ------
    ValueError
        For another shape, values that are not finite, or a temperature that is not above 0.
    """
    z = np.asarray(logits, np.float64)
    if z.ndim != 2 or not z.size:
        raise ValueError(f"need the logits [M, C] of one tile, got shape {z.shape}")
    if not np.isfinite(z).all():
        raise ValueError("the tile's logits are not finite: nothing can be said of its heads")
    if not temperature > 0:
        raise ValueError(f"a temperature is above 0, not {temperature}")
    one = z[None]
    mean = mean_probability(one, temperature)[0]
    return HeadsAtTile(
        probabilities=mean_probability(z[:, None, :], temperature),  # each head as if alone
        mean=mean,
        entropy=float(entropy(one, temperature)[0]),
        mutual_information=float(disagreement(one, temperature)[0]),
        dissenters=tuple(np.flatnonzero(dissenters(one, temperature)[0]).tolist()),
        prediction=int(mean.argmax()),
    )
