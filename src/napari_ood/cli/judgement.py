"""What a bundle that judges whole images says of one: class, probabilities, scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_ood.scores import parse_score

if TYPE_CHECKING:
    from napari_ood.inference import Run

ABOVE = {
    "uncertainty": "less sure",
    "ood": "more foreign",
    "appearance": "more foreign",
    "tissue": "more foreign",
}
"""What a high score means, in words."""


def judge(run: Run) -> dict[str, Any]:
    """Return the JSON record of a run's only tile.

    Keys: ``prediction``, ``probabilities`` per class, and ``scores``: per kind in the card its
    ``score`` name, ``value``, and ``share_below``, the share of in-distribution images that score
    lower. Scores that need a reference are left out where the bundle has none, those that need
    features where the run holds none.
    """
    p = run.probabilities()[0]
    reference = run.bundle().reference
    scores = {}
    for kind in run.card.scores:
        name = run.score_name(kind)
        if reference is not None and (run.has_features or not parse_score(name).needs_features):
            value = float(run.score(kind)[0])
            familiar = reference.validation_scores(name)
            share = float(np.searchsorted(familiar, value) / len(familiar))
            scores[kind] = {"score": name, "value": round(value, 4), "share_below": round(share, 4)}
    return {
        "prediction": run.classes[int(p.argmax())],
        "probabilities": {c: round(float(x), 4) for c, x in zip(run.classes, p, strict=True)},
        "scores": scores,
    }


def judgement_text(judged: dict[str, Any]) -> str:
    """Say it in two lines: classes by probability, then scores."""
    ranked = sorted(judged["probabilities"].items(), key=lambda item: -item[1])
    classes = ", ".join(f"{name} {100 * p:.0f} %" for name, p in ranked)
    scores = [
        f"{'OOD' if kind == 'ood' else kind} {facts['value']:.3g}: {ABOVE[kind]} than "
        f"{100 * facts['share_below']:.0f} % of in-distribution images"
        for kind, facts in judged["scores"].items()
    ]
    return "\n".join([classes, *scores])
