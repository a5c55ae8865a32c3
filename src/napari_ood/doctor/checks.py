"""The doctor's checks. Each yields findings and imports what it examines only when it runs."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

from napari_ood.doctor.finding import Finding
from napari_ood.doctor.libraries import (
    DEBIAN_PACKAGES,
    VIRTUAL_SCREEN,
    has_display,
    missing_libraries,
)
from napari_ood.errors import OodError

OPENGL_TIMEOUT_S = 60.0
CODECS = ("JPEG8", "JPEG2K", "ZSTD", "LZW", "DEFLATE", "PNG", "WEBP")
"""imagecodecs codecs that slides are commonly compressed with."""

Check = Callable[[], Iterator[Finding]]


def versions() -> Iterator[Finding]:
    """Python and the packages that matter in a bug report."""
    yield Finding("napari-ood", "ok", version("napari-ood"))
    yield Finding("Python", "ok", f"{platform.python_version()} on {platform.platform()}")
    names = ("torch", "torchvision", "timm", "napari", "numpy", "zarr", "dask")
    for name in names:
        try:
            yield Finding(name, "ok", version(name))
        except PackageNotFoundError:
            yield Finding(name, "problem", "not installed", f"pip install {name}")


def qt() -> Iterator[Finding]:
    """The Qt binding that napari will use."""
    try:
        from qtpy import API_NAME, QT_VERSION
    except Exception as error:  # noqa: BLE001  qtpy raises its own errors when Qt is broken
        yield Finding(
            "Qt", "problem", str(error).splitlines()[0], "pip install 'napari-ood[all]' (PyQt6)"
        )
        return
    yield Finding("Qt", "ok", f"{API_NAME} {QT_VERSION}")


def opengl() -> Iterator[Finding]:
    """Whether windows with OpenGL can be opened, and by which renderer."""
    missing = missing_libraries()
    if missing:
        packages = sorted({p for name in missing for p in DEBIAN_PACKAGES[name].split()})
        yield Finding(
            "system libraries",
            "problem" if has_display() else "note",
            f"missing: {', '.join(missing)}",
            f"sudo apt install {' '.join(packages)}",
        )
    if not has_display() and shutil.which("xvfb-run") is None:
        yield Finding(
            "OpenGL",
            "note",
            "no display here, so no windows; info, run, models and demo --no-window work",
            "for a virtual display: sudo apt install xvfb xauth",
        )
        return
    command = [sys.executable, "-m", "napari_ood.doctor.opengl"]
    yield _probe(command if has_display() else [*VIRTUAL_SCREEN, *command])


def _probe(command: list[str]) -> Finding:
    """Run the OpenGL probe and read its outcome."""
    # A display and a broken driver is a problem; a broken virtual screen only limits the demo.
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=OPENGL_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        reason = f"no answer in {OPENGL_TIMEOUT_S:.0f} s"
    else:
        if done.returncode == 0:
            found = json.loads(done.stdout.strip().splitlines()[-1])
            where = "" if has_display() else ", on a virtual screen (no display here)"
            return Finding("OpenGL", "ok", f"{found['renderer']}, {found['version']}{where}")
        # xvfb-run writes what its command has on stderr to stdout.
        said = (done.stderr + done.stdout).strip().splitlines()
        reason = said[0] if said else f"exit code {done.returncode}"
    return Finding(
        "OpenGL",
        "problem" if has_display() else "note",
        f"no OpenGL context: {reason}",
        "update the graphics driver; over remote desktop, start napari on the machine's own screen",
    )


def devices() -> Iterator[Finding]:
    """Where networks can run."""
    import torch

    from napari_ood.models import available_devices

    try:
        import torchvision  # noqa: F401  its import is the check
    except RuntimeError as error:
        # "torchvision::nms does not exist": a CPU-only torch beside the torchvision of PyPI.
        yield Finding(
            "torchvision",
            "problem",
            f"does not fit torch {torch.__version__}: {error}",
            "pip install --force-reinstall torch torchvision, both from the same index",
        )
    found = available_devices()
    for device in found:
        yield Finding("device", "ok", f"{device.name}: {device.description}")
    if len(found) > 1:
        return
    if shutil.which("nvidia-smi"):
        yield Finding(
            "device",
            "note",
            f"this machine has NVIDIA's driver, but torch {torch.__version__} finds no GPU",
            "reinstall torch as https://pytorch.org/get-started says for this system",
        )
    else:
        yield Finding("device", "note", "no GPU found: runs use the CPU, which is slower")


def readers() -> Iterator[Finding]:
    """The libraries that decode slides."""
    import imagecodecs
    import openslide
    import wsidicom  # type: ignore[import-untyped]  # noqa: F401  its import is the check

    yield Finding("OpenSlide", "ok", openslide.__library_version__)
    yield Finding("wsidicom", "ok", version("wsidicom"))
    absent = [name for name in CODECS if not getattr(imagecodecs, name).available]
    if absent:
        yield Finding(
            "imagecodecs",
            "problem",
            f"{version('imagecodecs')} lacks {', '.join(absent)}",
            "pip install --force-reinstall imagecodecs",
        )
    else:
        yield Finding("imagecodecs", "ok", f"{version('imagecodecs')}: {', '.join(CODECS)}")


def bundles() -> Iterator[Finding]:
    """Every bundle at hand: schema and hashes."""
    from napari_ood import BundleError, list_bundles, load_bundle

    entries = list_bundles()
    if not entries:
        yield Finding("bundle", "problem", "none found", "pip install --force-reinstall napari-ood")
    for entry in entries:
        try:
            load_bundle(entry.path)
        except BundleError as error:
            yield Finding("bundle", "problem", str(error), "reinstall or fetch it again")
        else:
            yield Finding("bundle", "ok", f"{entry.name}: card valid, hashes right")


def cache() -> Iterator[Finding]:
    """The folder for sample slides, drawn or downloaded."""
    from napari_ood.samples.cache import cache_folder

    try:
        folder = cache_folder()
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OodError, OSError) as error:
        yield Finding("cache", "problem", str(error), "set NAPARI_OOD_CACHE to a folder of yours")
        return
    free = shutil.disk_usage(folder).free / 2**30
    yield Finding("cache", "ok", f"{folder}, {free:.0f} GiB free")


CHECKS: tuple[Check, ...] = (versions, qt, opengl, devices, readers, bundles, cache)
