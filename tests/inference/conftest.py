"""A small slide with tissue, glass and edges, and a run cut into many shards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_ood import Slide, open_slide


@pytest.fixture(scope="session")
def slide_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,000 x 760 px at 0.5 µm/px: a disc of speckled tissue on glass, reaching two edges."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:760, :1000]
    pixels = np.full((760, 1000, 3), 243, np.uint8)
    disc = (y - 300) ** 2 + (x - 650) ** 2 < 380**2
    pixels[disc] = rng.integers(80, 220, (int(disc.sum()), 3), np.uint8)
    path = tmp_path_factory.mktemp("slide") / "disc.tif"
    resolution = (20_000, 20_000)  # pixels per cm
    options = {"tile": (128, 128), "compression": "deflate", "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, pixels, photometric="rgb", resolution=resolution, **options)
    return path


@pytest.fixture
def slide(slide_path: Path) -> Iterator[Slide]:
    with open_slide(slide_path) as opened:
        yield opened


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of a few tiles, so that a small slide has many."""
    monkeypatch.setattr("napari_ood.inference.plan.BLOCK_PX", 256)
    monkeypatch.setattr("napari_ood.inference.plan.SHARD_TILES", (2, 32))


@pytest.fixture
def two_lanes() -> Iterator[None]:
    """As on two cores: with more, a small run is through before anybody can cancel it."""
    import torch

    usual = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(usual)
