"""What a TIFF says about itself: µm per pixel, vendor, objective. Nothing is guessed."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import tifffile

PLAUSIBLE_MPP = (0.02, 30.0)  # µm/px of microscopes; 300, 96 and 72 dpi are 85 to 353 µm
_UNIT_UM = {
    "m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0,
    "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0, "nm": 1e-3, "pm": 1e-6,
    "in": 25400.0, "inch": 25400.0, "Å": 1e-4,
}  # fmt: skip
_CENTIMETRE, _INCH = 3, 2

MPP = tuple[float, float]


def to_um(value: float, unit: str) -> float | None:
    """Return a length in µm; None for units that are no length (e.g. ``pixel``)."""
    factor = _UNIT_UM.get(unit.strip().replace("\\u00B5", "µ")) or _UNIT_UM.get(unit.lower())
    return None if factor is None else value * factor


def plausible(mpp: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return ``mpp`` when both values lie where microscopes work, else None."""
    if mpp is None:
        return None
    low, high = PLAUSIBLE_MPP
    return mpp if all(low <= value <= high for value in mpp) else None


def physical(mpp: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return a pixel size that a file states outright, unless it is no size of a real pixel.

    Overviews and macro images may well have 100 µm pixels, so the range is wider than for print
    resolutions.
    """
    if mpp is None:
        return None
    return mpp if all(0.001 <= value <= 1000 for value in mpp) else None


def parse_aperio(description: str) -> dict[str, str]:
    """Return the ``key = value`` fields of an Aperio image description."""
    fields = {}
    for part in description.split("|")[1:]:
        key, separator, value = part.partition("=")
        if separator:
            fields[key.strip()] = value.strip()
    return fields


def to_float(text: str | None) -> float | None:
    """Return a positive finite number (decimal comma allowed), else None."""
    try:
        value = float((text or "").strip().replace(",", "."))
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None


def aperio_mpp(fields: dict[str, str]) -> MPP | None:
    """Return the MPP field of an Aperio description as (y, x)."""
    value = to_float(fields.get("MPP"))
    return physical(None if value is None else (value, value))


def resolution_mpp(page: tifffile.TiffPage) -> MPP | None:
    """µm/px from the resolution tags, when their unit is cm or inch and the value plausible.

    A print resolution such as 72 or 300 dpi is none: it says nothing about the specimen.
    """
    unit = page.tags.valueof(296)
    um = {_CENTIMETRE: 1e4, _INCH: 25400.0}.get(int(unit) if isinstance(unit, int) else 0)
    if um is None:
        um = _imagej_unit(page.description)
    x, y = _ratio(page.tags.valueof(282)), _ratio(page.tags.valueof(283))
    if um is None or x is None:
        return None
    return plausible((um / (y or x), um / x))


def _ratio(value: object) -> float | None:
    if isinstance(value, tuple) and len(value) == 2 and value[0] and value[1]:
        return float(value[0]) / float(value[1])
    return None


def _imagej_unit(description: str) -> float | None:
    if not description.startswith("ImageJ="):
        return None
    match = re.search(r"^unit=(.+)$", description, re.MULTILINE)
    return to_um(1.0, match.group(1)) if match else None


def ome_images(xml: str) -> list[dict[str, str]]:
    """Name, date and Pixels attributes of each Image of an OME-XML text; [] when malformed."""
    try:
        root = ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError):
        return []
    images = []
    for image in root.iter():
        if image.tag.rpartition("}")[2] != "Image":
            continue
        parts = {element.tag.rpartition("}")[2]: element for element in reversed(image)}
        attributes = dict(parts["Pixels"].attrib) if "Pixels" in parts else {}
        date = (parts["AcquisitionDate"].text or "").strip() if "AcquisitionDate" in parts else ""
        images.append({**attributes, "Name": image.get("Name", ""), "AcquisitionDate": date})
    return images


def ome_mpp(image: dict[str, str]) -> MPP | None:
    """µm/px (y, x) from PhysicalSizeX/Y and their units (default µm) of one OME image."""
    sizes = []
    for axis in "YX":
        value = to_float(image.get(f"PhysicalSize{axis}"))
        unit = image.get(f"PhysicalSize{axis}Unit", "µm")
        um = None if value is None else to_um(value, unit)
        if um is None:
            return None
        sizes.append(um)
    return physical((sizes[0], sizes[1]))


def origin_tags(page: tifffile.TiffPage) -> dict[str, str]:
    """Return who wrote a page when, of the tags that it has: Make, Model, DateTime."""
    found = {f"tiff.{name}": page.tags.valueof(code) for name, code in _ORIGIN.items()}
    return {key: value.strip() for key, value in found.items() if isinstance(value, str)}


_ORIGIN = {"Make": 271, "Model": 272, "DateTime": 306}
