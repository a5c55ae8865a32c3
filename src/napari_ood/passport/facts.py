"""What a slide's file says, or what a run recorded of it where the slide is not at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_ood.inference import Run
    from napari_ood.slides import Slide

_ICC_TAG = 34675
_SIZE_KEYS = ("openslide.icc-size", "tiff.icc-size")
_NO_VENDOR = {"", "unknown", "generic", "none"}
_CONTAINERS = {"dicom", "generic-tiff"}
"""What readers call the vendor of a format that any scanner may write."""


@dataclass(frozen=True)
class SlideFacts:
    """Facts for the passport; None: not known.

    Attributes
    ----------
    mpp : (y, x) in µm per level-0 px
    vendor : of the scanner
    icc : name of the colour profile; "" when the file certainly has none
    """

    name: str
    mpp: tuple[float, float] | None
    vendor: str | None
    objective: float | None
    icc: str | None
    at_hand: bool


def facts_of(slide: Slide | None, run: Run | None) -> SlideFacts:
    """Read the facts of a slide, or, without it, those that its run recorded."""
    if slide is not None:
        return SlideFacts(
            name=slide.name,
            mpp=slide.mpp,
            vendor=_vendor(slide.metadata, slide.vendor),
            objective=slide.objective,
            icc=_icc_profile(slide),
            at_hand=True,
        )
    if run is None:
        raise ValueError("a passport needs a slide or a run")
    record = run.provenance["slide"]
    mpp = record.get("mpp")
    return SlideFacts(
        name=str(record["name"]),
        mpp=None if mpp is None else (float(mpp[0]), float(mpp[1])),
        vendor=_vendor({}, str(record.get("vendor", ""))),
        objective=None,
        icc=None,
        at_hand=False,
    )


def _vendor(metadata: dict[str, str], vendor: str) -> str | None:
    if vendor.lower() in _CONTAINERS:
        vendor = metadata.get("dicom.Manufacturer", "")
    model = metadata.get("aperio.ScanScope ID") or metadata.get("hamamatsu.Product", "")
    if vendor.lower() in _NO_VENDOR:
        return None
    return f"{vendor} {model}".strip()


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
