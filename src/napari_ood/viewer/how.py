"""In which precision a run is computed and what of its features is kept. No Qt, no napari."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_ood.errors import DeviceError
from napari_ood.models.precision import FP32
from napari_ood.naming import FEATURES

if TYPE_CHECKING:
    from napari_ood.inference import Run

FULL, HALF, NONE = FEATURES
KEPT = {FULL: "with features in full", HALF: "with features in half", NONE: "without features"}
CANNOT = "{device} cannot compute in bf16."


@dataclass(frozen=True)
class How:
    """Precision (``fp32``, ``bf16``) and stored features (``float32``, ``float16``, ``none``)."""

    precision: str = FP32
    features: str = FULL

    @classmethod
    def of_run(cls, run: Run) -> How:
        """As a stored run was begun."""
        return cls(run.arithmetic.precision, run.features_as)

    def __str__(self) -> str:
        return f"in {self.precision}, {KEPT[self.features]}"


USUAL = How()


def bf16_problem(device: str) -> str:
    """Why a device cannot compute in bf16, as a sentence; empty where it can.

    Loads torch: to be called in a thread. A device that is not there is no matter of precision.
    """
    from napari_ood.models import resolve_device
    from napari_ood.models.precision import require_bf16

    try:
        device = resolve_device(device)
    except DeviceError:
        return ""
    try:
        require_bf16(device)
    except DeviceError:
        return CANNOT.format(device="The processor" if device == "cpu" else device)
    return ""
