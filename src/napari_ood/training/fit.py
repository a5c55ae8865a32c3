"""Fitting the reference: what in-distribution tiles look like to a trained network (torch)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_ood.models import MultiHeadNet, Reference
from napari_ood.slides.appearance import tile_statistics
from napari_ood.slides.spectrum import tile_spectrum
from napari_ood.training.grain import fit_grain
from napari_ood.training.loop import Labels, Tiles, run_network
from napari_ood.training.nuisance import changed_tiles

TRAIN_TILES, VALIDATION_TILES = 2000, 1000


def fit_reference(
    net: MultiHeadNet,
    mean: Sequence[float],
    std: Sequence[float],
    train_images: Tiles,
    train_labels: Labels,
    val_images: Tiles,
    val_labels: Labels,
    *,
    temperature: float = 1.0,
    n_train: int = TRAIN_TILES,
    n_validation: int = VALIDATION_TILES,
    with_changes: bool = True,
    augment: str = "he",
    seed: int = 0,
    device: str = "auto",
) -> Reference:
    """Run the network over tiles and keep features, logits and labels.

    Distances are fitted to training tiles, a class-balanced sample; ranges and thresholds come
    from held-out tiles, in the proportions in which they are given. The same training tiles are run
    again with a changed appearance, from which ``invariant`` learns what to disregard. No OOD data
    is involved.

    Parameters
    ----------
    net : MultiHeadNet
        As it will be stored: weights in half precision are rounded first (see Notes).
    mean, std : per channel, of RGB in 0…1
    train_images, val_images : [N, t, t, 3] uint8
    train_labels, val_labels : [N] int
    temperature : float
        Of the card.
    n_train, n_validation : int
        At most so many tiles of each are kept.
    with_changes : bool
        Whether to run the kept training tiles with a changed appearance, too.
    augment : "he" or "photo"
        What tiles of the same kind differ in, see ``changed_tiles``.
    seed : int
    device : str

    Notes
    -----
    A bundle stores matrices in half precision. To score with exactly the features that the
    reference was fitted to, pass a network that went through ``round_to_half``.
    """
    rng = np.random.default_rng(seed)
    kept = balanced_sample(train_labels, n_train, rng)  # first, as reference_rows draws them
    held = np.sort(rng.permutation(len(val_labels))[:n_validation])
    _, features = run_network(net, mean, std, train_images[kept], device)
    nuisance = None
    if with_changes:
        changed = changed_tiles(train_images[kept], augment, seed)
        nuisance = run_network(net, mean, std, changed, device)[1] - features
    val_logits, val_features = run_network(net, mean, std, val_images[held], device)
    weight, bias = net.final_layer()
    return Reference(
        train_features=features,
        train_labels=train_labels[kept],
        head_weight=weight.cpu().numpy(),
        head_bias=bias.cpu().numpy(),
        validation_logits=val_logits,
        validation_features=val_features,
        validation_labels=val_labels[held],
        blocks=net.blocks,
        temperature=temperature,
        nuisance_features=nuisance,
        statistics=tile_statistics(train_images[kept]),
        spectrum=tile_spectrum(train_images[kept]),
        grain=fit_grain(train_images[kept], scales=augment != "photo", seed=seed),
    )


def reference_rows(
    train_labels: Labels, n_train: int = TRAIN_TILES, seed: int = 0
) -> NDArray[np.int64]:
    """Which training tiles the rows of a reference are of, as `fit_reference` draws them."""
    return balanced_sample(train_labels, n_train, np.random.default_rng(seed))


def balanced_sample(labels: Labels, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Sorted indices of at most ``n`` tiles, as evenly over the classes as they allow."""
    queues = [rng.permutation(np.flatnonzero(labels == c)) for c in np.unique(labels)]
    chosen: list[NDArray[np.int64]] = []
    left = n
    # Small classes first: what they can't fill goes to the larger ones.
    for i, queue in enumerate(sorted(queues, key=len)):
        share = min(len(queue), left // (len(queues) - i))
        chosen.append(queue[:share])
        left -= share
    return np.sort(np.concatenate(chosen))


def round_to_half(net: MultiHeadNet) -> MultiHeadNet:
    """Round matrices to half precision in place, as a saved bundle holds them; return the net."""
    for tensor in net.state_dict().values():
        if tensor.is_floating_point() and tensor.ndim >= 2:
            tensor.copy_(tensor.half())
    return net
