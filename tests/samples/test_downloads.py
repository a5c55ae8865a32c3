"""Downloads against a server on this machine: good, wrong, missing, broken off, resumed."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from napari_ood import OodError, open_slide
from napari_ood.errors import DownloadError
from napari_ood.samples import SAMPLES, Sample, downloads, fetch_sample, ihc_slide

CONTENT = np.random.default_rng(0).bytes(700_000)


@dataclass
class Server:
    """What the server does next, and what it was asked."""

    url: str = ""
    content: bytes = CONTENT
    cut_after: int | None = None
    resumes: bool = True
    ranges: list[str | None] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.ranges.append(wanted)
            if self.path != "/slides/a.svs":
                self.send_error(404)
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            start = start if state.resumes else 0
            body = state.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.cut_after])

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}/slides/a.svs"
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def sample(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sample:
    monkeypatch.setenv("NAPARI_OOD_CACHE", str(tmp_path))
    digest = hashlib.sha256(CONTENT).hexdigest()
    made = Sample(server.url, digest, len(CONTENT), "CC0-1.0", "bytes")
    monkeypatch.setitem(SAMPLES, "a", made)
    return made


def test_a_good_file_is_fetched_once(sample: Sample, server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = fetch_sample("a", lambda done, total: seen.append((done, total)))
    assert path == tmp_path / "a.svs"
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert len(seen) > 1
    assert fetch_sample("a") == path
    assert len(server.ranges) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.svs"]


def test_another_file_is_refused_and_deleted(
    sample: Sample, server: Server, tmp_path: Path
) -> None:
    server.content = CONTENT[:-1] + b"!"
    with pytest.raises(DownloadError, match="checksum differs"):
        fetch_sample("a")
    assert not list(tmp_path.iterdir())
    server.content = CONTENT + b"more"
    with pytest.raises(DownloadError, match="checksum differs"):
        fetch_sample("a")
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_said(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = replace(sample, url=sample.url + ".gone")
    monkeypatch.setitem(SAMPLES, "a", gone)
    with pytest.raises(DownloadError, match="404"):
        fetch_sample("a")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("resumes", [True, False])
def test_a_broken_download_goes_on_or_starts_again(
    sample: Sample, server: Server, tmp_path: Path, resumes: bool
) -> None:
    server.cut_after = 300_000
    server.resumes = resumes
    with pytest.raises(DownloadError, match="try again"):
        fetch_sample("a")
    assert not (tmp_path / "a.svs").exists()
    assert (tmp_path / "a.svs.part").stat().st_size == 300_000
    server.cut_after = None
    assert fetch_sample("a").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-"]
    assert not (tmp_path / "a.svs.part").exists()


def test_without_connection(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nobody = replace(sample, url=f"http://127.0.0.1:{port}/a.svs")
    monkeypatch.setitem(SAMPLES, "a", nobody)
    with pytest.raises(DownloadError, match="check the connection"):
        fetch_sample("a")
    assert issubclass(DownloadError, OodError)


def test_an_unknown_sample_names_the_known_ones() -> None:
    with pytest.raises(DownloadError, match="cmu-1-small-region"):
        fetch_sample("nothing")


def test_the_stated_checksum_is_of_the_real_slide(shared_data: Path) -> None:
    real = shared_data / "slides" / "aperio_cmu_small" / "CMU-1-Small-Region.svs"
    sample = SAMPLES["cmu-1-small-region"]
    assert sample.file == real.name
    assert sample.size == real.stat().st_size
    assert downloads._sha256(real) == sample.sha256


def test_the_ihc_image_opens_without_mpp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_OOD_CACHE", str(tmp_path))
    path = ihc_slide()
    assert ihc_slide() == path
    with open_slide(path) as slide:
        assert slide.mpp is None
        assert slide.levels[0].shape == (512, 512, 3)
        pixels = slide.read(0, 0, 0, 512, 512)
    # DAB: brown, so blue is lowest
    assert (pixels[..., 2] < pixels[..., 0]).mean() > 0.2


def test_a_missing_ihc_image_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from skimage import data

    def offline() -> None:
        raise ConnectionError("no internet")

    monkeypatch.setenv("NAPARI_OOD_CACHE", str(tmp_path))
    monkeypatch.setattr(data, "immunohistochemistry", offline)
    with pytest.raises(DownloadError, match="pooch"):
        ihc_slide()
    assert not list(tmp_path.iterdir())
