"""Do the heads differ? What each of them does on held-out tiles (numpy)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

MONOPOLY = 0.5
"""With four heads or more, fair shares are at most a quarter: a head that is best on more than half
of the tiles wins more often than all others together."""
MONOPOLY_OF_FEW = 0.9
"""With two or three heads, where half is a fair share or near it."""
WEAK = 0.10
"""A head whose accuracy is this far below the best head's has not learnt what that one has. (All of
them may lie below the ensemble: heads with errors of their own gain most from being averaged.) On
100 held-out tiles the standard error of an accuracy of 0.85 is 0.036: chance rarely gives this."""
WEAK_SHARE = 0.25
"""One weak head of ten is bad luck of its start; a quarter of them is the loss's doing."""
COPIES = 0.99
"""Heads whose margins correlate more than this order the tiles alike: their disagreement is noise.
(Independently trained networks on the same tiles have 0.6 to 0.9.)"""


@dataclass(frozen=True)
class HeadUsage:
    """The head-usage panel.

    Attributes
    ----------
    win_share : [M], share of the tiles on which a head has the lowest loss
    agreement : [M, M], share of the tiles that two heads give the same class
    margin_correlation : [M, M], Pearson, of log p(true) − max log p(other); 0 for a constant head
    accuracy, nll : [M]; NLL in nats
    ensemble_accuracy, ensemble_nll : of the mean over heads of the softmax
    collapsed : whether there is a warning
    warning : what is wrong, in one sentence, or ""
    """

    win_share: tuple[float, ...]
    agreement: tuple[tuple[float, ...], ...]
    margin_correlation: tuple[tuple[float, ...], ...]
    accuracy: tuple[float, ...]
    nll: tuple[float, ...]
    ensemble_accuracy: float
    ensemble_nll: float
    collapsed: bool
    warning: str

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def head_usage(logits: ArrayLike, labels: ArrayLike, temperature: float = 1.0) -> HeadUsage:
    """Describe the heads from logits ``[N, M, C]`` and labels ``[N]`` of held-out tiles."""
    z = np.asarray(logits, np.float64) / temperature
    y = np.asarray(labels)
    log_p = z - logsumexp(z, axis=-1, keepdims=True)
    n, m, _ = log_p.shape
    true = np.take_along_axis(log_p, y[:, None, None], axis=2)[..., 0]  # [N, M]
    prediction = log_p.argmax(axis=2)
    mean = logsumexp(log_p, axis=1) - np.log(m)  # log p̄ [N, C]
    wins = np.bincount(true.argmax(axis=1), minlength=m) / n
    accuracy = (prediction == y[:, None]).mean(axis=0)
    correlation = _correlation(_margins(log_p, true, y))
    warning = _warning(wins, accuracy, correlation)
    return HeadUsage(
        win_share=_floats(wins),
        agreement=_rows((prediction[:, :, None] == prediction[:, None, :]).mean(axis=0)),
        margin_correlation=_rows(correlation),
        accuracy=_floats(accuracy),
        nll=_floats(-true.mean(axis=0)),
        ensemble_accuracy=float((mean.argmax(axis=1) == y).mean()),
        ensemble_nll=float(-mean[np.arange(n), y].mean()),
        collapsed=bool(warning),
        warning=warning,
    )


def _margins(
    log_p: NDArray[np.float64], true: NDArray[np.float64], y: NDArray[np.int64]
) -> NDArray[np.float64]:
    others = log_p.copy()
    np.put_along_axis(others, y[:, None, None], -np.inf, axis=2)
    margins: NDArray[np.float64] = true - others.max(axis=2)
    return margins


def _correlation(margins: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = margins - margins.mean(axis=0)
    norm = np.sqrt((centred**2).sum(axis=0))
    unit = np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 1e-12)
    correlation: NDArray[np.float64] = np.clip(unit.T @ unit, -1, 1)
    np.fill_diagonal(correlation, 1.0)
    return correlation


def _warning(
    wins: NDArray[np.float64],
    accuracy: NDArray[np.float64],
    correlation: NDArray[np.float64],
) -> str:
    m = len(wins)
    if m == 1:
        return ""
    winner = int(wins.argmax())
    found = []
    if wins[winner] > (MONOPOLY if m >= 4 else MONOPOLY_OF_FEW):
        found.append(f"head {winner} is the best on {wins[winner]:.0%} of the held-out tiles")
    weak = int((accuracy < accuracy.max() - WEAK).sum())
    if weak >= max(1.0, WEAK_SHARE * m):
        found.append(f"{weak} of {m} heads are far less accurate than the best")
    copies = float(correlation[~np.eye(m, dtype=bool)].mean())
    if copies > COPIES:
        found.append(f"heads are nearly copies of each other (correlation {copies:.3f})")
    if not found:
        return ""
    text = "; ".join(found)
    return f"The heads have collapsed: {text}. Try another loss, a larger epsilon or deeper heads."


def _floats(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(values.tolist())


def _rows(matrix: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in matrix.tolist())
