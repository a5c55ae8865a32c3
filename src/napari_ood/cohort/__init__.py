"""Run a bundle over many slides on many processes or machines, with dask.distributed.

Importing this loads no dask: only :func:`run_cohort`, when called, needs
``pip install "napari-ood[cohort]"``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ood._lazy import lazy_names

if TYPE_CHECKING:
    from napari_ood.cohort.manifest import read_manifest
    from napari_ood.cohort.progress import CohortProgress
    from napari_ood.cohort.run import run_cohort

__all__ = ["CohortProgress", "read_manifest", "run_cohort"]

__getattr__ = lazy_names(
    __name__,
    {"CohortProgress": "progress", "read_manifest": "manifest", "run_cohort": "run"},
)
