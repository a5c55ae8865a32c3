"""Real slides, downloaded on request and checked against a checksum stated here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from napari_ood.errors import DownloadError
from napari_ood.samples.cache import cache_folder

CHUNK = 1 << 18
TIMEOUT_S = 30.0

OnDownload = Callable[[int, int], None]
"""Told the bytes that are here and the bytes in all."""


@dataclass(frozen=True)
class Sample:
    """A slide that can be downloaded."""

    url: str
    sha256: str
    size: int
    licence: str
    description: str

    @property
    def file(self) -> str:
        """Name of the file in the cache."""
        return self.url.rsplit("/", 1)[-1]


SAMPLES = {
    "cmu-1-small-region": Sample(
        url="https://openslide.cs.cmu.edu/download/openslide-testdata/Aperio/CMU-1-Small-Region.svs",
        sha256="ed92d5a9f2e86df67640d6f92ce3e231419ce127131697fbbce42ad5e002c8a7",
        size=1_938_955,
        licence="CC0-1.0",
        description="Skin, H&E, Aperio 20x, 0.499 µm/px (OpenSlide's test data)",
    ),
}
"""Samples by name."""


def fetch_sample(name: str, on_progress: OnDownload | None = None) -> Path:
    """Path of a real sample slide; the first call downloads it into the user's cache.

    Parameters
    ----------
    name : str
        A key of :data:`SAMPLES`.
    on_progress : callable, optional
        Called with bytes done and bytes in all.

    Raises
    ------
    DownloadError
        If there is no such sample, no connection, or the file is not the one that is expected.
    OodError
        If the cache cannot be written.
    """
    if name not in SAMPLES:
        raise DownloadError(f"there is no sample {name!r}: choose from {', '.join(SAMPLES)}")
    sample = SAMPLES[name]
    path = cache_folder() / sample.file
    if not path.is_file():
        download(sample, path, on_progress)
    return path


def download(sample: Sample, path: Path, on_progress: OnDownload | None = None) -> None:
    """Download a sample to ``path``, which appears only when size and checksum are right.

    What a broken connection left is kept in ``path`` + ``.part``; the next call goes on from there
    if the server can, else it starts again.

    Raises
    ------
    DownloadError
        If the server cannot be reached, does not have the file, breaks off, or sends another file.
    """
    part = path.with_name(path.name + ".part")
    try:
        _receive(sample, part, on_progress)
    except HTTPError as error:
        raise DownloadError(
            f"{sample.url} cannot be downloaded (the server says {error.code} {error.reason}): "
            "try again later, or a newer napari-ood"
        ) from error
    except (OSError, HTTPException) as error:
        raise DownloadError(
            f"{sample.url} cannot be downloaded ({getattr(error, 'reason', None) or error}): "
            "check the connection and the space on the disk, then try again"
        ) from error
    if part.stat().st_size < sample.size:
        raise DownloadError(
            f"the connection broke after {part.stat().st_size:,} of {sample.size:,} bytes of "
            f"{sample.file}: try again, the download goes on from there"
        )
    if _sha256(part) != sample.sha256:
        part.unlink()
        raise DownloadError(
            f"{sample.url} is not the expected file (its checksum differs) and was deleted: "
            "try again; if it stays so, the file has changed on the server"
        )
    part.replace(path)


def _receive(sample: Sample, part: Path, on_progress: OnDownload | None) -> None:
    """Append to ``part`` what is missing, or start it anew; returns when the server has no more."""
    have = part.stat().st_size if part.is_file() else 0
    if have >= sample.size:
        part.unlink()
        have = 0
    headers = {"User-Agent": "napari-ood"} | ({"Range": f"bytes={have}-"} if have else {})
    with urlopen(Request(sample.url, headers=headers), timeout=TIMEOUT_S) as answer:
        resumes = answer.status == 206
        have = have if resumes else 0
        with part.open("ab" if resumes else "wb") as file:
            for chunk in _chunks(answer):
                file.write(chunk)
                have += len(chunk)
                if on_progress is not None:
                    on_progress(have, sample.size)
                if have > sample.size:  # another file: its checksum will say so
                    return


def _chunks(answer: HTTPResponse) -> Iterator[bytes]:
    while chunk := answer.read(CHUNK):
        yield chunk


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
