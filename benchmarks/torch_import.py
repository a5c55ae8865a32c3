"""How long another thread has to wait while torch is imported: plainly, and by ``load_torch``.

    python benchmarks/torch_import.py

Each way in a process of its own, several times. A thread that wants to run every 5 ms stands for
the window's event loop.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from statistics import median

BEAT_S = 0.005


def measure(way: str) -> dict[str, float]:
    gaps: list[float] = []
    done = threading.Event()

    def beat() -> None:
        last = time.perf_counter()
        while not done.is_set():
            time.sleep(BEAT_S)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    def load() -> None:
        if way == "plain":
            import timm  # noqa: F401
            import torch  # noqa: F401
            import torchvision  # noqa: F401
        else:
            from napari_ood.torch_import import load_torch

            load_torch()
        time.sleep(0.3)  # the collector comes afterwards
        junk = [[i] for i in range(20_000)]
        del junk

    watch, work = threading.Thread(target=beat), threading.Thread(target=load)
    watch.start()
    started = time.perf_counter()
    work.start()
    work.join()
    seconds = time.perf_counter() - started
    done.set()
    watch.join()
    over = [gap for gap in gaps if gap > 0.1]
    return {"worst_ms": max(gaps) * 1e3, "over_100_ms": len(over), "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--way", choices=("plain", "load_torch"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        print(json.dumps(measure(args.way)))
        return
    found: dict[str, list[dict[str, float]]] = {"plain": [], "load_torch": []}
    for _ in range(args.repeats):
        for way, outcomes in found.items():
            command = [sys.executable, __file__, "--way", way]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            outcomes.append(json.loads(out.splitlines()[-1]))
    print("| import | worst gap, ms (median, max) | gaps over 100 ms (max) | seconds |")
    print("|---|---|---|---|")
    for way, outcomes in found.items():
        worst = [o["worst_ms"] for o in outcomes]
        over = max(o["over_100_ms"] for o in outcomes)
        seconds = median(o["seconds"] for o in outcomes)
        print(f"| {way} | {median(worst):.0f}, {max(worst):.0f} | {over:.0f} | {seconds:.1f} |")


if __name__ == "__main__":
    main()
