"""Open an OpenGL context with Qt and print what draws, as one JSON line.

Run as ``python -m napari_ood.doctor.opengl`` in a process of its own: a broken display or driver
aborts the process, which no ``except`` would catch.
"""

from __future__ import annotations

import json
import sys


def main() -> int:
    """Print ``{"qt", "renderer", "version"}``; 1 where there is no context."""
    from qtpy import API_NAME, QT_VERSION
    from qtpy.QtGui import QGuiApplication, QOffscreenSurface, QOpenGLContext

    app = QGuiApplication(sys.argv[:1])
    surface = QOffscreenSurface()
    surface.create()
    context = QOpenGLContext()
    if not (context.create() and context.makeCurrent(surface)):
        print("Qt could not create an OpenGL context", file=sys.stderr)
        return 1
    from vispy.gloo import gl  # type: ignore[import-untyped]

    found = {
        "qt": f"{API_NAME} {QT_VERSION}",
        "renderer": gl.glGetParameter(gl.GL_RENDERER),
        "version": gl.glGetParameter(gl.GL_VERSION),
    }
    print(json.dumps(found))
    context.doneCurrent()
    del app
    return 0


if __name__ == "__main__":
    sys.exit(main())
