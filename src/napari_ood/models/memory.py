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
    keeps up to 2 GB more memory in exchange; what is free by now, say after a network was loaded,
    goes back to the kernel first. It holds for the whole process, so call it where a long
    computation starts, not on import. Does nothing off Linux/glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        libc = ctypes.CDLL("libc.so.6")
        mallopt, malloc_trim = libc.mallopt, libc.malloc_trim
    except (OSError, AttributeError):  # musl has neither
        return False
    malloc_trim(0)
    trimmed = mallopt(M_TRIM_THRESHOLD, KEEP_BYTES)
    mapped = mallopt(M_MMAP_THRESHOLD, MMAP_BYTES)
    padded = mallopt(M_TOP_PAD, PAD_BYTES)
    return bool(trimmed and mapped and padded)
