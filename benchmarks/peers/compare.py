"""Whole-process tiles/s and memory of napari-ood and of its peers, on the same slide and weights.

    python benchmarks/peers/compare.py INPUTS --rounds 3 wsinfer=PYTHON tiatoolbox=PYTHON ...

``PYTHON``: the interpreter of an environment that has the tool (see ``benchmarks/peers.md``).
A process is timed from its start to its end: imports, tissue, network, tiles, writing. Memory is
the peak of the proportional set size of it and its children, looked at every second (Linux). Rounds
alternate the tools; medians are printed, as a table in Markdown, with napari-ood's ratio to each.
Needs psutil.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

HERE = Path(__file__).parent
OURS = "napari_ood"
PACKAGES = {OURS: "napari-ood"}


class Measured(NamedTuple):
    seconds: float
    tiles: int
    megabytes: float

    @property
    def tiles_per_s(self) -> float:
        return self.tiles / self.seconds


def tree_megabytes(pid: int) -> float:
    """Proportional set size of a process and all its children."""
    total = 0
    try:
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            total += one.memory_full_info().pss
    except psutil.Error:  # it has just ended
        pass
    return total / 1e6


def run_once(tool: str, python: str, inputs: Path) -> Measured:
    with tempfile.TemporaryDirectory() as out:
        log = Path(out) / "log.txt"
        # WSInfer keeps its registry at home; ours keeps there what it measured once.
        home = {"HOME": out} if tool == "wsinfer" else {}
        start = time.perf_counter()
        with log.open("w") as text:
            process = subprocess.Popen(
                [python, str(HERE / f"run_{tool}.py"), str(inputs), out],
                stdout=text,
                stderr=subprocess.STDOUT,
                env={**os.environ, **home},
            )
            peak = 0.0
            while True:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(1.0)  # looking costs 20 ms of a core per GB
                    break
                peak = max(peak, tree_megabytes(process.pid))
        seconds = time.perf_counter() - start
        words = log.read_text().split()
        if process.returncode or words[-2:-1] != ["tiles"]:
            raise SystemExit(f"{tool} failed:\n{log.read_text()[-3000:]}")
        return Measured(seconds, int(words[-1]), peak)


def version(tool: str, python: str) -> str:
    code = "import sys, importlib.metadata as m; print(m.version(sys.argv[1]), m.version('torch'))"
    command = [python, "-c", code, PACKAGES.get(tool, tool)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs", type=Path)
    parser.add_argument("tools", nargs="+", help="tool=python")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    tools = {OURS: sys.executable} | dict(tool.split("=", 1) for tool in args.tools)
    results: dict[str, list[Measured]] = {tool: [] for tool in tools}
    for number in range(args.rounds):
        for tool, python in tools.items():
            measured = run_once(tool, python, args.inputs.resolve())
            results[tool].append(measured)
            print(f"round {number + 1}: {tool} {measured}", file=sys.stderr, flush=True)
    print(
        "| tool | version | torch | tiles | s | tiles/s | MB | napari-ood is faster | its memory |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    ours = results[OURS]
    for tool, rounds in results.items():
        speed = statistics.median(r.tiles_per_s for r in rounds)
        memory = statistics.median(r.megabytes for r in rounds)
        # A round's ratio is of neighbouring minutes, which the machine's drift changes least.
        faster = statistics.median(
            a.tiles_per_s / b.tiles_per_s for a, b in zip(ours, rounds, strict=True)
        )
        lighter = statistics.median(
            a.megabytes / b.megabytes for a, b in zip(ours, rounds, strict=True)
        )
        name, torch = version(tool, tools[tool]).split()
        seconds = statistics.median(r.seconds for r in rounds)
        print(
            f"| {PACKAGES.get(tool, tool)} | {name} | {torch} | {rounds[0].tiles} | {seconds:.1f} "
            f"| {speed:.1f} | {memory:.0f} | {faster:.2f} × | {lighter:.2f} × |"
        )


if __name__ == "__main__":
    main()
