"""The network's outputs on a set of tiles, as the engine computes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import OodError
from napari_ood.evaluation.tileset import Tiles, TileSet, reading_note
from napari_ood.models import Card
from napari_ood.training.cutting import Change

if TYPE_CHECKING:
    from napari_ood.models import Bundle, InferenceNet

Floats = NDArray[np.float32]
OnTiles = Callable[[str, int, int], None]
BATCH = 256


@dataclass(frozen=True)
class Outputs:
    """What a network said about tiles: logits ``[N, M, C]`` and features ``[N, D]``."""

    logits: Floats
    features: Floats


class BundleRunner:
    """A bundle's network on a device, for sets of tiles.

    Parameters
    ----------
    bundle : Bundle
    device : as ``napari_ood.models.resolve_device`` takes it
    batch_size : tiles per forward pass; None: 256
    on_tiles : called with the set's name, tiles done, and tiles in all
    """

    def __init__(
        self,
        bundle: Bundle,
        device: str = "auto",
        batch_size: int | None = None,
        on_tiles: OnTiles | None = None,
    ) -> None:
        from napari_ood.models import resolve_device

        self.device = resolve_device(device)
        self._card: Card = bundle.card
        self._network: InferenceNet = bundle.network(self.device)
        self._batch_size = batch_size or BATCH
        self._on_tiles = on_tiles

    def run(self, tiles: TileSet) -> tuple[Outputs, str]:
        """Logits and features of all tiles, and how images became tiles ("" if they were).

        Raises
        ------
        OodError
            If an image can't be read, or the network answers with numbers that are not finite.
        """
        changes: Counter[Change] = Counter()
        parts: list[tuple[Floats, Floats]] = []
        done = 0
        for chunk in _ahead(tiles.chunks(changes)):
            for start in range(0, len(chunk), self._batch_size):
                parts.append(self._forward(chunk[start : start + self._batch_size]))
                done += len(parts[-1][0])
                if self._on_tiles is not None:
                    self._on_tiles(tiles.name, done, len(tiles))
        logits, features = (np.concatenate(column) for column in zip(*parts, strict=True))
        _check_finite(tiles, logits, features)
        return Outputs(logits, features), reading_note(tiles.name, changes, done, self._card)

    def _forward(self, tiles: Tiles) -> tuple[Floats, Floats]:
        import torch

        with torch.inference_mode():
            logits, features = self._network(torch.from_numpy(tiles).to(self.device))
            return logits.cpu().numpy(), features.cpu().numpy()


def _ahead(chunks: Iterator[Tiles]) -> Iterator[Tiles]:
    """Read the next chunk while the network works on this one."""
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next, chunks, None)
        while (chunk := pending.result()) is not None:
            pending = pool.submit(next, chunks, None)
            yield chunk


def _check_finite(tiles: TileSet, logits: Floats, features: Floats) -> None:
    good = np.isfinite(logits).all(axis=(1, 2)) & np.isfinite(features).all(axis=1)
    if not good.all():
        first = int(np.flatnonzero(~good)[0])
        raise OodError(
            f"the network's answer is not finite for {int((~good).sum()):,} of {len(tiles):,} "
            f"tiles of {tiles.name!r}, first {tiles.where(first)}: the bundle's weights overflow; "
            "train it again, or try --device cpu"
        )
