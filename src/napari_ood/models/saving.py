"""Writing bundles: everything is checked and made before the first file changes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import BundleError
from napari_ood.models.bundle import Bundle, open_bundle
from napari_ood.models.card import CONFIG, EXTRAS, MODEL, REFERENCE, BundleFile, Card
from napari_ood.models.reference import Reference

if TYPE_CHECKING:
    from torch import Tensor

    from napari_ood.models.network import MultiHeadNet

Arrays = Mapping[str, NDArray[np.generic]]


def save_bundle(
    folder: str | Path, net: MultiHeadNet, card: Card, reference: Reference | None = None
) -> Bundle:
    """Write a bundle and open it again.

    The card's architecture, heads, feature blocks and files are taken from ``net`` and from what
    is written. Matrices are stored in half precision, vectors (batch norm) in float32.

    Parameters
    ----------
    folder : path
        Created; an older bundle in it is overwritten, its extras are removed.
    net : MultiHeadNet
        In the state to be stored.
    card : Card
    reference : Reference, optional

    Raises
    ------
    BundleError
        If the folder holds something else, or card, network and reference don't fit together;
        an older bundle in the folder is then still whole.
    """
    from safetensors.torch import save as tensors_to_bytes

    path = Path(folder)
    if path.exists() and (not path.is_dir() or (any(path.iterdir()) and not _holds_bundle(path))):
        raise BundleError(f"{path} exists and is no bundle: choose another folder")
    card = describe(card, net)
    if reference is not None and reference.blocks != net.blocks:
        raise BundleError("the reference was fitted to another network: its features differ")
    contents = {MODEL: tensors_to_bytes(_half_precision(net), {"format": "pt"})}
    if reference is not None:
        contents[REFERENCE] = _to_bytes(reference.tensors())
    config = _config(dataclasses.replace(card, files=_listed(contents)))
    path.mkdir(parents=True, exist_ok=True)
    (path / CONFIG).unlink(missing_ok=True)  # a half-written bundle must not look whole
    for name in (REFERENCE, *EXTRAS):
        (path / name).unlink(missing_ok=True)
    for name, data in contents.items():
        # Written by us, not by safetensors, whose files nobody else on the computer could read.
        (path / name).write_bytes(data)
    (path / CONFIG).write_text(config, "utf-8")
    return open_bundle(path)


def add_to_bundle(
    bundle: Bundle, extras: Mapping[str, Arrays], out: str | Path | None = None
) -> Bundle:
    """Add extras to a bundle, or replace them; its other files stay as they are.

    Parameters
    ----------
    bundle : Bundle
    extras : file name (one of ``EXTRAS``) → arrays
    out : path, optional
        Folder for a copy of the bundle; None changes the bundle in its own folder.

    Returns
    -------
    Bundle
        With the same ``hashes``, so runs of the one are runs of the other.

    Raises
    ------
    BundleError
        For another file name, or when ``out`` holds something else than this bundle.
    """
    unknown = sorted(set(extras) - set(EXTRAS))
    if unknown:
        raise BundleError(f"{unknown[0]!r} is no extra of a bundle, only {', '.join(EXTRAS)}")
    path = bundle.path if out is None else _copy(bundle, Path(out))
    contents = {name: _to_bytes(arrays) for name, arrays in extras.items()}
    config = json.loads((path / CONFIG).read_text("utf-8"))  # not from the card: it may say more
    config["napari_ood"]["files"] |= {n: f._asdict() for n, f in _listed(contents).items()}
    for name, data in (*contents.items(), (CONFIG, _text(config).encode())):
        temporary = path / f".{name}.part"
        temporary.write_bytes(data)
        temporary.replace(path / name)
    return open_bundle(path)


def _copy(bundle: Bundle, out: Path) -> Path:
    if out.resolve() == bundle.path:
        return bundle.path
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        shutil.copytree(bundle.path, out, dirs_exist_ok=True)
    elif not out.is_dir() or not _holds_bundle(out) or open_bundle(out).hashes != bundle.hashes:
        raise BundleError(f"{out} exists and is not this bundle: choose another folder")
    return out.resolve()


def _to_bytes(arrays: Arrays) -> bytes:
    from safetensors.numpy import save

    # safetensors writes the buffer as it lies in memory and ignores strides.
    return bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def _listed(contents: Mapping[str, bytes]) -> dict[str, BundleFile]:
    return {
        name: BundleFile(hashlib.sha256(data).hexdigest(), len(data))
        for name, data in contents.items()
    }


def _config(card: Card) -> str:
    """The text of ``config.json``, after a check that it can be read again."""
    return _text(card.to_config())


def _text(config: dict[str, Any]) -> str:
    Card.from_config(config, "the card to be saved")
    return json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def describe(card: Card, net: MultiHeadNet) -> Card:
    """Return the card with the network's architecture, heads and feature blocks."""
    if net.n_classes != card.n_classes or net.tile_size != card.tile_size:
        raise BundleError(
            f"the network has {net.n_classes} classes and {net.tile_size} px tiles, "
            f"the card {card.n_classes} and {card.tile_size}"
        )
    return dataclasses.replace(
        card,
        architecture=net.architecture,
        blocks=net.blocks,
        n_heads=net.n_heads,
        head_depth=net.head_depth,
        head_width=net.head_width,
        head_blocks=net.head_blocks,
        input_size=net.input_size,
    )


def _holds_bundle(path: Path) -> bool:
    return {file.name for file in path.iterdir()} <= {CONFIG, MODEL, REFERENCE, *EXTRAS}


def _half_precision(net: MultiHeadNet) -> dict[str, Tensor]:
    """Weights to store; batch counts are left out, they have no meaning after training."""
    import torch

    stored = {}
    for name, tensor in net.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        value = tensor.detach().cpu()
        # Batch norm's running variances span many magnitudes and cost next to nothing.
        if value.is_floating_point() and value.ndim >= 2:
            value = value.to(torch.float16)
        if not bool(torch.isfinite(value).all()):
            raise BundleError(f"weight {name!r} is not finite or too large for half precision")
        stored[name] = value.contiguous()
    return stored
