"""The heatmap decoder, the maps that it reads, and its file."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_ood.errors import BundleError
from napari_ood.models import BlockSpec, Bundle, InferenceNet, MultiHeadNet
from napari_ood.models.heatmap import (
    WEIGHTS,
    HeatmapDecoder,
    MapSpec,
    StoredDecoder,
    magnitude,
    round_to_half,
    tile_scores,
)
from napari_ood.models.packed import CONFIG_ARRAY, pack_config, unpack_config
from napari_ood.models.spatial import SpatialNet, spatial_map

SPECS = (MapSpec("late", 6, 4, 4), MapSpec("early", 3, 8, 8))


@pytest.fixture
def decoder() -> HeatmapDecoder:
    torch.manual_seed(0)
    made = HeatmapDecoder(SPECS, n_classes=3, width=8)
    torch.nn.init.normal_(made.last.weight)
    return made


def maps(n: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {s.layer: torch.rand((n, *s[1:]), generator=generator) for s in SPECS}


def test_a_new_decoder_finds_nothing_foreign():
    out = HeatmapDecoder(SPECS, 3)(maps(2), torch.tensor([0, 2]))
    assert out.shape == (2, 3, 8, 8)
    assert not out.any()


def test_each_tile_is_normalised_by_itself(decoder: HeatmapDecoder):
    """In the original only the first tile of a batch was, with its own extremes for all."""
    classes = torch.tensor([0, 1, 2, 1])
    batch = maps(4)
    for x in batch.values():
        x *= torch.tensor([1.0, 1000.0, 1e-3, 7.0])[:, None, None, None]
    together = decoder(batch, classes)
    for i in range(4):
        alone = decoder({k: x[i : i + 1] for k, x in batch.items()}, classes[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-4)
    plain = decoder(maps(4), classes)  # the scale of a tile's maps is divided out
    torch.testing.assert_close(together, plain, atol=1e-4, rtol=1e-3)
    order = torch.tensor([3, 0, 2, 1])
    mixed = decoder({k: x[order] for k, x in batch.items()}, classes[order])
    torch.testing.assert_close(mixed, together[order], atol=1e-5, rtol=1e-4)


def test_the_predicted_class_counts_and_the_output_is_bounded(decoder: HeatmapDecoder):
    a, b = (decoder(maps(2), torch.tensor([c, c])) for c in (0, 1))
    assert (a - b).abs().max() > 1e-3
    assert float(a.detach().abs().max()) <= 1


def test_the_score_is_the_mean_of_the_largest_channel():
    difference = torch.tensor([[[[0.5, 0.0]], [[-0.75, 0.25]], [[0.0, 0.0]]]])
    heat = magnitude(difference)
    assert heat.tolist() == [[[0.75, 0.25]]]
    assert tile_scores(heat).tolist() == [0.5]


def stored(decoder: HeatmapDecoder) -> StoredDecoder:
    values = np.linspace(0, 1, 5, dtype=np.float32)
    return StoredDecoder(round_to_half(decoder), values, values, {"epochs": 1})


def test_what_is_read_is_what_was_stored(decoder: HeatmapDecoder):
    decoder.standardise_by(maps(16, seed=3))
    original = stored(decoder)
    found = StoredDecoder.from_arrays(original.arrays(), "file")
    classes = torch.tensor([0, 2])
    torch.testing.assert_close(
        found.decoder(maps(2), classes), original.decoder(maps(2), classes), rtol=0, atol=0
    )
    assert found.training == {"epochs": 1}
    assert found.held_tiles.tolist() == original.held_tiles.tolist()


def test_a_damaged_file_is_refused(decoder: HeatmapDecoder):
    arrays = stored(decoder).arrays()
    weight = next(name for name in arrays if name.startswith(WEIGHTS))
    with pytest.raises(BundleError, match="holds no whole decoder"):
        StoredDecoder.from_arrays({k: v for k, v in arrays.items() if k != weight}, "file")
    broken = {**arrays, weight: np.full_like(arrays[weight], np.nan)}
    with pytest.raises(BundleError, match="not finite"):
        StoredDecoder.from_arrays(broken, "file")
    config = unpack_config(arrays, "file", 1)
    for change, message in (
        ({"version": 2}, "version 2"),
        ({"width": 10**6}, "impossible size"),
        ({"maps": [["late", 6]]}, "does not say how"),
    ):
        odd = {**arrays, CONFIG_ARRAY: pack_config({**config, **change})}
        with pytest.raises(BundleError, match=message):
            StoredDecoder.from_arrays(odd, "file")
    with pytest.raises(BundleError, match="does not say what it holds"):
        StoredDecoder.from_arrays({}, "file")


def test_tokens_become_the_square_that_they_were_cut_from():
    tokens = torch.arange(9.0).reshape(1, 9, 1)
    with_class = torch.cat([torch.full((1, 1, 1), 100.0), tokens], dim=1)
    for x in (tokens, with_class):
        assert spatial_map(x, "layer").tolist() == [[[[0, 1, 2], [3, 4, 5], [6, 7, 8]]]]
    last = torch.rand(2, 4, 5, 3)
    torch.testing.assert_close(spatial_map(last, "layer", True), last.permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("shape", "message"),
    [((2, 8), "no places"), ((2, 8, 1, 1), "one place only"), ((2, 15, 8), "no square")],
)
def test_a_layer_without_places_is_refused(shape: tuple[int, ...], message: str):
    with pytest.raises(BundleError, match=message):
        spatial_map(torch.zeros(shape), "layer 'x'")


def test_maps_belong_to_the_outputs(tiny_bundle: Bundle):
    tiles = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    network = tiny_bundle.network()
    with torch.inference_mode():
        logits, features = network(tiles)
        seen = SpatialNet(network, ["layer1"])(tiles)
    torch.testing.assert_close(seen.logits, logits)
    # the block is the mean and spread of the very map
    mean = seen.maps["layer1"].mean(dim=(2, 3))
    torch.testing.assert_close(mean, features[:, : mean.shape[1]], atol=1e-5, rtol=1e-4)
    probability = torch.softmax(logits, dim=2).mean(dim=1)
    assert seen.predicted().tolist() == probability.argmax(dim=1).tolist()
    with pytest.raises(BundleError, match="no layer 'layer9'"):
        SpatialNet(network, ["layer9"])


def test_a_transformer_gives_maps_of_tokens():
    net = MultiHeadNet("timm:test_vit", (BlockSpec("b", "blocks.1"),), 2, 2, tile_size=64)
    seen = SpatialNet(InferenceNet(net, (0.5,) * 3, (0.5,) * 3), ["blocks.1"])
    with torch.inference_mode():
        found = seen(torch.zeros((2, 64, 64, 3), dtype=torch.uint8)).maps["blocks.1"]
    assert found.shape[2:] == (4, 4)
