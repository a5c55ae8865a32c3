"""The network that a training starts from, when it does not start at random (torch)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load
from timm.data.constants import IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD
from torch import Tensor

from napari_ood.errors import BundleError, OodError, TrainingError
from napari_ood.models import BlockSpec, Bundle, MultiHeadNet, load_bundle
from napari_ood.models.trunks import resolve_architecture
from napari_ood.training.config import MeanStd, TrainConfig, Triple

PUBLISHED = "timm"


@dataclass(frozen=True)
class Initial:
    """A network to start from.

    Attributes
    ----------
    net : the network
    origin : in words, where its weights come from
    mean_std : what its trunk learned to be fed with, as ``TrainConfig`` has it; None: unknown
    """

    net: MultiHeadNet
    origin: str
    mean_std: MeanStd | None = None


def initial_network(init: str, config: TrainConfig, tile: int, classes: tuple[str, ...]) -> Initial:
    """Build the network that ``config`` describes and load weights into it.

    Parameters
    ----------
    init : str
        ``timm``: weights that the architecture's library publishes (downloads them). A file
        ``*.safetensors``: weights of a trunk, by its library's names. Else a bundle, by name or
        folder: its trunk, and its heads if they have the same form and classes.
    config : TrainConfig
        With its blocks.
    tile : side of the tiles in px
    classes : names, in the order of the labels

    Raises
    ------
    OodError
        If the weights can't be had or don't fit the architecture.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if init == PUBLISHED:
            return _published(config, tile, len(classes))
        net = _build(config, tile, len(classes))
    if init.endswith(".safetensors"):
        _load_file(net, Path(init))
        return Initial(net, f"weights of {Path(init).name}")
    bundle = load_bundle(init)
    origin = _load_bundle(net, bundle, classes)
    return Initial(net, origin, (bundle.card.mean, bundle.card.std))


def _build(
    config: TrainConfig, tile: int, n_classes: int, pretrained: bool = False
) -> MultiHeadNet:
    return MultiHeadNet(
        config.architecture,
        [BlockSpec(*block) for block in config.blocks],
        n_heads=config.n_heads,
        n_classes=n_classes,
        head_depth=config.head_depth,
        head_width=config.head_width,
        tile_size=tile,
        dropout=config.dropout,
        pretrained=pretrained,
        head_blocks=config.head_blocks,
        input_size=config.input_size or None,
    )


def _published(config: TrainConfig, tile: int, n_classes: int) -> Initial:
    name = resolve_architecture(config.architecture)
    if not _has_published_weights(name):
        raise TrainingError(f"no weights are published for {name}: train it without --init timm")
    try:
        net = _build(config, tile, n_classes, pretrained=True)
    except BundleError:
        raise
    except Exception as error:  # hub clients raise errors of several libraries
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error)
        raise TrainingError(
            f"the published weights of {name} cannot be had ({reason}): check the network "
            "connection, or use --init with a bundle or a .safetensors file, or none"
        ) from error
    return Initial(net, f"published weights of {name}", _published_mean_std(name))


def _has_published_weights(name: str) -> bool:
    library, _, bare = name.partition(":")
    if library == "timm":
        config = timm.get_pretrained_cfg(bare)
        return config is not None and bool(config.has_weights)
    if library == "torchvision":
        return len(torchvision.models.get_model_weights(bare)) > 0
    return False


def _published_mean_std(name: str) -> MeanStd:
    library, _, bare = name.partition(":")
    if library == "timm":
        config = timm.get_pretrained_cfg(bare)
        assert config is not None  # it has published weights
        return _triple(config.mean), _triple(config.std)
    # torchvision's ports of Google's networks turn the transform's standard into this one inside,
    # which ``build_trunk`` switches off.
    if bare in ("googlenet", "inception_v3"):
        return IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD
    transform = torchvision.models.get_model_weights(bare).DEFAULT.transforms()
    return _triple(transform.mean), _triple(transform.std)


def _triple(values: Sequence[float]) -> Triple:
    red, green, blue = values
    return red, green, blue


def _load_file(net: MultiHeadNet, path: Path) -> None:
    try:
        weights = load(path.read_bytes())
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error}") from error
    except (SafetensorError, ValueError, KeyError) as error:
        raise TrainingError(f"{path} is not safetensors: {error}") from error
    try:
        net.load_trunk(_whole_trunk(weights))
    except BundleError as error:
        raise TrainingError(f"{path} does not fit {net.architecture}: {error}") from error


def _load_bundle(net: MultiHeadNet, bundle: Bundle, classes: tuple[str, ...]) -> str:
    card = bundle.card
    if card.architecture != net.architecture:
        raise TrainingError(
            f"bundle {bundle.name!r} has a {card.architecture}, not {net.architecture}: "
            f"use --arch {card.architecture}"
        )
    trained = bundle.trained_network()
    form = (card.n_heads, card.head_depth, card.head_width, card.head_blocks, card.classes)
    own = (net.n_heads, net.head_depth, net.head_width, net.head_blocks, classes)
    if form == own:
        net.load_state_dict(trained.state_dict())
        return f"trunk and heads of bundle {bundle.name!r}"
    try:
        net.load_trunk(_whole_trunk(trained.state_dict()))
    except BundleError as error:
        raise OodError(f"bundle {bundle.name!r} does not fit: {error}") from error
    return f"trunk of bundle {bundle.name!r} (its heads have another form or other classes)"


def _whole_trunk(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the trunk's own names; of units that each head has, those of the first head."""
    for prefix in ("tails.0.", "trunk."):
        weights |= {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    return weights
