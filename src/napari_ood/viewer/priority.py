"""Threads that give way to the window. No Qt, no napari."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

STEPS = 5
"""Of niceness: beside such threads on all cores, another has three quarters of a core where it had
two thirds."""
LEAST = 19


def give_way() -> None:
    """Let others come first: this thread, and those that it starts from now on.

    On Linux only: elsewhere threads do not inherit it, and the system favours the window in front.
    """
    if sys.platform == "linux":
        me = threading.get_native_id()  # which is what Linux counts as a process here
        with suppress(OSError):  # a sandbox may forbid it, which is no reason not to run
            now = os.getpriority(os.PRIO_PROCESS, me)
            os.setpriority(os.PRIO_PROCESS, me, min(LEAST, now + STEPS))
