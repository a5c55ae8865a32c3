"""Scanner and date: what files say, and that nothing is made up."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from napari_ood import open_slide
from napari_ood.slides.acquisition import Acquisition, acquisition_from, acquisition_of, parse_date

APERIO = {"Date": "12/29/09", "Time": "09:59:15", "ScanScope ID": "CPAPERIOCS"}


@pytest.mark.parametrize(
    ("fields", "vendor", "expected"),
    [
        (APERIO, "aperio", ("Aperio CPAPERIOCS", "2009-12-29T09:59:15", "Date")),
        ({f"aperio.{k}": v for k, v in APERIO.items()}, "aperio",
         ("Aperio CPAPERIOCS", "2009-12-29T09:59:15", "aperio.Date")),
        ({"Date": "29/12/09"}, "aperio", ("Aperio", None, None)),  # there is no 29th month
        ({"dicom.AcquisitionDateTime": "20091229095915.123+0100", "dicom.Manufacturer": "Maker",
          "dicom.ManufacturerModelName": "M1", "dicom.DeviceSerialNumber": "Unknown"}, "dicom",
         ("Maker M1", "2009-12-29T09:59:15", "dicom.AcquisitionDateTime")),
        ({"dicom.AcquisitionDateTime": "", "dicom.AcquisitionDate": "20200102",
          "dicom.ContentDate": "20250131"}, "dicom", (None, "2020-01-02", "dicom.AcquisitionDate")),
        ({"dicom.ContentDate": "20250131", "dicom.StudyDate": "16730303"}, "dicom",
         (None, None, None)),
        ({"tiff.DateTime": "2017:02:07 13:06:43", "tiff.Make": "Hamamatsu",
          "tiff.Model": "C9600-12"}, "hamamatsu",
         ("Hamamatsu C9600-12", "2017-02-07T13:06:43", "tiff.DateTime")),
        ({"tiff.DateTime": "0000:00:00 00:00:00"}, "generic", (None, None, None)),
        ({"AcquisitionDate": "2021-05-06T07:08:09Z"}, "generic",
         (None, "2021-05-06T07:08:09", "AcquisitionDate")),
        ({"leica.creation-date": "2011-08-04T14:12:46.75Z", "leica.device-version": "1.4"},
         "leica", ("Leica 1.4", "2011-08-04T14:12:46", "leica.creation-date")),
    ],
)  # fmt: skip
def test_what_files_say(
    fields: dict[str, str], vendor: str, expected: tuple[str | None, str | None, str | None]
) -> None:
    assert acquisition_from(fields, vendor) == Acquisition(*expected)


@given(st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1)))
def test_dates_of_all_three_ways_of_writing(when: datetime) -> None:
    when = when.replace(microsecond=0)
    for form in ("%Y%m%d%H%M%S", "%Y:%m:%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"):
        # not strftime's %Y: it drops leading zeros on some systems
        assert parse_date(when.strftime(form)) == when.isoformat()
    assert parse_date(when.date().isoformat()) == when.date().isoformat()


@given(st.text(max_size=30))
def test_no_text_is_an_error(text: str) -> None:
    date = parse_date(text)
    assert date is None or datetime.fromisoformat(date).year >= 1990


def test_tiff_and_ome_tiff(tmp_path: Path) -> None:
    pixels = np.full((64, 64, 3), 200, np.uint8)
    plain, ome = tmp_path / "plain.tif", tmp_path / "dated.ome.tif"
    tifffile.imwrite(plain, pixels, photometric="rgb", datetime="2020:01:02 03:04:05",
                     extratags=[(271, "s", 0, "Maker", True)])  # fmt: skip
    tifffile.imwrite(ome, pixels, photometric="rgb", metadata={"axes": "YXS"}, ome=True)
    xml = tifffile.tiffcomment(ome)
    dated = xml.replace("<Pixels", "<AcquisitionDate>2019-08-07T06:05:04</AcquisitionDate><Pixels")
    assert dated != xml
    tifffile.tiffcomment(ome, dated.encode())
    with open_slide(plain) as slide:
        found = acquisition_of(slide)
    assert found == Acquisition("Maker", "2020-01-02T03:04:05", "tiff.DateTime")
    with open_slide(ome) as slide:
        assert acquisition_of(slide).date == "2019-08-07T06:05:04"


def test_real_slides(shared_data: Path) -> None:
    svs = shared_data / "slides" / "aperio_cmu_small" / "CMU-1-Small-Region.svs"
    with open_slide(svs) as slide:
        assert acquisition_of(slide) == Acquisition(
            "Aperio CPAPERIOCS", "2009-12-29T09:59:15", "Date"
        )
