"""Fixtures of the training tests: tiles that a tiny network learns in seconds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from napari_ood.training import TrainConfig


def draw_stripes(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Tiles whose class is the width of their stripes, in any direction and shade."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    y, x = np.mgrid[:32, :32]
    period = np.where(labels == 0, 4, 12)[:, None, None]
    phase = rng.uniform(0, 6, n)[:, None, None]
    along = np.where(rng.random(n)[:, None, None] < 0.5, x, y)
    wave = np.sin(2 * np.pi * along / period + phase)[..., None] * 40
    shade = rng.uniform(130, 190, (n, 1, 1, 3))
    return (shade + wave + rng.normal(0, 8, (n, 32, 32, 3))).clip(0, 255).astype(np.uint8), labels


@pytest.fixture(scope="session")
def stripes() -> Callable[[int, int], tuple[np.ndarray, np.ndarray]]:
    return draw_stripes


@pytest.fixture(scope="session")
def data() -> tuple[np.ndarray, ...]:
    """Training tiles and labels, held-out tiles and labels."""
    return (*draw_stripes(256, 0), *draw_stripes(64, 1))


@pytest.fixture(scope="session")
def config() -> TrainConfig:
    return TrainConfig(
        architecture="timm:test_resnet",
        blocks=(("layer1", "layer1", "mean_std"), ("penultimate", "penultimate", "mean")),
        n_heads=3,
        head_depth=1,
        head_width=16,
        epochs=3,
        batch_size=32,
        learning_rate=3e-3,
        precision="fp32",
        device="cpu",
    )
