"""Who a process is, so that another one can tell whether it still runs."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Process:
    """A process of some machine.

    Attributes
    ----------
    host : name of the machine
    boot : since when that is up, where it can be told
    space : in which numbers of processes are counted: containers have their own
    pid : number of the process
    began : when the process began; a number may be given again
    """

    host: str
    boot: str
    space: str
    pid: int
    began: str

    @classmethod
    def this(cls) -> Process:
        """The process that asks."""
        pid = os.getpid()
        return cls(platform.node(), _boot(), _space(), pid, _began(pid) or "")

    def runs(self) -> bool | None:
        """Whether it still runs; None where that cannot be told from here."""
        if self.host != platform.node():
            return None
        if self.boot != _boot():
            return False
        if self.space != _space():
            return None
        return _began(self.pid) == self.began


def _boot() -> str:
    try:
        return BOOT.read_text("ascii").strip()
    except OSError:
        return ""


def _space() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _began(pid: int) -> str | None:
    """When a process began, in whatever units; None if there is no such process."""
    if sys.platform == "linux":
        # psutil gives the clock's time, which moves when the clock is set.
        try:
            stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        except OSError:
            return None
        state, *fields = stat.rpartition(")")[2].split()  # the name before may hold anything
        return None if state in "ZX" else fields[18]
    import psutil  # type: ignore[import-untyped]  # napari brings it

    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return None
