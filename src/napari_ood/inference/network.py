"""The bundle's network as the engine runs it: numpy in, numpy out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import DeviceError
from napari_ood.models.memory import return_freed_memory

if TYPE_CHECKING:
    from torch import Tensor

    from napari_ood.inference.upload import Uploads
    from napari_ood.models import Bundle
    from napari_ood.models.lanes import Lanes
    from napari_ood.models.precision import Arithmetic

Answer = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Logits [n, M, C] and features [n, D] of a batch."""


class Network:
    """The bundle's network on its device, from uint8 tiles to numpy arrays.

    Attributes
    ----------
    batch_size : tiles that it is given at once, at most
    n_ahead : batches to begin before the first one's answer is asked for
    """

    def __init__(
        self, bundle: Bundle, device: str, batch_size: int, arithmetic: Arithmetic | None = None
    ) -> None:
        from napari_ood.models.precision import USUAL, ArithmeticNet

        self.device, self.batch_size = device, batch_size
        net = bundle.network(device)
        net.activate_in_place()
        side = bundle.card.tile_size
        self._forward = Fitting(ArithmeticNet(net, arithmetic or USUAL), batch_size)
        self._uploads: Uploads | None = None
        self._lanes: Lanes | None = None
        self.n_ahead = 0
        if device.startswith("cuda"):
            from napari_ood.inference.upload import Uploads

            self._uploads, self.n_ahead = Uploads(device, (batch_size, side, side, 3)), 1
        elif device == "cpu":
            from napari_ood.models.lanes import Lanes

            # A run of one image is one batch: all cores share it.
            self._lanes = Lanes(most=1) if bundle.card.whole_image else Lanes()
            # One batch in each lane, and some for lanes that are through before the first one is.
            self.n_ahead = max(self._lanes.n, 2 * self._lanes.n - 2)

    def __call__(self, tiles: NDArray[np.uint8]) -> Answer:
        """Tiles [n, t, t, 3] → logits [n, M, C] and features [n, D]."""
        return self.begin(tiles)()

    def begin(self, tiles: NDArray[np.uint8]) -> Callable[[], Answer]:
        """Begin to compute a batch; what is returned waits for its answer.

        This returns while the batch is copied and computed, on a CPU as well. Tiles must stay as
        they are until the answer is there.

        Raises
        ------
        DeviceError
            If the memory does not even suffice for a single tile.
        """
        import torch

        if self._lanes is not None:
            return self._lanes.submit(lambda: self._answer(tiles)).result
        if self._uploads is None:
            answer = self._answer(tiles)
            return lambda: answer
        with torch.inference_mode():
            return self._uploads.download(self._forward(self._uploads.upload(tiles)))

    def drop_waiting(self) -> None:
        """Begin nothing any more; who asks for what was not begun yet gets CancelledError."""
        if self._lanes is not None:
            self._lanes.drop_waiting()

    def close(self) -> None:
        """End the threads that compute and free what they kept; nobody may wait for an answer."""
        if self._lanes is not None:
            self._lanes.close()
            return_freed_memory()

    def _answer(self, tiles: NDArray[np.uint8]) -> Answer:
        import torch

        with torch.inference_mode():  # a thread has its own
            batch = torch.from_numpy(tiles).to(self.device)
            logits, features = (out.cpu().numpy() for out in self._forward(batch))
            return logits, features


class Fitting:
    """A network that takes its batches in halves, quarters … once the memory was too small.

    Parameters
    ----------
    forward : uint8 tiles [B, t, t, 3] → logits, features
    most : tiles to try at once
    """

    def __init__(self, forward: Callable[[Tensor], tuple[Tensor, Tensor]], most: int) -> None:
        self._forward = forward
        self.most = most

    def __call__(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Compute a batch, in as many parts as the memory asks for."""
        import torch

        while True:
            try:
                if len(batch) <= self.most:
                    return self._forward(batch)
                parts: Any = zip(*map(self._forward, torch.split(batch, self.most)), strict=True)
                logits, features = (torch.cat(part) for part in parts)
                return logits, features
            except torch.OutOfMemoryError as error:
                if self.most == 1:
                    raise DeviceError(
                        "the memory of the device does not suffice for a single tile: close other "
                        "programs that use it, or choose --device cpu"
                    ) from error
                self.most = max(1, min(self.most, len(batch)) // 2)
            # Outside of the handler: its traceback would keep what was computed so far.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
