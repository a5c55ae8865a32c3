"""Sample slides: procedural H&E with planted foreign regions, an IHC image, real slides on request.

Names are resolved on first use; importing this package loads no scientific library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_ood._lazy import lazy_names

if TYPE_CHECKING:
    from napari_ood.samples.downloads import SAMPLES, Sample, fetch_sample
    from napari_ood.samples.ihc import ihc_slide
    from napari_ood.samples.slide_file import synthetic_slide, write_synthetic_slide
    from napari_ood.samples.truth import Truth, load_truth, truth_path

_HOME = {
    "SAMPLES": "downloads",
    "Sample": "downloads",
    "fetch_sample": "downloads",
    "ihc_slide": "ihc",
    "synthetic_slide": "slide_file",
    "write_synthetic_slide": "slide_file",
    "Truth": "truth",
    "load_truth": "truth",
    "truth_path": "truth",
}

__all__ = [
    "SAMPLES",
    "Sample",
    "Truth",
    "fetch_sample",
    "ihc_slide",
    "load_truth",
    "synthetic_slide",
    "truth_path",
    "write_synthetic_slide",
]


__getattr__ = lazy_names(__name__, _HOME)


def __dir__() -> list[str]:
    return list(__all__)
