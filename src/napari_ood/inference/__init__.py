"""Run a bundle over a slide, and read what it left."""

from napari_ood.inference.engine import run_slide
from napari_ood.inference.plan import Plan, check_mpp, check_slide, plan_grid, plan_run
from napari_ood.inference.progress import Progress
from napari_ood.inference.run import Run, open_run

__all__ = [
    "Plan",
    "Progress",
    "Run",
    "check_mpp",
    "check_slide",
    "open_run",
    "plan_grid",
    "plan_run",
    "run_slide",
]
