"""What a slide's file says, or what a run recorded of it where the slide is not at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_ood.slides.acquisition import Acquisition, acquisition_from, acquisition_of

if TYPE_CHECKING:
    from napari_ood.inference import Run
    from napari_ood.slides import Slide

_ICC_TAG = 34675
_SIZE_KEYS = ("openslide.icc-size", "tiff.icc-size")


@dataclass(frozen=True)
class SlideFacts:
    """Facts for the passport; None: not known.

    Attributes
    ----------
    mpp : (y, x) in µm per level-0 px
    scanner : vendor, model and device
    objective : magnification
    icc : name of the colour profile; "" when the file certainly has none
    """

    name: str
    mpp: tuple[float, float] | None
    scanner: str | None
    objective: float | None
    icc: str | None
    at_hand: bool


def facts_of(slide: Slide | None, run: Run | None) -> SlideFacts:
    """Read the facts of a slide, or, without it, those that its run recorded."""
    if slide is not None:
        return SlideFacts(
            name=slide.name,
            mpp=slide.mpp,
            scanner=acquisition_of(slide).scanner,
            objective=slide.objective,
            icc=_icc_profile(slide),
            at_hand=True,
        )
    if run is None:
        raise ValueError("a passport needs a slide or a run")
    record = run.provenance["slide"]
    mpp = record.get("mpp")
    if "acquisition" in record:
        recorded = Acquisition.from_dict(record["acquisition"])
    else:  # a run of before it was recorded
        recorded = acquisition_from({}, str(record.get("vendor", "")))
    return SlideFacts(
        name=str(record["name"]),
        mpp=None if mpp is None else (float(mpp[0]), float(mpp[1])),
        scanner=recorded.scanner,
        objective=record.get("objective"),
        icc=None,
        at_hand=False,
    )


def _icc_profile(slide: Slide) -> str | None:
    """Name of the embedded profile, "" for none, None where the format does not tell."""
    profile = _tiff_profile(slide)
    if profile is not None:
        return _profile_name(profile) if profile else ""
    size = next((slide.metadata[key] for key in _SIZE_KEYS if key in slide.metadata), None)
    if size is not None:
        return "unnamed profile" if size.isdigit() and int(size) else ""
    return slide.metadata.get("aperio.ICC Profile")


def _tiff_profile(slide: Slide) -> bytes | None:
    """Bytes of a TIFF's profile, b"" for a TIFF without one, None for what is no TIFF."""
    import tifffile

    if not slide.path.is_file():
        return None
    try:
        with tifffile.TiffFile(slide.path) as tif:
            tag = tif.pages[0].tags.get(_ICC_TAG)  # type: ignore[union-attr]
            return b"" if tag is None else bytes(tag.value)
    except (tifffile.TiffFileError, OSError, ValueError, TypeError, IndexError, KeyError):
        return None


def _profile_name(profile: bytes) -> str:
    import io

    from PIL import ImageCms

    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.getProfileDescription(opened).strip() or "unnamed profile"
    except (ImageCms.PyCMSError, OSError):
        return "unreadable profile"
