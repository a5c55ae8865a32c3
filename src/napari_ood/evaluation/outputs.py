"""The network's outputs on a set of tiles, as the engine computes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_ood.errors import OodError
from napari_ood.evaluation.tileset import Tiles, TileSet, reading_note
from napari_ood.models import Card
from napari_ood.training.cutting import Change

if TYPE_CHECKING:
    from napari_ood.explain.place_map import PlaceMap
    from napari_ood.models import Bundle

Floats = NDArray[np.float32]
OnTiles = Callable[[str, int, int], None]
BATCH = 256


@dataclass(frozen=True)
class Outputs:
    """What a network said about tiles: logits ``[N, M, C]`` and features ``[N, D]``.

    ``of_pixels`` are scores ``[N]`` by name that need more of the network than it returns.
    """

    logits: Floats
    features: Floats
    of_pixels: Mapping[str, Floats] = field(default_factory=dict)


class BundleRunner:
    """A bundle's network on a device, for sets of tiles.

    Parameters
    ----------
    bundle : Bundle
    device : as ``napari_ood.models.resolve_device`` takes it
    batch_size : tiles per forward pass; None: 256
    on_tiles : called with the set's name, tiles done, and tiles in all
    place_maps : scores of pixels to compute in the same pass, by name
    """

    def __init__(
        self,
        bundle: Bundle,
        device: str = "auto",
        batch_size: int | None = None,
        on_tiles: OnTiles | None = None,
        place_maps: Mapping[str, PlaceMap] | None = None,
    ) -> None:
        from napari_ood.models import resolve_device
        from napari_ood.models.spatial import SpatialNet

        self.device = resolve_device(device)
        self._card: Card = bundle.card
        self._maps = dict(place_maps or {})
        layers = [layer for m in self._maps.values() for layer in m.layers]
        self._network = SpatialNet(bundle.network(self.device), layers)
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
        parts: list[Outputs] = []
        done = 0
        for chunk in _ahead(tiles.chunks(changes)):
            for start in range(0, len(chunk), self._batch_size):
                parts.append(self._forward(chunk[start : start + self._batch_size]))
                done += len(parts[-1].logits)
                if self._on_tiles is not None:
                    self._on_tiles(tiles.name, done, len(tiles))
        outputs = Outputs(
            np.concatenate([part.logits for part in parts]),
            np.concatenate([part.features for part in parts]),
            {k: np.concatenate([part.of_pixels[k] for part in parts]) for k in self._maps},
        )
        _check_finite(tiles, outputs)
        return outputs, reading_note(tiles.name, changes, done, self._card)

    def _forward(self, tiles: Tiles) -> Outputs:
        import torch

        with torch.inference_mode():
            seen = self._network(torch.from_numpy(tiles).to(self.device))
            return Outputs(
                seen.logits.cpu().numpy(),
                seen.features.cpu().numpy(),
                {k: m.scores(m.heat(seen)).cpu().numpy() for k, m in self._maps.items()},
            )


def _ahead(chunks: Iterator[Tiles]) -> Iterator[Tiles]:
    """Read the next chunk while the network works on this one."""
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next, chunks, None)
        while (chunk := pending.result()) is not None:
            pending = pool.submit(next, chunks, None)
            yield chunk


def _check_finite(tiles: TileSet, outputs: Outputs) -> None:
    good = np.isfinite(outputs.logits).all(axis=(1, 2))
    for values in (outputs.features, *(v[:, None] for v in outputs.of_pixels.values())):
        good &= np.isfinite(values).all(axis=1)
    if not good.all():
        first = int(np.flatnonzero(~good)[0])
        raise OodError(
            f"the network's answer is not finite for {int((~good).sum()):,} of {len(tiles):,} "
            f"tiles of {tiles.name!r}, first {tiles.where(first)}: the bundle's weights overflow; "
            "train it again, or try --device cpu"
        )
