"""A training in a process of its own that rests at its first checkpoint, for a signal to come."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence

MOST_S = 300

PROGRAM = """
import sys
from napari_ood.cli import main
from napari_ood.training import session

write = session.write_checkpoint

def write_and_rest(path, checkpoint):
    write(path, checkpoint)
    print("at rest", flush=True)
    sys.stdin.readline()

session.write_checkpoint = write_and_rest
sys.exit(main(sys.argv[1:]))
"""


def interrupted(arguments: Sequence[object]) -> tuple[int, str]:
    """Run ``napari-ood`` until a training's first epoch is kept, then press Ctrl-C.

    Neither a fast machine nor a slow one ends the training before: it waits for the signal.

    Returns
    -------
    int
        Exit status.
    str
        What was said on stderr.
    """
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        stdin=pipe, stdout=pipe, stderr=pipe, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    if process.stdout.readline() == "at rest\n":
        process.send_signal(signal.SIGINT)
    _, said = process.communicate("go on\n", timeout=MOST_S)
    return process.returncode, said
