"""The methods that a comparison compares, as networks to train (no torch).

Single network, MC-dropout, ensemble and M-heads are those of Linmans et al., *Efficient
out-of-distribution detection in digital pathology using multi-head convolutional neural networks*,
MIDL 2020. All train with the same settings but for what makes the method.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from napari_ood.errors import TrainingError
from napari_ood.training.config import TrainConfig

KINDS = ("single", "mcdropout", "ensemble", "mheads")
LOSSES = ("mean", "wta_batch", "wta_sample", "annealed")
MEMBER_STRIDE = 1000
"""Seed of member k of the ensemble of seed s: s + 1000 k, so that no two ensembles share one."""
_FREE = ("device", "seed")
_MHEADS = re.compile(r"mheads(?::(?P<loss>\w+))?(?:@(?P<depth>\d+))?(?P<bootstrap>\+bootstrap)?")
_HOW = "mheads[:LOSS][@HEAD_DEPTH][+bootstrap], such as mheads:annealed@2"


@dataclass(frozen=True)
class NetworkPlan:
    """One network to train, and how its answers are drawn.

    Attributes
    ----------
    config : of ``train``, its seed included
    inner_dropout : rate after convolutions inside the trunk; 0: none
    samples : stochastic passes that count as heads; 0: one pass with dropout off
    """

    config: TrainConfig
    inner_dropout: float = 0.0
    samples: int = 0

    def key(self, data: Mapping[str, str]) -> str:
        """Digest of all that the trained weights depend on; ``data``: digests of the tiles."""
        # Without what is off, so that a setting that is added later, and off, changes no key.
        config = {k: v for k, v in self.config.as_dict().items() if v and k != "device"}
        known = {"config": config, "inner_dropout": self.inner_dropout, "data": dict(data)}
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Method:
    """A row of the comparison.

    Attributes
    ----------
    name : as it was asked for, e.g. ``mheads:annealed@2``
    kind : one of ``KINDS``
    plan : of its first network, whose seed is replaced
    n_networks : networks that are trained for it, per seed
    """

    name: str
    kind: str
    plan: NetworkPlan
    n_networks: int = 1

    def networks(self, seed: int) -> list[NetworkPlan]:
        """Plans of its networks for a seed; an ensemble's first one is the single network."""
        return [
            replace(self.plan, config=replace(self.plan.config, seed=seed + MEMBER_STRIDE * k))
            for k in range(self.n_networks)
        ]

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready description; seed and device left out."""
        config = {k: v for k, v in self.plan.config.as_dict().items() if k not in _FREE}
        return {
            "kind": self.kind,
            "n_networks": self.n_networks,
            "inner_dropout": self.plan.inner_dropout,
            "samples": self.plan.samples,
            "config": config,
        }


def parse_methods(
    names: Sequence[str], base: TrainConfig, members: int, samples: int, dropout: float
) -> tuple[Method, ...]:
    """Turn names into methods.

    Parameters
    ----------
    names : ``single``, ``mcdropout``, ``ensemble``, ``mheads[:LOSS][@HEAD_DEPTH][+bootstrap]``
    base : settings that all networks share; ``loss`` and ``head_blocks`` are the defaults of
        ``mheads``
    members : networks of the ensemble, heads of ``mheads``
    samples : stochastic passes of ``mcdropout``
    dropout : its rate

    Raises
    ------
    TrainingError
        For a name that is unknown or given twice, or sizes that make no sense.
    """
    if members < 2:
        raise TrainingError(f"an ensemble of {members} is none: members must be at least 2")
    if samples < 2:
        raise TrainingError(f"MC-dropout with {samples} samples is none: at least 2")
    if not 0 < dropout < 1:
        raise TrainingError(f"dropout is {dropout:g}: it must be above 0 and below 1")
    # Without the bootstrap: networks that start apart differ enough, and a single network must
    # not be handicapped by seeing 63 % of its tiles (Lakshminarayanan et al., NeurIPS 2017).
    one = replace(base, n_heads=1, head_blocks=0, loss="mean", bootstrap=False, dropout=0.0)
    found: dict[str, Method] = {}
    for name in names:
        if name in found:
            raise TrainingError(f"method {name!r} is given twice")
        if name == "single":
            found[name] = Method(name, name, NetworkPlan(one))
        elif name == "ensemble":
            found[name] = Method(name, name, NetworkPlan(one), members)
        elif name == "mcdropout":
            plan = NetworkPlan(replace(one, dropout=dropout), dropout, samples)
            found[name] = Method(name, name, plan)
        else:
            found[name] = Method(name, "mheads", NetworkPlan(_mheads(name, base, members)))
    if not found:
        raise TrainingError(f"name the methods to compare: {', '.join(KINDS)}")
    return tuple(found.values())


def _mheads(name: str, base: TrainConfig, members: int) -> TrainConfig:
    match = _MHEADS.fullmatch(name)
    if match is None:
        raise TrainingError(f"unknown method {name!r}: choose {', '.join(KINDS[:3])} or {_HOW}")
    loss, depth = match["loss"] or base.loss, match["depth"]
    if loss not in LOSSES:
        raise TrainingError(f"{name!r}: unknown loss {loss!r}, choose {', '.join(LOSSES)}")
    return replace(
        base,
        n_heads=members,
        loss=loss,
        head_blocks=base.head_blocks if depth is None else int(depth),
        bootstrap=match["bootstrap"] is not None,
        dropout=0.0,
    )
