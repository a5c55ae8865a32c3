"""How long until the program answers: its help, and the first result of a run on the CPU.

    python benchmarks/startup.py [--model lymph-node-he] [--rounds 5]

``help``: ``napari-ood run --help``. ``first result``: from the command's start until tiles of a
20,000 px slide are stored that ``open_run`` would show, in a process of its own; the steps on the
way to it are printed as well. Precision is given, so that none is measured first. Medians, with the
fastest round beside them: other programs only ever slow a round.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from engine import made_in_process

CODE = """
import json, os, sys, time
start, slide, model, out = float(sys.argv[1]), *sys.argv[2:]
steps = {}
def note(name):
    steps.setdefault(name, time.time() - start)
from napari_ood import cli
from napari_ood.cli.progress import StatusLine
from napari_ood.inference import engine
loading = engine.open_network
def loaded(*args, **kwargs):
    note("torch loaded, run begun")
    network = loading(*args, **kwargs)
    note("network loaded")
    return network
def first_result(self, name, progress):
    note("first result")
    print(json.dumps(steps), flush=True)
    os._exit(0)
engine.open_network, StatusLine.show_run = loaded, first_result
cli.main(["run", slide, "--model", model, "--out", out, "--device", "cpu", "--precision", "fp32"])
"""


def seconds_of_help() -> float:
    """Time ``napari-ood run --help``."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "napari_ood", "run", "--help"]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def first_result(path: Path, model: str) -> dict[str, float]:
    """Seconds after which each step was done."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [str(time.time()), str(path), model, folder]
        done = subprocess.run(
            [sys.executable, "-c", CODE, *arguments], check=True, capture_output=True, text=True
        )
    steps: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return steps


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="lymph-node-he")
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    path = made_in_process(args.side)
    times: dict[str, list[float]] = {}
    for _ in range(args.rounds):
        times.setdefault("help", []).append(seconds_of_help())
        steps = first_result(path, args.model)
        for name, value in steps.items():
            times.setdefault(name, []).append(value)
        after = steps["first result"] - steps["network loaded"]
        times.setdefault("first result after network", []).append(after)
    print("| after the command's start | median, s | fastest, s |\n|---|---:|---:|")
    for name, values in times.items():
        print(f"| {name} | {median(values):.2f} | {min(values):.2f} |")
    print(f"\n{args.model}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
