"""Reviews survive processes that are killed: real processes, SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from napari_ood.review import ReviewStore

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
RUN = "a" * 64

REVIEWER = """
import os, signal, sys
from napari_ood.review import Kind, ReviewStore, Verdict

folder, window, n, torn = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
store = ReviewStore(folder, "a" * 64, "Ada")
write = os.write

def half(file, data):
    write(file, data[: len(data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)

print("ready", flush=True)
sys.stdin.readline()
for i in range(n):
    if i == torn:
        os.write = half
    comment = "x" * 40_000  # ten pages of the disk's cache: a kill can fall between two
    verdict = Verdict(f"{i}-{window}", (0, 0, 1, 1), ((i, window),), Kind.AGREE, comment=comment,
                      reviewer="Ada", time="2026")
    store.add(verdict)
    print(i, flush=True)
"""


def start(folder: Path, window: int, n: int, torn: int = -1) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", REVIEWER, str(folder), str(window), str(n), str(torn)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def acknowledged(process: subprocess.Popen[str], go: bool = True) -> int:
    """Let it work until it ends; number of verdicts that it said were saved."""
    assert process.stdin is not None and process.stdout is not None
    if go:
        say_go(process)
    said = process.stdout.read()  # not communicate(), which loses what readline() has buffered
    process.wait(120)
    return said.count("\n")


def say_go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def keys(store: ReviewStore, window: int) -> list[str]:
    return [v.region_key for v in store.verdicts() if v.region_key.endswith(f"-{window}")]


def test_a_process_killed_in_the_middle_of_a_line(tmp_path: Path) -> None:
    process = start(tmp_path, window=0, n=5, torn=3)
    assert acknowledged(process) == 3
    assert process.returncode == -signal.SIGKILL
    (file,) = tmp_path.iterdir()
    torn = file.read_bytes()
    assert torn.endswith(b"xxx"), "half of the fourth line is there"

    store = ReviewStore(tmp_path, RUN, "Ada")
    assert keys(store, 0) == ["0-0", "1-0", "2-0"]
    assert "1 line cut off" in store.notices[0]
    assert store.undo() is not None, "the first line after the torn one is whole"
    assert keys(ReviewStore(tmp_path, RUN, "Ada"), 0) == ["0-0", "1-0"]
    assert file.read_bytes().startswith(torn)


def test_one_of_two_windows_is_killed_at_any_moment(tmp_path: Path) -> None:
    killed, other = (start(tmp_path, window, n) for window, n in ((0, 5_000), (1, 150)))
    assert killed.stdout is not None
    for process in (killed, other):
        say_go(process)
    for _ in range(40):
        assert killed.stdout.readline()
    killed.kill()
    n_killed = 40 + acknowledged(killed, go=False)
    assert killed.returncode == -signal.SIGKILL, "it was at work"
    assert acknowledged(other, go=False) == 150 and other.returncode == 0

    store = ReviewStore(tmp_path, RUN, "Ada")
    assert keys(store, 1) == [f"{i}-1" for i in range(150)], "the other window lost nothing"
    saved = keys(store, 0)
    assert saved[:n_killed] == [f"{i}-0" for i in range(n_killed)], "what was saved is there"
    assert len(saved) <= n_killed + 1, "one more may be saved that could not be acknowledged"
