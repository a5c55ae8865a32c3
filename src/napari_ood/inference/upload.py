"""Copies to and from a GPU that overlap with its computing.

Written from torch's documentation; no GPU was at hand to run it on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

N_BUFFERS = 3
"""One is filled, one is on its way, one is being computed."""


class Uploads:
    """A ring of page-locked buffers, from which a second stream copies while the GPU computes.

    Only from page-locked memory does a copy run by itself; locking takes long, so buffers are kept.

    Parameters
    ----------
    device : ``cuda:0`` or the like
    shape : (B, t, t, 3) of the largest batch of uint8 tiles
    """

    def __init__(self, device: str, shape: tuple[int, ...]) -> None:
        import torch

        self._device = torch.device(device)
        self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._buffers = [
            torch.empty(shape, dtype=torch.uint8, pin_memory=True) for _ in range(N_BUFFERS)
        ]
        self._copied = [
            torch.cuda.Event()  # type: ignore[no-untyped-call]
            for _ in range(N_BUFFERS)
        ]
        self._next = 0

    def upload(self, tiles: NDArray[np.uint8]) -> Tensor:
        """Begin to copy tiles [n, t, t, 3]; what is computed with them next waits for the copy."""
        import torch

        slot, self._next = self._next, (self._next + 1) % N_BUFFERS
        self._copied[slot].synchronize()  # the copy before the last from this buffer has ended
        buffer = self._buffers[slot][: len(tiles)]
        buffer.numpy()[...] = tiles
        with torch.cuda.stream(self._stream):
            batch = buffer.to(self._device, non_blocking=True)
            self._copied[slot].record(self._stream)
        computing = torch.cuda.current_stream(self._device)
        computing.wait_event(self._copied[slot])
        batch.record_stream(computing)  # its memory belongs to the other stream's pool
        return batch

    def download(
        self, outputs: tuple[Tensor, Tensor]
    ) -> Callable[[], tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Begin to copy what was computed back; what is returned waits for it."""
        import torch

        logits, features = (
            torch.empty(out.shape, dtype=out.dtype, pin_memory=True) for out in outputs
        )
        logits.copy_(outputs[0], non_blocking=True)
        features.copy_(outputs[1], non_blocking=True)
        ended = torch.cuda.Event()  # type: ignore[no-untyped-call]
        ended.record(torch.cuda.current_stream(self._device))

        def answer() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            ended.synchronize()
            # Copies: page-locked memory is scarce, and the writer may keep these for a while.
            return logits.numpy().copy(), features.numpy().copy()

        return answer
