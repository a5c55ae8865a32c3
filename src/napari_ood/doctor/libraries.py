"""System libraries that Qt and OpenGL need on Linux, and the Debian packages that hold them.

Only the standard library is used, so that ``scripts/setup.sh`` can run this file with a bare
Python before anything is installed: it prints the Debian packages that are missing, one a line.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys

DEBIAN_PACKAGES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libGLX_mesa.so.0": "libgl1-mesa-dri libglx-mesa0",
    "libX11-xcb.so.1": "libx11-xcb1",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-xinerama.so.0": "libxcb-xinerama0",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
}
"""Shared library → Debian package(s), as Qt 6's xcb platform plugin and Mesa need them."""

XVFB_PACKAGES = {"Xvfb": "xvfb", "xvfb-run": "xvfb", "xauth": "xauth"}
"""Program → Debian package, for a window on a machine without a display."""

VIRTUAL_SCREEN = ("xvfb-run", "-a", "-s", "-screen 0 1600x1000x24")
"""Prefix of a command that shall open its windows on a screen of 1600 × 1000 px in memory."""


def has_display() -> bool:
    """Tell whether windows can be opened here as far as the environment says."""
    if not sys.platform.startswith("linux"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def missing_libraries() -> list[str]:
    """Names of the shared libraries that cannot be loaded; empty off Linux."""
    if not sys.platform.startswith("linux"):
        return []
    return [name for name in DEBIAN_PACKAGES if not _loads(name)]


def missing_packages() -> list[str]:
    """Debian packages for whatever is missing, Xvfb among them where there is no display."""
    wanted = {p for name in missing_libraries() for p in DEBIAN_PACKAGES[name].split()}
    if not has_display():
        wanted |= {p for name, p in XVFB_PACKAGES.items() if shutil.which(name) is None}
    return sorted(wanted)


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    print("\n".join(missing_packages()))
