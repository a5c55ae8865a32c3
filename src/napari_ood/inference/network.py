"""The bundle's network as the engine runs it: numpy in, numpy out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari_ood.models import Bundle
    from napari_ood.models.precision import Arithmetic


class Network:
    """The bundle's network on its device, from uint8 tiles to numpy arrays."""

    def __init__(
        self, bundle: Bundle, device: str, batch_size: int, arithmetic: Arithmetic | None = None
    ) -> None:
        from napari_ood.models.precision import USUAL, ArithmeticNet

        self._forward = ArithmeticNet(bundle.network(device), arithmetic or USUAL)
        self.device = device
        self.batch_size = batch_size

    def __call__(self, tiles: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Tiles [n, t, t, 3] → logits [n, M, C] and features [n, D]."""
        import torch

        with torch.inference_mode():
            batch = torch.from_numpy(tiles).to(self.device, non_blocking=True)
            logits, features = self._forward(batch)
            return logits.cpu().numpy(), features.cpu().numpy()
