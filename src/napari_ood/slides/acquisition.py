"""Which scanner made a slide, and when: what files say about it, and nothing that they do not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_ood.slides.slide import Slide

_NOT_SAID = {"", "?", "-", "unknown", "generic", "none", "n/a"}
_CONTAINERS = {"dicom", "generic-tiff", "trestle-tiff"}
"""What readers call the vendor of a format that any scanner may write."""
_MODELS = ("dicom.ManufacturerModelName", "hamamatsu.Product",
           "philips.DICOM_MANUFACTURERS_MODEL_NAME", "tiff.Model")  # fmt: skip
_DEVICES = ("aperio.ScanScope ID", "ScanScope ID", "dicom.DeviceSerialNumber",
            "philips.DICOM_DEVICE_SERIAL_NUMBER", "leica.device-version")  # fmt: skip
_FIRST_YEAR = 1990
"""No scanner is older: an earlier date was made up, as by anonymisation."""


@dataclass(frozen=True)
class Acquisition:
    """Who scanned a slide when.

    Attributes
    ----------
    scanner : vendor, model and device, as far as the file says; None where it says nothing
    date : local time of the scanner, ISO 8601, e.g. ``2009-12-29T09:59:15`` or ``2009-12-29``;
        None where it is not known
    date_source : which field said so. ``tiff.DateTime`` may be the time at which a file was
        converted.
    """

    scanner: str | None = None
    date: str | None = None
    date_source: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """JSON-ready form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Acquisition:
        """Inverse of `as_dict`; fields of later versions are passed over."""
        return cls(data.get("scanner"), data.get("date"), data.get("date_source"))


def acquisition_of(slide: Slide) -> Acquisition:
    """Read scanner and date from what a slide's file says; opens nothing."""
    return acquisition_from(slide.metadata, slide.vendor)


def acquisition_from(metadata: Mapping[str, str], vendor: str = "") -> Acquisition:
    """Read scanner and date from a slide's metadata.

    The first field counts that holds a date that can be one: Aperio's Date and Time (month first,
    as Aperio writes them), DICOM's AcquisitionDateTime or AcquisitionDate (PS3.3 C.8.12.4),
    Philips' and Leica's own, OME's AcquisitionDate, and last TIFF's DateTime (tag 306). DICOM's
    ContentDate and StudyDate are passed over: they are often those of a conversion.
    """
    for source, date in _dates(metadata):
        if date is not None:
            return Acquisition(_scanner(metadata, vendor), date, source)
    return Acquisition(_scanner(metadata, vendor))


def _dates(fields: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    for prefix in ("", "aperio."):
        time = fields.get(f"{prefix}Time", "")
        yield f"{prefix}Date", _aperio(fields.get(f"{prefix}Date", ""), time)
    yield "dicom.AcquisitionDateTime", parse_date(fields.get("dicom.AcquisitionDateTime", ""))
    date, time = (fields.get(f"dicom.Acquisition{part}", "") for part in ("Date", "Time"))
    yield "dicom.AcquisitionDate", parse_date(date + time)
    for name in ("philips.DICOM_ACQUISITION_DATETIME", "leica.creation-date", "AcquisitionDate",
                 "ome.AcquisitionDate", "tiff.DateTime"):  # fmt: skip
        yield name, parse_date(fields.get(name, ""))


_AS_TIFF = re.compile(r"(\d{4})[:\-/](\d{2})[:\-/](\d{2})(?:[ T](\d{2}):(\d{2})(?::(\d{2}))?.*)?")
_AS_DICOM = re.compile(r"(\d{4})(\d{2})(\d{2})(?:(\d{2})(\d{2})(\d{2})?[\d.]*)?(?:[+-]\d{4})?")


def parse_date(text: str) -> str | None:
    """A date, or date and time, of DICOM, TIFF or ISO 8601, as ISO 8601 without zone; None if none.

    The year comes first: what else could be read in two ways is not guessed.
    """
    text = text.strip()
    match = _AS_TIFF.fullmatch(text) or _AS_DICOM.fullmatch(text)
    if match is None:
        return None
    return _checked(*(int(part) if part else None for part in match.groups()))


def _aperio(date: str, time: str) -> str | None:
    match = re.fullmatch(r"(\d{1,2})/(\d{1,2})/(\d{2}|\d{4})", date.strip())
    if match is None:
        return None
    month, day, year = (int(part) for part in match.groups())
    clock = re.fullmatch(r"(\d{1,2}):(\d{2}):(\d{2})", time.strip())
    parts = [int(part) for part in clock.groups()] if clock else []
    if year < 100:
        year += 1900 if year >= _FIRST_YEAR % 100 else 2000
    return _checked(year, month, day, *parts)


def _checked(
    year: int | None, month: int | None, day: int | None, *clock: int | None
) -> str | None:
    if year is None or month is None or day is None or year < _FIRST_YEAR:
        return None
    has_clock = bool(clock) and clock[0] is not None
    try:
        hour, minute, second = (*(part or 0 for part in clock), 0, 0, 0)[:3]
        found = datetime(year, month, day, hour, minute, second)
    except ValueError:
        return None
    return found.isoformat() if has_clock else found.date().isoformat()


def _scanner(metadata: Mapping[str, str], vendor: str) -> str | None:
    makers = (metadata.get(key, "") for key in ("dicom.Manufacturer", "tiff.Make"))
    if not _said(vendor) or vendor.lower() in _CONTAINERS:
        vendor = next(filter(_said, makers), "")
    model = next((m for key in _MODELS if _said(m := metadata.get(key, ""))), "")
    device = next((d for key in _DEVICES if _said(d := metadata.get(key, ""))), "")
    parts = list(dict.fromkeys(part.strip() for part in (vendor, model, device) if _said(part)))
    if len(parts) > 1 and parts[1].lower().startswith(parts[0].lower()):
        del parts[0]  # "Hamamatsu" and "Hamamatsu C9600"
    # Readers write vendors small.
    return " ".join(part.capitalize() if part.islower() else part for part in parts) or None


def _said(text: str) -> bool:
    return text.strip().lower() not in _NOT_SAID
