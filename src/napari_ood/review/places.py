"""Where reviews lie, and of which run and reviewer they are."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from napari_ood.naming import run_name

if TYPE_CHECKING:
    from napari_ood.inference import Run


def review_folder(run_path: str | Path) -> Path:
    """Where the review of a run is kept by default: ``slide.review`` beside ``slide.ood.zarr``."""
    path = Path(run_path)
    return path.with_name(f"{run_name(path)}.review")


def run_identity(run: Run) -> str:
    """What makes a run the run that it is (slide, bundle, grid, tissue), as a sha256.

    It is the same for a run that was resumed, copied or renamed.
    """
    identity = json.dumps(run.provenance["identity"], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(identity.encode()).hexdigest()


def reviewer_key(reviewer: str) -> str:
    """What tells reviewers apart: upper and lower case and spaces at the ends don't count."""
    return " ".join(reviewer.split()).casefold()


def file_name(reviewer: str) -> str:
    """A name for every file system: readable, and told apart by a hash."""
    plain = unicodedata.normalize("NFKD", reviewer).encode("ascii", "ignore").decode().lower()
    readable = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40]
    digest = hashlib.sha256(reviewer_key(reviewer).encode()).hexdigest()[:8]
    return f"{readable}-{digest}.jsonl".removeprefix("-")
