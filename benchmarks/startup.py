"""How long until the program answers: its help, and the first result of a run on the CPU.

    python benchmarks/startup.py [--model lymph-node-he] [--rounds 7] [--against OTHER/src]

``help``: ``napari-ood run --help``. ``first result``: from the command's start until tiles of a
20,000 px slide are stored that ``open_run`` would show, in a process of its own; the steps on the
way to it are printed as well. Precision is given, so that none is measured first. Medians, with the
fastest round beside them: other programs only ever slow a round. Processor seconds of the process,
all threads together, are what other programs disturb least. ``--against`` takes turns with the
sources of another checkout, and prints theirs below.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
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
    steps.setdefault(name, (time.time() - start, time.process_time()))
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


Took = tuple[float, float]
"""Seconds of the clock and of the processors."""


def seconds_of_help(environment: dict[str, str]) -> Took:
    """Time ``napari-ood run --help``."""
    start, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "napari_ood", "run", "--help"]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = spent.ru_utime - used.ru_utime + spent.ru_stime - used.ru_stime
    return time.perf_counter() - start, cpu


def first_result(path: Path, model: str, environment: dict[str, str]) -> dict[str, Took]:
    """Seconds after which each step was done."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [str(time.time()), str(path), model, folder]
        done = subprocess.run(
            [sys.executable, "-c", CODE, *arguments],
            check=True, capture_output=True, text=True, env=environment,
        )  # fmt: skip
    steps: dict[str, Took] = {
        k: tuple(v) for k, v in json.loads(done.stdout.splitlines()[-1]).items()
    }
    return steps


def measured(path: Path, model: str, environment: dict[str, str]) -> dict[str, Took]:
    """One round."""
    steps = first_result(path, model, environment)
    (wall, cpu), (begun, begun_cpu) = steps["first result"], steps["network loaded"]
    after = {"first result after network": (wall - begun, cpu - begun_cpu)}
    return {"help": seconds_of_help(environment), **steps, **after}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="lymph-node-he")
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--against", type=Path)
    args = parser.parse_args()
    path = made_in_process(args.side)
    environments = {"": dict(os.environ)}
    if args.against:
        environments["against"] = {**os.environ, "PYTHONPATH": str(args.against.resolve())}
    rounds: dict[str, list[dict[str, Took]]] = {name: [] for name in environments}
    for _ in range(args.rounds):
        for name, environment in environments.items():
            rounds[name].append(measured(path, args.model, environment))
    for name, found in rounds.items():
        print(
            f"{name}\n| after the command's start | median, s | fastest, s | processor s, median |"
        )
        print("|---|---:|---:|---:|")
        for step in found[0]:
            walls, cpus = zip(*(steps[step] for steps in found), strict=True)
            print(f"| {step} | {median(walls):.2f} | {min(walls):.2f} | {median(cpus):.2f} |")
    print(f"\n{args.model}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
