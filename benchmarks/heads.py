"""Do heads that share the whole trunk differ? New heads on the features that a bundle stores.

    python benchmarks/heads.py [--bundle lymph-node-he] [--seed 0]

Trains ten heads with each loss on the penultimate features of the bundle's reference and compares
them on its held-out tiles, printed as a markdown table. Needs no images; under a minute.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import torch

from napari_ood.evaluation import auroc
from napari_ood.models import Reference, load_bundle
from napari_ood.models.network import Heads
from napari_ood.scores import disagreement, entropy, mean_probability
from napari_ood.training.losses import (
    LOSSES,
    ensemble_nll,
    fit_temperature,
    head_cross_entropy,
    win_share,
)

N_HEADS, WIDTH, BATCH, LEARNING_RATE, WEIGHT_DECAY = 10, 64, 64, 1e-3, 0.05


@dataclass(frozen=True)
class Trial:
    """One way of training the heads."""

    loss: str
    epsilon: float = 0.0
    depth: int = 1
    bootstrap: bool = False
    dropout: float = 0.2
    epochs: int = 10


TRIALS = (
    Trial("mean"),
    Trial("mean", bootstrap=True),
    Trial("mean", bootstrap=True, dropout=0.5, epochs=30),
    Trial("mean", depth=2, bootstrap=True, dropout=0.5, epochs=30),
    Trial("wta_sample", epsilon=0.3),
    Trial("wta_sample", epsilon=0.5, bootstrap=True, dropout=0.5, epochs=20),
    Trial("wta_sample", epsilon=0.7, bootstrap=True, dropout=0.5, epochs=20),
    Trial("wta_batch", epsilon=0.05),
)


def main() -> None:
    """Print one row per trial, the bundle's own heads first."""
    parser = argparse.ArgumentParser(description="Compare losses of heads on stored features.")
    parser.add_argument("--bundle", default="lymph-node-he", help="name or folder")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    reference = load_bundle(options.bundle).require_reference()
    print(
        "| heads | NLL | AUROC | correlation of margins | wrong found by entropy | by disagreement "
        "| largest win share |\n|---|---|---|---|---|---|---|"
    )
    own = torch.from_numpy(reference.validation_logits)
    print(_row("as trained", own, reference))
    for trial in TRIALS:
        print(_row(_name(trial), train_heads(trial, reference, options.seed), reference))


def train_heads(trial: Trial, reference: Reference, seed: int) -> torch.Tensor:
    """Logits ``[V, M, C]`` of freshly trained heads on the held-out tiles."""
    torch.manual_seed(seed)
    x, held = (
        torch.from_numpy(reference.select(features, ["penultimate"]))
        for features in (reference.train_features, reference.validation_features)
    )
    y = torch.from_numpy(reference.train_labels)
    heads = Heads(x.shape[1], N_HEADS, reference.n_classes, trial.depth, WIDTH, trial.dropout)
    optimizer = torch.optim.AdamW(heads.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    weights = torch.ones(len(x), N_HEADS)
    if trial.bootstrap:
        weights = torch.poisson(weights)
    for _ in range(trial.epochs):
        for rows in torch.split(torch.randperm(len(x)), BATCH):
            losses = head_cross_entropy(heads(x[rows]), y[rows])
            loss = LOSSES[trial.loss](losses, weights[rows], trial.epsilon)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        return heads.eval()(held)


def _row(name: str, logits: torch.Tensor, reference: Reference) -> str:
    labels = torch.from_numpy(reference.validation_labels)
    t = fit_temperature(logits, labels)
    z = logits.numpy()
    p = mean_probability(z, t)
    wrong = p.argmax(axis=1) != reference.validation_labels
    margins = np.corrcoef((z[..., 1] - z[..., 0]).T)
    values = (
        float(ensemble_nll(logits, labels, t)),
        auroc(p[:, 1], reference.validation_labels == 1),
        margins[np.triu_indices(len(margins), 1)].mean(),
        auroc(entropy(z, t), wrong),
        auroc(disagreement(z, t), wrong),
        float(win_share(head_cross_entropy(logits, labels)).max()),
    )
    return f"| {name} | " + " | ".join(f"{value:.3f}" for value in values) + " |"


def _name(trial: Trial) -> str:
    epsilon = f" ε {trial.epsilon}" if trial.epsilon else ""
    bootstrap = ", bootstrap" if trial.bootstrap else ""
    return (
        f"{trial.loss}{epsilon}, {trial.depth} hidden{bootstrap}, dropout {trial.dropout}, "
        f"{trial.epochs} epochs"
    )


if __name__ == "__main__":
    main()
