"""What runs are called on disk, and how they store features.

Imports nothing, so that who only looks at names stays light.
"""

from __future__ import annotations

from pathlib import Path

RUN_SUFFIX = ".ood.zarr"
FLOAT32, FLOAT16, NO_FEATURES = "float32", "float16", "none"
FEATURES = (FLOAT32, FLOAT16, NO_FEATURES)
"""How a run stores its features. Half the bytes change no decision that was measured; without any
there is prediction and uncertainty, and nothing that needs features."""


def run_name(path: str | Path) -> str:
    """Name of a stored run without its suffix."""
    return Path(path).name.removesuffix(RUN_SUFFIX)
