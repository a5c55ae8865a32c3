"""What was measured on this machine, kept for the next time: a small file in the user's cache."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from napari_ood.files import replacing, user_cache

FILE = "arithmetic.json"
FORMAT_VERSION = 1
MOST = 100
"""Choices that are kept, the latest."""

log = logging.getLogger(__name__)


class KnownChoices:
    """Choices by what they hold for. A file that cannot be read or written is as good as none.

    Parameters
    ----------
    path : of the file; in the user's cache folder by default
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = user_cache() / FILE if path is None else path

    def get(self, key: Mapping[str, Any]) -> str | None:
        """Return what was chosen for exactly this; None if nothing was."""
        return next((entry["choice"] for entry in self._read() if entry["key"] == key), None)

    def put(self, key: Mapping[str, Any], choice: str, measured: Mapping[str, float]) -> None:
        """Keep a choice with what it rests on, in place of an earlier one for the same."""
        entries = [entry for entry in self._read() if entry["key"] != key]
        entry = {
            "key": dict(key),
            "choice": choice,
            "tiles_per_s": dict(measured),
            "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        text = json.dumps(
            {"format_version": FORMAT_VERSION, "choices": [*entries, entry][-MOST:]}, indent=1
        )
        # Other processes read it meanwhile: it appears whole or not at all.
        try:
            with replacing(self.path) as partial:
                partial.write_text(text + "\n", "utf-8")
        except OSError as error:
            log.warning("what was measured is not kept: %s", error)

    def _read(self) -> list[dict[str, Any]]:
        try:
            stored = json.loads(self.path.read_text("utf-8"))
            if stored["format_version"] != FORMAT_VERSION:
                return []
            return [e for e in stored["choices"] if {"key", "choice"} <= e.keys()]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return []
