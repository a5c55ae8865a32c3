"""Keep two copies of LLVM in one process apart: Mesa's, which draws, and Triton's, beside torch.

On Linux, Mesa's OpenGL drivers load libLLVM and make its symbols global. Triton's extension module
carries another LLVM, whose symbols the linker then resolves to Mesa's; importing torchvision, which
imports Triton, in a process with an OpenGL window ends in a segmentation fault (seen with Mesa 22.3
on LLVM 15 and Triton 3.9). ``RTLD_DEEPBIND`` makes Triton look into itself first.
"""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import suppress
from pathlib import Path

MAPS = Path("/proc/self/maps")


def load_triton_apart() -> None:
    """Load Triton so that it cannot clash with Mesa; does nothing where it could not.

    To be called before anything imports torch in a process that draws with OpenGL.
    """
    if "triton" in sys.modules or not hasattr(os, "RTLD_DEEPBIND") or not _llvm_is_loaded():
        return
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags | os.RTLD_DEEPBIND)
    try:
        with suppress(ImportError):  # torch works without Triton
            importlib.import_module("triton._C.libtriton")
    finally:
        sys.setdlopenflags(flags)


def _llvm_is_loaded() -> bool:
    try:
        return "libLLVM" in MAPS.read_text()
    except OSError:
        return False
