"""Words that several floors share."""

from __future__ import annotations

import subprocess
import sys


def test_ways_to_keep_features_are_those_of_the_store_and_known_without_it() -> None:
    code = """
import sys
from napari_ood.viewer.how import KEPT
assert "zarr" not in sys.modules
from napari_ood.inference.asked import FEATURES
assert tuple(KEPT) == FEATURES
"""
    subprocess.run([sys.executable, "-c", code], check=True)
