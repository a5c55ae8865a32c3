"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real slides and tiles; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("NAPARI_OOD_DATA", REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not at hand ({folder}); set NAPARI_OOD_DATA to its folder")
    return folder
