"""napari's preference for who opens slide files. Changed only when the user asks for it.

napari's own reader claims most file names, slides among them, so napari asks who shall open one.
"""

from __future__ import annotations

import os

from napari.settings import get_settings

PLUGIN = "napari-ood"
SLIDE_PATTERNS = (
    "*.svs", "*.ndpi", "*.ndpis", "*.mrxs", "*.scn", "*.bif", "*.vms", "*.vmu", "*.svslide",
    "*.qptiff", f"*.ood.zarr{os.sep}",
)  # fmt: skip
"""Names that only slides and runs have; PNG, TIFF and plain zarr are left to napari's question."""


def opens_slides() -> bool:
    """Whether napari opens slide files with this plugin without asking."""
    chosen = get_settings().plugins.extension2reader
    return all(chosen.get(pattern) == PLUGIN for pattern in SLIDE_PATTERNS)


def set_opens_slides(wanted: bool) -> None:
    """Let napari open slide files with this plugin without asking, or ask again.

    Patterns that the user gave to another plugin are taken over when wanted, and never touched
    when not.
    """
    plugins = get_settings().plugins
    kept = {
        pattern: reader
        for pattern, reader in plugins.extension2reader.items()
        if not (pattern in SLIDE_PATTERNS and reader == PLUGIN)
    }
    added = dict.fromkeys(SLIDE_PATTERNS, PLUGIN) if wanted else {}
    plugins.extension2reader = {**kept, **added}
