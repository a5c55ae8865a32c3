"""What runs are called on disk. Imports nothing, so that who only looks at names stays light."""

from __future__ import annotations

from pathlib import Path

RUN_SUFFIX = ".ood.zarr"


def run_name(path: str | Path) -> str:
    """Name of a stored run without its suffix."""
    return Path(path).name.removesuffix(RUN_SUFFIX)
