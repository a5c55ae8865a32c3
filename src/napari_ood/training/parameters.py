"""Which parameters learn, and how fast (torch)."""

from __future__ import annotations

from typing import Any

from torch import nn

from napari_ood.errors import TrainingError
from napari_ood.models import MultiHeadNet
from napari_ood.training.schedule import HEADS


def parameter_units(net: MultiHeadNet) -> list[list[nn.Parameter]]:
    """Parameters of the trunk's units, input side first, and those of the heads at the end.

    What belongs to no unit, like a class token or a position embedding, is on the input side.
    """
    units = [parameters for _, parameters in net.trunk_units()]
    heads = net.head_parameters()
    known = {id(p) for unit in [*units, heads] for p in unit}
    units[0] = [p for p in net.parameters() if id(p) not in known] + units[0]
    return [*units, heads]


def parameter_groups(
    net: MultiHeadNet, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Groups for AdamW of all parameters that require a gradient, with their ``scale``.

    ``scale`` is the learning rate relative to the heads': ``layer_decay`` to the power of the
    unit's distance from them. Weights decay in matrices only: decaying biases and norms harms and
    regularises nothing. The heads' parameters have a first dimension more, one row per head.
    """
    units = parameter_units(net)
    stacked = {id(p) for p in net.heads.parameters()}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for i, unit in enumerate(units):
        scale = layer_decay ** (len(units) - 1 - i)
        for p in unit:
            if p.requires_grad:
                is_matrix = p.ndim - (id(p) in stacked) >= 2
                groups.setdefault((scale, is_matrix), []).append(p)
    return [
        {"params": parameters, "weight_decay": weight_decay if matrices else 0.0, "scale": scale}
        for (scale, matrices), parameters in groups.items()
    ]


def choose_trainable(net: MultiHeadNet, stage: str, freeze: int) -> None:
    """Let the parameters of a stage require gradients: heads only, or all but ``freeze`` units.

    Raises
    ------
    TrainingError
        If the trunk has fewer units than shall be frozen.
    """
    *trunk, heads = parameter_units(net)
    if freeze > len(trunk):
        raise TrainingError(f"freeze is {freeze}, but the trunk has {len(trunk)} units")
    for i, unit in enumerate(trunk):
        for p in unit:
            p.requires_grad_(stage != HEADS and i >= freeze)
    for p in heads:
        p.requires_grad_(True)


def training_mode(net: MultiHeadNet) -> None:
    """Training mode for modules that learn, evaluation mode for those that are frozen.

    A frozen batch norm in training mode would still change its statistics and its output.
    """
    net.train()
    for module in net.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()
