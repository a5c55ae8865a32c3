"""DICOM whole-slide images: OpenSlide where it can, wsidicom for the encodings it lacks."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_ood.errors import SlideError
from napari_ood.slides.backends.base import RGB, Backend, LazyImages, Level, SlideInfo
from napari_ood.slides.backends.openslide import OpenSlideBackend
from napari_ood.slides.backends.pixels import Converter, to_rgb, white_value_note
from napari_ood.slides.backends.tiff_meta import physical

_WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"  # VL Whole Slide Microscopy Image Storage
_TAGS = (
    "SOPClassUID", "SeriesInstanceUID", "ImageType", "Manufacturer", "BitsStored",
    "PhotometricInterpretation", "TotalPixelMatrixFocalPlanes", "NumberOfOpticalPaths",
    "ManufacturerModelName",
)  # fmt: skip
_FUNCTIONAL_GROUPS = 0x52000000
_MAX_FILES = 2000


@dataclass(frozen=True)
class DicomFile:
    """The header fields of one DICOM file that decide how it is read, as plain values."""

    path: Path
    fields: dict[str, str]

    @property
    def series(self) -> str:
        """Identifier that the files of one slide share."""
        return self.fields.get("SeriesInstanceUID", "")

    @property
    def is_volume(self) -> bool:
        """Whether it holds tissue, not a label, overview or thumbnail."""
        kinds = self.fields.get("ImageType", "").upper()
        is_slide = self.fields.get("SOPClassUID") == _WHOLE_SLIDE
        return is_slide and not any(k in kinds for k in ("LABEL", "OVERVIEW", "THUMBNAIL"))

    def number(self, name: str, default: int) -> int:
        """Return a field as a number, ``default`` where it is missing or none."""
        value = self.fields.get(name, "")
        return int(value) if value.isdigit() else default


def is_dicom(path: Path) -> bool:
    """Tell whether a file starts like DICOM part 10: 128 bytes, then ``DICM``."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def dicom_files(folder: Path) -> list[Path]:
    """Return the DICOM files that lie directly in a folder, sorted by name."""
    files = sorted(file for file in folder.iterdir() if file.is_file())[:_MAX_FILES]
    return [file for file in files if is_dicom(file)]


def open_dicom(path: Path) -> Backend:
    """Open the slide that a DICOM file belongs to, or the one that a folder holds.

    Raises
    ------
    SlideError
        When it is no whole-slide image, or the folder holds several slides.
    """
    series = _folder_series(path) if path.is_dir() else _file_series(path)
    volumes = [file for file in series if file.is_volume]
    if not volumes:
        raise SlideError(_why_no_volume(series))
    _check_planes(volumes)
    paths = tuple(file.path for file in (*volumes, *(f for f in series if not f.is_volume)))
    try:
        return OpenSlideBackend(volumes[0].path, paths)
    except SlideError as error:
        try:
            return WsiDicomBackend(volumes, paths)
        except SlideError:
            raise error from None


def _header(path: Path) -> DicomFile:
    from pydicom.filereader import read_partial
    from pydicom.tag import Tag

    with warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")  # oddities of values that are not used here
        try:
            header = read_partial(file, _is_past_header, specific_tags=[Tag(t) for t in _TAGS])
            fields = {name: str(header[name].value) for name in _TAGS if name in header}
        except Exception as error:
            raise SlideError(f"its DICOM header is damaged ({error})") from error
    return DicomFile(path, fields)


def _is_past_header(tag: int, _vr: str | None, _length: int) -> bool:
    """Stop before the per-frame groups, which take seconds to parse for 100,000 frames."""
    return tag >= _FUNCTIONAL_GROUPS


def _readable(paths: Iterable[Path]) -> Iterator[DicomFile]:
    for path in paths:
        with suppress(SlideError):  # a damaged neighbour is none of a slide's business
            yield _header(path)


def _folder_series(folder: Path) -> list[DicomFile]:
    series: dict[str, list[DicomFile]] = defaultdict(list)
    for file in _readable(dicom_files(folder)):
        series[file.series].append(file)
    slides = [files for files in series.values() if any(file.is_volume for file in files)]
    if len(slides) > 1:
        raise SlideError(f"the folder holds {len(slides)} DICOM slides; open a file of one of them")
    return slides[0] if slides else [file for files in series.values() for file in files]


def _file_series(path: Path) -> list[DicomFile]:
    """Return the file with those beside it that share its series, the file itself first."""
    wanted = _header(path)
    others = _readable(file for file in dicom_files(path.parent) if file != path)
    return [wanted, *(file for file in others if file.series == wanted.series)]


def _why_no_volume(series: list[DicomFile]) -> str:
    from pydicom.uid import UID

    if not series:
        return "its DICOM files are all damaged; copy them again"
    kinds = sorted({UID(file.fields.get("SOPClassUID", "")).name or "unknown" for file in series})
    if {file.fields.get("SOPClassUID") for file in series} == {_WHOLE_SLIDE}:
        return "it holds only a label, overview or thumbnail; open the file with the tissue"
    return f"it is DICOM, but no whole-slide image ({', '.join(kinds)})"


def _check_planes(volumes: list[DicomFile]) -> None:
    for name, what in (
        ("TotalPixelMatrixFocalPlanes", "focal planes"),
        ("NumberOfOpticalPaths", "optical paths (channels)"),
    ):
        number = max(file.number(name, 1) for file in volumes)
        if number > 1:
            raise SlideError(f"it holds {number} {what}; export one of them")


class WsiDicomBackend:
    """Reads through wsidicom: 16-bit grey, JPEG-LS, RLE and other encodings."""

    def __init__(self, volumes: list[DicomFile], files: tuple[Path, ...]) -> None:
        from wsidicom import WsiDicom  # type: ignore[import-untyped]

        try:
            self._slide = WsiDicom.open([file.path for file in volumes])
            self._levels = sorted(self._slide.levels, key=lambda level: level.level)
            self._convert = _converter(volumes[0])
            self.info = self._describe(volumes[0], files)
        except SlideError:
            raise
        except Exception as error:
            raise SlideError(f"wsidicom cannot read it ({error})") from error
        self.associated = LazyImages({})

    def read(self, level: int, y: int, x: int, h: int, w: int) -> RGB:
        """Return the (h, w, 3) uint8 window of a level."""
        number = self._levels[level].level
        samples = self._slide.read_region((x, y), number, (w, h), as_array=True)
        return self._convert(np.asarray(samples).reshape(h, w, -1))

    def _describe(self, first: DicomFile, files: tuple[Path, ...]) -> SlideInfo:
        shapes = [
            Level(
                (level.size.height, level.size.width),
                (level.tile_size.height, level.tile_size.width),
            )
            for level in self._levels
        ]
        pixel = self._levels[0].mpp
        bits = first.number("BitsStored", 8)
        note = (white_value_note(np.dtype(np.uint16), 2**bits - 1),) if bits > 8 else ()
        return SlideInfo(
            format="DICOM WSI",
            reader="wsidicom",
            levels=tuple(shapes),
            mpp=physical((float(pixel.height), float(pixel.width))),
            files=files,
            vendor="dicom",
            metadata=dict(first.fields),
            warnings=note,
        )

    def close(self) -> None:
        """Close the files."""
        self._slide.close()


def _converter(file: DicomFile) -> Converter:
    bits = file.number("BitsStored", 8)
    top = float(2**bits - 1)
    is_inverted = file.fields.get("PhotometricInterpretation") == "MONOCHROME1"

    def convert(samples: Any) -> RGB:
        return to_rgb(samples.dtype.type(top) - samples if is_inverted else samples, top)

    return convert
