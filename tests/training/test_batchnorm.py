from __future__ import annotations

import dataclasses

import numpy as np
import torch

from napari_ood.models import MultiHeadNet
from napari_ood.training import TrainConfig, run_network, train
from napari_ood.training.batchnorm import reestimate_batch_norms
from napari_ood.training.losses import ensemble_nll


def test_statistics_become_those_of_the_tiles_and_frozen_ones_stay():
    torch.manual_seed(0)
    net = MultiHeadNet("timm:test_resnet", n_heads=2, tile_size=32).eval()
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    first = net.trunk.get_submodule("bn1")
    for p in norms[-1].parameters():
        p.requires_grad_(False)
    kept = norms[-1].running_var.clone()
    batches = [torch.randn(16, 3, 32, 32) + 2 for _ in range(4)]
    assert reestimate_batch_norms(net, batches) == len(norms) - 1
    seen = torch.cat([net.trunk.get_submodule("conv1")(x) for x in batches])
    torch.testing.assert_close(first.running_mean, seen.mean((0, 2, 3)), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(norms[-1].running_var, kept)
    assert not any(m.training for m in net.modules())
    assert first.momentum == 0.1


def test_training_ends_with_them_and_gains_where_augmentation_was_strong():
    rng = np.random.default_rng(0)
    labels = np.arange(96) % 2
    tiles = rng.normal(110 + 40 * labels[:, None, None, None], 30, (96, 32, 32, 3))
    tiles = tiles.clip(0, 255).astype(np.uint8)
    config = TrainConfig(
        architecture="timm:test_resnet", n_heads=2, epochs=2, batch_size=16, augment=2.0,
        mixup=0.4, freeze=1, precision="fp32", device="cpu",
    )  # fmt: skip
    data = (tiles[:64], labels[:64], tiles[64:], labels[64:])
    plain = train(*data, config)
    precise = train(*data, dataclasses.replace(config, precise_bn=64))

    def nll(trained):
        logits, _ = run_network(trained.net, trained.mean, trained.std, data[2])
        return float(ensemble_nll(torch.from_numpy(logits), torch.from_numpy(data[3])))

    assert [r.nll for r in plain.history] == [r.nll for r in precise.history]
    assert nll(precise) < nll(plain)
    ours, theirs = (dict(t.net.trunk.named_buffers()) for t in (precise, plain))
    means = [name for name in ours if name.endswith("running_mean")]
    assert any(not torch.equal(ours[name], theirs[name]) for name in means)
