"""One knob of the C library that doubles the speed of CNNs on Linux."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # from glibc's malloc.h
KEEP_BYTES = 2_000_000_000
MMAP_BYTES = 1 << 30
PAD_BYTES = 1 << 27
"""More than a heap of a thread's arena (64 MB), which goes back to the kernel whole otherwise."""


def reuse_freed_memory() -> bool:
    """Make glibc keep freed memory for the next batch; return whether it was done.

    By default glibc hands the buffers of each layer back to the kernel and page-faults them in
    again for the next batch. Measured with a ResNet-18 on two cores: 61 → 98 tiles/s. The process
    keeps what it frees in exchange, some hundred megabytes, until ``return_freed_memory``; what is
    free by now, say after a network was loaded, goes back to the kernel first. It holds for the
    whole process, so call it where a long computation starts, not on import. Does nothing off
    Linux/glibc.
    """
    libc = _glibc()
    if libc is None:
        return False
    libc.malloc_trim(0)
    trimmed = libc.mallopt(M_TRIM_THRESHOLD, KEEP_BYTES)
    mapped = libc.mallopt(M_MMAP_THRESHOLD, MMAP_BYTES)
    padded = libc.mallopt(M_TOP_PAD, PAD_BYTES)
    return bool(trimmed and mapped and padded)


def return_freed_memory() -> None:
    """Give what ``reuse_freed_memory`` keeps back to the kernel, at a long computation's end."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None  # musl
