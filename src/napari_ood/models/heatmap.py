"""The decoder of an OOD heatmap, on the maps of a frozen trunk (needs torch).

After Hornauer & Belagiannis, *Heatmap-based out-of-distribution detection*, WACV 2023: nothing for
in-distribution pixels, for foreign ones the difference to the closest in-distribution tile of the
same predicted class. Theirs reads the pooled feature vector, so that it can only guess where
something is; this one reads maps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from napari_ood.errors import BundleError
from napari_ood.models.packed import CONFIG_ARRAY, Arrays, pack_config, unpack_config
from napari_ood.models.spatial import Seen

VERSION = 1
WEIGHTS = "decoder."
HELD_PLACES, HELD_TILES = "held_out.places", "held_out.tiles"
MAX_WIDTH, MAX_SIDE = 512, 2048
RMS_FLOOR = 1e-6


class MapSpec(NamedTuple):
    """A layer that a decoder reads: module of the trunk, and the size of its maps."""

    layer: str
    channels: int
    height: int
    width: int


class HeatmapDecoder(nn.Module):
    """Maps and predicted class → difference to the closest in-distribution tile, [B, 3, H, W].

    From the coarsest map to the finest, each level adds its map and convolves; upsampling is
    bilinear. H × W is the size of the finest map. Nothing in it depends on the other tiles of a
    batch: each tile's maps are divided by their own root mean square, then standardised with
    constants.

    Parameters
    ----------
    maps : sequence of MapSpec
    n_classes : C; the class enters as a one-hot vector
    width : channels of the decoder
    """

    def __init__(self, maps: Sequence[MapSpec], n_classes: int, width: int = 32) -> None:
        super().__init__()
        self.maps = tuple(sorted(maps, key=lambda m: m.height * m.width))
        self.n_classes, self.width = n_classes, width
        for i, m in enumerate(self.maps):
            self.register_buffer(f"mean{i}", torch.zeros(m.channels))
            self.register_buffer(f"std{i}", torch.ones(m.channels))
        self.project = nn.ModuleList(nn.Conv2d(m.channels, width, 1) for m in self.maps)
        self.refine = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1, padding_mode="replicate"),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1, padding_mode="replicate"),
                nn.ReLU(),
            )
            for _ in self.maps
        )
        self.of_class = nn.Linear(n_classes, width, bias=False)
        self.last = nn.Conv2d(width, 3, 1)
        nn.init.zeros_(self.last.weight)  # starts at "nothing is foreign"
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the output."""
        return self.maps[-1].height, self.maps[-1].width

    @property
    def layers(self) -> tuple[str, ...]:
        """Modules of the trunk that are read, the coarsest first."""
        return tuple(m.layer for m in self.maps)

    def standardise_by(self, maps: Mapping[str, Tensor]) -> None:
        """Take the constants of the standardisation from maps of in-distribution tiles."""
        for i, spec in enumerate(self.maps):
            x = per_sample(maps[spec.layer])
            self.get_buffer(f"mean{i}").copy_(x.mean(dim=(0, 2, 3)))
            self.get_buffer(f"std{i}").copy_(x.std(dim=(0, 2, 3)).clamp_min(1e-3))

    def forward(self, maps: Mapping[str, Tensor], predicted: Tensor) -> Tensor:
        """Return differences in −1…1, [B, 3, H, W].

        Parameters
        ----------
        maps : layer → [B, C, h, w]
        predicted : [B] int64, the predicted class
        """
        one_hot = torch.nn.functional.one_hot(predicted, self.n_classes)
        x = self.of_class(one_hot.to(self.last.weight.dtype))[:, :, None, None]
        for i, spec in enumerate(self.maps):
            level = per_sample(maps[spec.layer])
            mean, std = self.get_buffer(f"mean{i}"), self.get_buffer(f"std{i}")
            level = (level - mean[:, None, None]) / std[:, None, None]
            if i > 0:
                size = (spec.height, spec.width)
                x = interpolate(x, size=size, mode="bilinear", align_corners=False)
            x = x + self.project[i](level)
            x = x + self.refine[i](x)
        return torch.tanh(self.last(x))

    def heat(self, seen: Seen) -> Tensor:
        """Largest difference over the channels; [B, H, W] in 0…1."""
        difference: Tensor = self(seen.maps, seen.predicted())
        return magnitude(difference)


def per_sample(x: Tensor) -> Tensor:
    """Maps ``[B, C, h, w]`` over the root mean square of the tile that they are of."""
    x = x.float()
    return x / x.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp_min(RMS_FLOOR)


def magnitude(difference: Tensor) -> Tensor:
    """Largest absolute value over the channels; [B, H, W] of [B, 3, H, W]."""
    return difference.abs().amax(dim=1)


def tile_scores(heat: Tensor) -> Tensor:
    """Score of the paper: mean over the pixels of the largest channel; [B] of [B, H, W]."""
    return heat.mean(dim=(1, 2))


class StoredDecoder(NamedTuple):
    """What ``heatmap.safetensors`` holds.

    Attributes
    ----------
    decoder : HeatmapDecoder
    held_places : sorted heat at pixels of held-out in-distribution tiles
    held_tiles : sorted scores of held-out in-distribution tiles
    training : how it was trained, for people
    """

    decoder: HeatmapDecoder
    held_places: NDArray[np.float32]
    held_tiles: NDArray[np.float32]
    training: Mapping[str, Any]

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Arrays for the file; matrices in half precision."""
        config = {
            "version": VERSION,
            "maps": [list(m) for m in self.decoder.maps],
            "n_classes": self.decoder.n_classes,
            "width": self.decoder.width,
            "training": dict(self.training),
        }
        arrays: dict[str, NDArray[np.generic]] = {
            CONFIG_ARRAY: pack_config(config),
            HELD_PLACES: self.held_places,
            HELD_TILES: self.held_tiles,
        }
        for name, tensor in self.decoder.state_dict().items():
            value = tensor.detach().cpu()
            arrays[WEIGHTS + name] = (value.half() if value.ndim >= 2 else value).numpy()
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Arrays, source: str) -> StoredDecoder:
        """Inverse of ``arrays``.

        Raises
        ------
        BundleError
            If something is missing, not finite, or fits no decoder.
        """
        config = unpack_config(arrays, source, VERSION)
        maps, n_classes, width = _checked(config, source)
        decoder = HeatmapDecoder(maps, n_classes, width)
        weights = {
            name.removeprefix(WEIGHTS): torch.from_numpy(np.asarray(value, np.float32).copy())
            for name, value in arrays.items()
            if name.startswith(WEIGHTS)
        }
        try:
            decoder.load_state_dict(weights)
            places, scores = (np.asarray(arrays[k], np.float32) for k in (HELD_PLACES, HELD_TILES))
        except (RuntimeError, KeyError) as error:
            reason = str(error).replace("\n", " ")
            raise BundleError(f"{source} holds no whole decoder: {reason[:200]}") from error
        finite = all(bool(torch.isfinite(w).all()) for w in weights.values())
        if not finite or not all(len(h) and np.isfinite(h).all() for h in (places, scores)):
            raise BundleError(f"{source} holds values that are not finite: make it anew")
        decoder.eval().requires_grad_(False)
        return cls(decoder, places, scores, config.get("training", {}))


def round_to_half(decoder: HeatmapDecoder) -> HeatmapDecoder:
    """Round matrices to half precision in place, as they are stored; return the decoder."""
    for tensor in decoder.state_dict().values():
        if tensor.ndim >= 2:
            tensor.copy_(tensor.half())
    return decoder


def _checked(config: dict[str, Any], source: str) -> tuple[list[MapSpec], int, int]:
    """Sizes that a decoder can have: a file must not make us allocate at will."""
    try:
        maps = [MapSpec(str(m[0]), int(m[1]), int(m[2]), int(m[3])) for m in config["maps"]]
        n_classes, width = int(config["n_classes"]), int(config["width"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BundleError(
            f"{source} does not say how its decoder is built: make it anew"
        ) from error
    sizes = [size for m in maps for size in m[1:]]
    good = maps and 0 < n_classes <= 10_000 and 0 < width <= MAX_WIDTH
    if not good or min(sizes) < 1 or max(sizes) > MAX_SIDE * 4:
        raise BundleError(f"{source} describes a decoder of impossible size: make it anew")
    return maps, n_classes, width
