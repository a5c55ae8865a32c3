"""Benchmark tables: how well each score tells foreign tiles from in-distribution tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_ood.evaluation.bootstrap import bootstrap_interval
from napari_ood.evaluation.metrics import (
    auroc,
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
    """A table of ``auroc`` or ``fpr95``: sets down, scores across, the best of each set in bold."""
    sets = list(dict.fromkeys(row.set for row in rows))
    scores = list(dict.fromkeys(row.score for row in rows))
    cells = {(row.score, row.set): round(float(getattr(row, value)), 3) for row in rows}
    pick = max if value == "auroc" else min
    lines = [
        f"| {value.upper()} | {' | '.join(f'`{score}`' for score in scores)} |",
        f"|---|{'---|' * len(scores)}",
    ]
    for name in sets:
        values = [cells[score, name] for score in scores]
        best = pick(values)
        marked = [f"**{v:.3f}**" if v == best else f"{v:.3f}" for v in values]
        lines.append(f"| {name} | {' | '.join(marked)} |")
    return "\n".join(lines)


def summary(rows: Sequence[Row], score: str, baseline: str, flagged: Mapping[str, float]) -> str:
    """A table of one score beside the baseline; ``flagged`` is what its threshold flags per set."""
    found = {(row.score, row.set): row for row in rows}
    lines = [
        f"| set | tiles | AUROC of `{score}` (95 % interval) | FPR95 | flagged | {baseline}: AUROC "
        "| FPR95 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row.set for row in rows):
        ours, plain = found[score, name], found[baseline, name]
        low, high = ours.auroc_ci
        lines.append(
            f"| {name} | {ours.n_ood} | {ours.auroc:.3f} ({low:.3f}–{high:.3f}) | {ours.fpr95:.3f} "
            f"| {flagged[name]:.1%} | {plain.auroc:.3f} | {plain.fpr95:.3f} |"
        )
    return "\n".join(lines)
