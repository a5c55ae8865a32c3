"""Trunks by name: from timm's and torchvision's registries, and one of our own."""

from __future__ import annotations

from typing import Any

import timm
import torchvision
from torch import nn

from napari_ood.errors import BundleError
from napari_ood.models import densenet


def resolve_architecture(name: str) -> str:
    """Return ``timm:<name>`` or ``torchvision:<name>`` for a name with or without that prefix.

    ``mheads_densenet`` (``napari_ood:mheads_densenet``) is the small DenseNet of Linmans et al.
    A bare name is looked up in timm before torchvision. Only names in the registries count: timm's
    ``hf-hub:`` and ``local-dir:`` sources, which fetch or open files, do not.

    Raises
    ------
    BundleError
        If neither registry knows the name.
    """
    library, colon, bare = name.partition(":")
    if not colon:
        library, bare = "", name
    if library in ("", "napari_ood") and bare == densenet.NAME:
        return f"napari_ood:{bare}"
    if library in ("", "timm") and timm.is_model(bare):
        return f"timm:{bare}"
    if library in ("", "torchvision") and bare in _torchvision_names():
        return f"torchvision:{bare}"
    raise BundleError(
        f"unknown architecture {name!r}: it must be a classification model of timm "
        f"{timm.__version__} or torchvision {torchvision.__version__}; newer ones may have it"
    )


def _torchvision_names() -> list[str]:
    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def build_trunk(architecture: str, tile_size: int, pretrained: bool = False) -> nn.Module:
    """Build a trunk that maps ``[B, 3, t, t]`` float to penultimate features ``[B, D]``.

    In-place activations are made out-of-place, so that neither feature taps nor gradients see a
    tensor that a later layer has overwritten.

    Parameters
    ----------
    architecture : str
        As ``resolve_architecture`` takes it.
    tile_size : int
        Side of the tiles in px; transformers are built for this size.
    pretrained : bool
        Start from the library's published weights (downloads them).
    """
    library, _, name = resolve_architecture(architecture).partition(":")
    if library == "napari_ood":
        if pretrained:
            raise BundleError(f"there are no published weights of {name!r}")
        return densenet.mheads_densenet()
    build = _build_timm if library == "timm" else _build_torchvision
    trunk = build(name, tile_size, pretrained)
    for module in trunk.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    return trunk


def _build_timm(name: str, tile_size: int, pretrained: bool) -> nn.Module:
    config = timm.get_pretrained_cfg(name)
    sized: dict[str, Any] = (
        {"img_size": tile_size} if config is not None and config.fixed_input_size else {}
    )
    return timm.create_model(name, pretrained=pretrained, num_classes=0, **sized)


def _build_torchvision(name: str, tile_size: int, pretrained: bool) -> nn.Module:
    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        options["image_size"] = tile_size
    if name.startswith("maxvit"):
        options["input_size"] = (tile_size, tile_size)
    if name in ("inception_v3", "googlenet") and not pretrained:
        options |= {"aux_logits": False, "init_weights": True}
    weights = "DEFAULT" if pretrained else None
    trunk: nn.Module = torchvision.models.get_model(name, weights=weights, **options)
    # Published weights bring auxiliary classifiers and a normalisation of the input; a bundle that
    # is opened again is built without weights, and would have neither.
    for switch in ("aux_logits", "transform_input"):
        if getattr(trunk, switch, False):
            setattr(trunk, switch, False)
    for auxiliary in ("aux1", "aux2", "AuxLogits"):
        if getattr(trunk, auxiliary, None) is not None:
            setattr(trunk, auxiliary, None)
    _drop_classifier(trunk, name)
    return trunk


def _drop_classifier(trunk: nn.Module, name: str) -> None:
    for attribute in ("fc", "heads", "head", "classifier"):
        head = getattr(trunk, attribute, None)
        if isinstance(head, nn.Linear):
            setattr(trunk, attribute, nn.Identity())
            return
        if isinstance(head, nn.Sequential) and isinstance(head[-1], nn.Linear):
            head[-1] = nn.Identity()
            return
    raise BundleError(f"architecture 'torchvision:{name}' has no linear classifier to replace")


def positions_last(trunk: nn.Module) -> bool:
    """Whether the trunk's 4-D maps are ``[B, h, w, C]`` (Swin) instead of ``[B, C, h, w]``."""
    is_swin = isinstance(trunk, torchvision.models.SwinTransformer)
    return is_swin or str(getattr(trunk, "output_fmt", "NCHW")).endswith("NHWC")
