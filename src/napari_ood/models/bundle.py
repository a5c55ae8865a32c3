"""A bundle on disk: card + weights + reference, each file checked before it is used.

No torch is loaded until ``Bundle.network`` is called. Weights, reference and extras are
safetensors: opening them runs no code.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from napari_ood.errors import BundleError
from napari_ood.models.card import EXTRAS, HALVED, MODEL, REFERENCE, Card, read_card
from napari_ood.models.reference import Reference
from napari_ood.torch_import import load_torch

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
        What determines a run, which records it: sha256 of weights and reference by file name, and
        under ``card`` that of the card. Extras don't count: a run made before they were added
        stays a run of this bundle.
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
        tensors = self.arrays(REFERENCE)
        if tensors is None:
            return None
        reference = Reference.from_tensors(tensors, self.card.blocks, self.card.temperature)
        heads = reference.validation_logits.shape[1:]
        if heads != (self.card.n_heads, self.card.n_classes):
            raise BundleError(f"the reference of {self.name!r} is of another model: heads {heads}")
        return reference

    def in_precision(self, precision: str) -> Bundle:
        """Return the bundle that runs of a precision are judged by.

        For ``bf16`` its reference's held-out tiles, and so thresholds, ranges and quantiles, are
        those of bf16, where the bundle has them; all else is shared.
        """
        return self._halved if precision == "bf16" and HALVED in self.card.files else self

    @cached_property
    def _halved(self) -> Bundle:
        from napari_ood.models.halved import halved_reference

        other = copy.copy(self)
        other.__dict__["reference"] = halved_reference(self)
        other.__dict__["_halved"] = other
        return other

    def arrays(self, name: str) -> dict[str, NDArray[np.generic]] | None:
        """Read the arrays of one of its files, e.g. an extra; None when the bundle lacks it.

        Raises
        ------
        BundleError
            If the file was altered since the bundle was opened, or is no safetensors file.
        """
        if name not in self.card.files:
            return None
        from safetensors.numpy import load

        try:
            return dict(load(self._read(name)))
        except (SafetensorError, ValueError, KeyError) as error:
            raise BundleError(f"{self.path / name} is not safetensors: {error}") from error

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
        load_torch()
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
            untrained=False,
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
    for name, expected in card.files.items():
        file = path / name
        if not file.is_file():
            raise BundleError(f"bundle {card.name!r} lacks {file}: download it again")
        if file.stat().st_size != expected.size or _sha256(file) != expected.sha256:
            raise BundleError(_altered(file))
    decisive = {name: f.sha256 for name, f in card.files.items() if name not in EXTRAS}
    return Bundle(path, card, {"card": _hash_of(card), **decisive})


def _hash_of(card: Card) -> str:
    """Sha256 of what a card says, its list of files apart; layout and unknown keys don't count."""
    config = card.to_config()
    config["napari_ood"].pop("files")
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


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
