"""A reference as tensors of a file, and what must hold for its arrays (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import BundleError
from napari_ood.slides.appearance import STATISTICS
from napari_ood.slides.spectrum import N_BANDS

if TYPE_CHECKING:
    from napari_ood.models.reference import Reference

TENSORS = (
    "train.features",
    "train.labels",
    "head.weight",
    "head.bias",
    "validation.logits",
    "validation.features",
    "validation.labels",
)
NUISANCE = "nuisance.features"
_STATISTIC_TENSORS = tuple(f"train.statistics.{name}" for name in STATISTICS)
"""One tensor per statistic: the file says what is what."""
SPECTRUM, GRAIN = "train.spectrum", "train.grain"
N_GRAINS = 4


def to_tensors(reference: Reference) -> dict[str, NDArray[np.generic]]:
    """Arrays as ``reference.safetensors`` stores them (features in half precision)."""
    stored = {
        "train.features": _half(reference.train_features),
        "train.labels": reference.train_labels.astype(np.int16),
        "head.weight": reference.head_weight,
        "head.bias": reference.head_bias,
        "validation.logits": reference.validation_logits,
        "validation.features": _half(reference.validation_features),
        "validation.labels": reference.validation_labels.astype(np.int16),
    }
    if reference.nuisance_features is not None:
        stored[NUISANCE] = _half(reference.nuisance_features)
    if reference.statistics is not None:
        stored |= dict(zip(_STATISTIC_TENSORS, reference.statistics.T, strict=True))
    if reference.spectrum is not None:
        stored[SPECTRUM] = _half(reference.spectrum)
    if reference.grain is not None:
        stored[GRAIN] = reference.grain
    # safetensors writes the buffer as it lies in memory and ignores strides.
    return {name: np.ascontiguousarray(array) for name, array in stored.items()}


def arrays_in(tensors: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
    """Those arrays that ``Reference`` takes, by its names. BundleError when some are missing."""
    missing = [name for name in TENSORS if name not in tensors]
    if missing:
        raise BundleError(f"the bundle's reference lacks {missing[0]!r}: download it again")
    # Older bundles have no changed tiles, or no statistics of what tiles look like.
    columns = [tensors[name] for name in _STATISTIC_TENSORS if name in tensors]
    whole = len(columns) == len(_STATISTIC_TENSORS)
    optional = {
        "nuisance_features": tensors.get(NUISANCE),
        "statistics": np.stack(columns, axis=1) if whole else None,
        "spectrum": tensors.get(SPECTRUM),
        "grain": tensors.get(GRAIN),
    }
    return {
        **{name.replace(".", "_"): tensors[name] for name in TENSORS},
        **{name: array for name, array in optional.items() if array is not None},
    }


def check_arrays(reference: Reference) -> None:
    """BundleError if shapes don't fit together or values are not finite."""
    n, d = _shape(reference.train_features, 2, "train.features")
    v, m, c = _shape(reference.validation_logits, 3, "validation.logits")
    width = reference.blocks[-1].stop if reference.blocks else 0
    expected = {
        "train.labels": (reference.train_labels.shape, (n,)),
        "validation.features": (reference.validation_features.shape, (v, d)),
        "validation.labels": (reference.validation_labels.shape, (v,)),
        "head.weight": (reference.head_weight.shape[:2], (m, c)),
        "head.bias": (reference.head_bias.shape, (m, c)),
        "train.features": ((d,), (width,)),
    }
    if reference.nuisance_features is not None:
        expected[NUISANCE] = (reference.nuisance_features.shape, (n, d))
    if reference.statistics is not None:
        expected["train.statistics"] = (reference.statistics.shape, (n, len(STATISTICS)))
    if reference.spectrum is not None:
        expected[SPECTRUM] = (reference.spectrum.shape, (n, N_BANDS))
    if reference.grain is not None:
        expected[GRAIN] = (reference.grain.shape, (N_GRAINS, N_BANDS + 1))
    for name, (found, wanted) in expected.items():
        if found != wanted:
            raise BundleError(f"reference {name!r} has shape {found}, expected {wanted}")
    if n < 2 or v < 1:
        raise BundleError("a reference needs training and validation tiles")
    arrays = [reference.train_features, reference.validation_features, reference.validation_logits]
    arrays += [reference.head_weight, reference.head_bias]
    optional = (
        reference.nuisance_features,
        reference.statistics,
        reference.spectrum,
        reference.grain,
    )
    for array in arrays + [a for a in optional if a is not None]:
        if not np.isfinite(array).all():
            raise BundleError("the reference holds values that are not finite")
    if min(reference.train_labels.min(), reference.validation_labels.min()) < 0:
        raise BundleError("the reference holds negative labels")


def _shape(array: NDArray[np.generic], ndim: int, name: str) -> tuple[int, ...]:
    if array.ndim != ndim:
        raise BundleError(f"reference {name!r} has shape {array.shape}, expected {ndim} axes")
    return array.shape


def _half(array: NDArray[np.float32]) -> NDArray[np.generic]:
    """Half precision, unless a value would overflow."""
    limit = float(np.finfo(np.float16).max)
    return array.astype(np.float16) if float(np.abs(array).max()) < limit else array
