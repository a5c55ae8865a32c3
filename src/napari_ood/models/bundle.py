"""A bundle on disk: card + weights + reference, each file checked before it is used.

No torch is loaded until ``Bundle.network`` is called. Weights and reference are safetensors:
opening them runs no code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from napari_ood.errors import BundleError
from napari_ood.models.card import CONFIG, MODEL, REFERENCE, BundleFile, Card, read_card
from napari_ood.models.reference import Reference

if TYPE_CHECKING:
    from torch import Tensor

    from napari_ood.models.network import BlockSpec, MultiHeadNet
    from napari_ood.models.prepared import InferenceNet

CHUNK_BYTES = 1 << 22


class Bundle:
    """A model with its card and, usually, its reference.

    Attributes
    ----------
    path : Path
        Its folder.
    card : Card
    hashes : dict of str to str
        sha256 of every file, ``config.json`` included: what a run records.
    """

    def __init__(self, path: Path, card: Card, hashes: dict[str, str]) -> None:
        self.path, self.card, self.hashes = path, card, hashes

    def __repr__(self) -> str:
        return f"Bundle({self.name!r}, {str(self.path)!r})"

    @property
    def name(self) -> str:
        """Name on the card."""
        return self.card.name

    @cached_property
    def reference(self) -> Reference | None:
        """In-distribution features and logits; None when the bundle has no such file.

        Raises
        ------
        BundleError
            If the file was altered since the bundle was opened, or does not fit the card.
        """
        if REFERENCE not in self.card.files:
            return None
        from safetensors.numpy import load

        try:
            tensors = load(self._read(REFERENCE))
        except (SafetensorError, ValueError, KeyError) as error:
            raise BundleError(f"{self.path / REFERENCE} is not safetensors: {error}") from error
        reference = Reference.from_tensors(tensors, self.card.blocks, self.card.temperature)
        heads = reference.validation_logits.shape[1:]
        if heads != (self.card.n_heads, self.card.n_classes):
            raise BundleError(f"the reference of {self.name!r} is of another model: heads {heads}")
        return reference

    def require_reference(self) -> Reference:
        """Return the reference; BundleError with advice when the bundle has none."""
        if self.reference is None:
            raise BundleError(
                f"bundle {self.name!r} has no reference: OOD scores and fixed colour ranges need "
                "one; fit it with napari_ood.training.fit_reference"
            )
        return self.reference

    def network(self, device: str = "cpu") -> InferenceNet:
        """Build the network for running it (loads torch).

        A new module on each call, so the caller may hook or change it. It is in eval mode,
        channels_last, with batch norms fused. It takes uint8 tiles ``[B, t, t, 3]`` on the
        device and returns float32 logits ``[B, M, C]`` and features ``[B, D]``.

        Parameters
        ----------
        device : str
            As ``napari_ood.models.resolve_device`` takes it.

        Raises
        ------
        BundleError
            If the architecture is unknown, the weights don't fit it, or a file was altered.
        DeviceError
            If the device is not available.
        """
        from napari_ood.models.device import resolve_device
        from napari_ood.models.prepared import InferenceNet

        target = resolve_device(device)
        net = InferenceNet(self.trained_network(), self.card.mean, self.card.std)
        return net.to(target).eval()

    def trained_network(self, blocks: Sequence[BlockSpec] | None = None) -> MultiHeadNet:
        """Build the network as it was trained, unfused, on the CPU (loads torch).

        ``blocks`` are feature blocks in place of the card's, to fit another reference to.
        """
        from safetensors.torch import load

        from napari_ood.models.network import MultiHeadNet

        card = self.card
        net = MultiHeadNet(
            card.architecture,
            card.blocks if blocks is None else blocks,
            card.n_heads,
            card.n_classes,
            card.head_depth,
            card.head_width,
            card.tile_size,
            head_blocks=card.head_blocks,
            input_size=card.input_size,
        )
        if blocks is None and net.blocks != card.blocks:
            raise BundleError(
                f"bundle {self.name!r}: {card.architecture} has features {net.blocks}, "
                f"the card says {card.blocks}"
            )
        try:
            weights = load(self._read(MODEL))
        except (SafetensorError, ValueError, KeyError) as error:
            raise BundleError(f"{self.path / MODEL} is not safetensors: {error}") from error
        _load_weights(net, weights, self.name)
        return net

    def _read(self, name: str) -> bytes:
        """Read a file and check it again: what is used is what was hashed."""
        try:
            data = (self.path / name).read_bytes()
        except OSError as error:
            raise BundleError(f"{self.path / name} cannot be read: {error}") from error
        if hashlib.sha256(data).hexdigest() != self.card.files[name].sha256:
            raise BundleError(_altered(self.path / name))
        return data


def open_bundle(folder: str | Path) -> Bundle:
    """Open a bundle folder: check its card, then size and sha256 of every file (no torch).

    Raises
    ------
    BundleError
        If the card is not valid, or a file is missing or not the one that the card names.
    """
    path = Path(folder).resolve()
    card = read_card(path)
    hashes = {CONFIG: _sha256(path / CONFIG)}
    for name, expected in card.files.items():
        file = path / name
        if not file.is_file():
            raise BundleError(f"bundle {card.name!r} lacks {file}: download it again")
        if file.stat().st_size != expected.size or _sha256(file) != expected.sha256:
            raise BundleError(_altered(file))
        hashes[name] = expected.sha256
    return Bundle(path, card, hashes)


def save_bundle(
    folder: str | Path, net: MultiHeadNet, card: Card, reference: Reference | None = None
) -> Bundle:
    """Write a bundle and open it again.

    The card's architecture, heads, feature blocks and files are taken from ``net`` and from what
    was written. Matrices are stored in half precision, vectors (batch norm) in float32.

    Parameters
    ----------
    folder : path
        Created; an older bundle in it is overwritten.
    net : MultiHeadNet
        In the state to be stored.
    card : Card
    reference : Reference, optional

    Raises
    ------
    BundleError
        If the folder holds something else, or card, network and reference don't fit together.
    """
    from safetensors.numpy import save as arrays_to_bytes
    from safetensors.torch import save as tensors_to_bytes

    path = Path(folder)
    if path.exists() and (not path.is_dir() or (any(path.iterdir()) and not _holds_bundle(path))):
        raise BundleError(f"{path} exists and is no bundle: choose another folder")
    card = describe(card, net)
    if reference is not None and reference.blocks != net.blocks:
        raise BundleError("the reference was fitted to another network: its features differ")
    path.mkdir(parents=True, exist_ok=True)
    (path / CONFIG).unlink(missing_ok=True)  # a half-written bundle must not look whole
    # Written by us, not by safetensors, whose files nobody else on the computer could read.
    (path / MODEL).write_bytes(tensors_to_bytes(_half_precision(net), {"format": "pt"}))
    (path / REFERENCE).unlink(missing_ok=True)
    if reference is not None:
        (path / REFERENCE).write_bytes(arrays_to_bytes(reference.tensors()))
    written = [path / name for name in (MODEL, REFERENCE) if (path / name).is_file()]
    files = {f.name: BundleFile(_sha256(f), f.stat().st_size) for f in written}
    config = dataclasses.replace(card, files=files).to_config()
    Card.from_config(config, "the card to be saved")
    text = json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False)
    (path / CONFIG).write_text(text + "\n", "utf-8")
    return open_bundle(path)


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
    return {file.name for file in path.iterdir()} <= {CONFIG, MODEL, REFERENCE}


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


def _load_weights(net: MultiHeadNet, weights: dict[str, Tensor], name: str) -> None:
    own = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    for key, tensor in own.items():
        if key not in weights:
            raise BundleError(f"bundle {name!r}: {net.architecture} needs weight {key!r}, absent")
        if weights[key].shape != tensor.shape:
            raise BundleError(
                f"bundle {name!r}: weight {key!r} has shape {tuple(weights[key].shape)}, "
                f"{net.architecture} needs {tuple(tensor.shape)}"
            )
    surplus = sorted(weights.keys() - own.keys())
    if surplus:
        raise BundleError(f"bundle {name!r}: {net.architecture} has no weight {surplus[0]!r}")
    net.load_state_dict({k: weights[k].to(v.dtype) for k, v in own.items()}, strict=False)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    return digest.hexdigest()


def _altered(path: Path) -> str:
    return f"{path} is not the file that the card names (sha256 or size differ): download it again"
