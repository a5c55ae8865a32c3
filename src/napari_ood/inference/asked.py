"""How a run is to be computed and stored, as far as its caller says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ood.errors import RunError
from napari_ood.models.precision import (
    AUTO,
    FP32,
    USUAL,
    Arithmetic,
    check_precision,
    resolve_arithmetic,
)
from napari_ood.naming import FEATURES, FLOAT32, NO_FEATURES

if TYPE_CHECKING:
    from napari_ood.models import Bundle


@dataclass(frozen=True)
class Asked:
    """What is asked for.

    Attributes
    ----------
    precision : ``auto``, ``fp32`` or ``bf16``
    features : ``float32``, ``float16`` or ``none``; None: as the run has them that goes on, else
        ``float32``
    device : as torch names it
    batch_size : tiles per forward pass

    Raises
    ------
    RunError
        For a word that is none of these.
    """

    precision: str = AUTO
    features: str | None = None
    device: str = "cpu"
    batch_size: int = 1

    def __post_init__(self) -> None:
        check_precision(self.precision)
        if self.features not in (None, *FEATURES):
            raise RunError(
                f"features cannot be stored as {self.features!r}: choose {', '.join(FEATURES)}"
            )

    def settled(self, bundle: Bundle) -> tuple[Arithmetic, str]:
        """Arithmetic and stored features of a new run; measures where nobody decided.

        Raises
        ------
        DeviceError
            If the device lacks the precision.
        """
        arithmetic = resolve_arithmetic(self.precision, bundle, self.device, self.batch_size)
        return arithmetic, self.features or FLOAT32

    def check(self, path: Path, record: Mapping[str, Any]) -> None:
        """Whether a run that exists goes on as asked: one run never mixes two kinds of numbers.

        Raises
        ------
        RunError
            If something else is asked for than what it was begun with.
        """
        arithmetic = Arithmetic.from_dict(record.get("arithmetic"))
        begun = arithmetic.precision
        if self.precision not in (AUTO, begun):
            raise RunError(
                f"{path} was begun in {begun} and goes on in it: ask for --precision {begun}, or "
                "choose another output"
            )
        if self.precision == FP32 and arithmetic != USUAL:  # fp32 promises its very bits
            raise RunError(
                f"{path} was begun in {arithmetic} and goes on in it: leave --precision out, or "
                "choose another output"
            )
        stored = record.get("features", FLOAT32)
        if self.features not in (None, stored):
            how = "without features" if stored == NO_FEATURES else f"with features as {stored}"
            raise RunError(
                f"{path} was begun {how} and goes on so: leave --features and --no-features out, "
                "or choose another output"
            )
