"""Benchmark tables: how well each score tells foreign tiles from in-distribution tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_ood.evaluation.metrics import (
    auroc,
    bootstrap_interval,
    expected_calibration_error,
    fpr_at_tpr,
    ood_auroc,
)
from napari_ood.models import Reference
from napari_ood.scores import mean_probability

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Outputs:
    """What a network said about tiles: logits ``[N, M, C]`` and features ``[N, D]``."""

    logits: Floats
    features: Floats


@dataclass(frozen=True)
class Row:
    """One score on one foreign set: AUROC with its 95 % interval, and FPR95."""

    set: str
    score: str
    n_id: int
    n_ood: int
    auroc: float
    auroc_ci: tuple[float, float]
    fpr95: float


def compare(set_name: str, score: str, inside: Floats, outside: Floats) -> Row:
    """One row from the scores of in-distribution and of foreign tiles."""
    return Row(
        set=set_name,
        score=score,
        n_id=len(inside),
        n_ood=len(outside),
        auroc=ood_auroc(inside, outside),
        auroc_ci=bootstrap_interval(inside, outside),
        fpr95=fpr_at_tpr(inside, outside),
    )


def ood_rows(
    reference: Reference, inside: Outputs, sets: Mapping[str, Outputs], scores: Sequence[str]
) -> list[Row]:
    """Rows of every score on every foreign set."""
    rows = []
    for name in scores:
        id_scores = reference.score(name, inside.logits, inside.features)
        for set_name, out in sets.items():
            rows.append(
                compare(set_name, name, id_scores, reference.score(name, out.logits, out.features))
            )
    return rows


def id_metrics(
    logits: Floats, labels: NDArray[np.int64], temperature: float
) -> dict[str, float | None]:
    """Accuracy, ECE, NLL and, for two classes, AUROC of p̄ on labelled in-distribution tiles."""
    p = mean_probability(logits, temperature)
    truth = np.clip(p[np.arange(len(labels)), labels], 1e-12, None)
    return {
        "n": len(labels),
        "accuracy": float((p.argmax(axis=1) == labels).mean()),
        "auroc": auroc(p[:, 1], labels == 1) if p.shape[1] == 2 else None,
        "ece": expected_calibration_error(p, labels),
        "nll": float(-np.log(truth).mean()),
    }


def markdown(rows: Sequence[Row], value: str) -> str:
    """A table of ``auroc`` or ``fpr95``: scores down, sets across, best of each set in bold."""
    sets = list(dict.fromkeys(row.set for row in rows))
    scores = list(dict.fromkeys(row.score for row in rows))
    cells = {(row.score, row.set): float(getattr(row, value)) for row in rows}
    pick = max if value == "auroc" else min
    best = {s: pick(round(cells[score, s], 3) for score in scores) for s in sets}
    lines = [
        f"| {value.upper()} | {' | '.join(sets)} |",
        f"|---|{'---|' * len(sets)}",
    ]
    for score in scores:
        texts = [f"{cells[score, s]:.3f}" for s in sets]
        marked = [
            f"**{t}**" if float(t) == best[s] else t for t, s in zip(texts, sets, strict=True)
        ]
        lines.append(f"| `{score}` | {' | '.join(marked)} |")
    return "\n".join(lines)
