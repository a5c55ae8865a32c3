"""Whether a network is slower in a worker thread than in the main thread, and why.

    python benchmarks/worker_thread.py [--rounds 5] [--seconds 2]

The same batches, forward only, in turn. All cores on one batch, as torch does by itself: in the
main thread; in one thread that stays; in a new thread for each batch, as a plugin does that starts
a worker per click; and in one thread while the main thread does what a window's does: nothing,
painting in bursts (Python work of 20 ms, 15 times per second), or Python work without a pause, the
latter with Python's switch interval of 5 ms and with 0.5 ms. Then in the engine's lanes, one core
per batch. Rounds alternate the ways; rates are relative to the main thread's in the same round.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial

import numpy as np

from napari_ood import load_bundle
from napari_ood.inference.network import Network

BATCH, BURST_S, FRAME_S = 16, 0.02, 1 / 15
SWITCH_S = 0.0005
Way = Callable[[Callable[[], None], float], float]


def in_main(step: Callable[[], None], seconds: float) -> float:
    """Batches per second; the other ways return the same."""
    n, began = 0, time.perf_counter()
    while time.perf_counter() < began + seconds:
        step()
        n += 1
    return n / (time.perf_counter() - began)


def in_thread(
    step: Callable[[], None], seconds: float, meanwhile: Callable[[], None], pause: float
) -> float:
    done: list[float] = []
    thread = threading.Thread(target=lambda: done.append(in_main(step, seconds)))
    thread.start()
    while thread.is_alive():
        meanwhile()
        thread.join(pause)
    return done[0]


def in_new_threads(step: Callable[[], None], seconds: float) -> float:
    def one() -> None:
        thread = threading.Thread(target=step)
        thread.start()
        thread.join()

    return in_main(one, seconds)


def busy() -> None:
    """Hold the interpreter for a moment, as painting and layout do."""
    end = time.perf_counter() + BURST_S
    while time.perf_counter() < end:
        sum(range(100))


def switching(step: Callable[[], None], seconds: float, way: Way) -> float:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        return way(step, seconds)
    finally:
        sys.setswitchinterval(before)


FIRST = "main thread"
waits: Way = partial(in_thread, meanwhile=lambda: None, pause=FRAME_S)
paints: Way = partial(in_thread, meanwhile=busy, pause=FRAME_S)
never_pauses: Way = partial(in_thread, meanwhile=busy, pause=0.0)
TOGETHER: dict[str, Way] = {
    FIRST: in_main,
    "one thread, main thread waits": waits,
    "a new thread per batch": in_new_threads,
    "one thread, main thread paints": paints,
    "one thread, main thread never pauses": never_pauses,
    "the same, switch interval 0.5 ms": partial(switching, way=never_pauses),
}
IN_LANES: dict[str, Way] = {
    "lanes, main thread waits": waits,
    "lanes, main thread paints": paints,
    "lanes, main thread paints, switch interval 0.5 ms": partial(switching, way=paints),
    "lanes, main thread never pauses": never_pauses,
    "lanes, never pauses, switch interval 0.5 ms": partial(switching, way=never_pauses),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--bundles", nargs="+", default=["synthetic-he", "lymph-node-he"])
    args = parser.parse_args()
    table = {name: measure(name, args.rounds, args.seconds) for name in args.bundles}
    print(f"| forward, batches of {BATCH} | {' | '.join(table)} |\n|---|{'---:|' * len(table)}")
    for way in (*TOGETHER, *IN_LANES):
        print(f"| {way} | {' | '.join(f'{rates[way]:.2f}' for rates in table.values())} |")


def measure(name: str, rounds: int, seconds: float) -> dict[str, float]:
    import torch

    bundle = load_bundle(name)
    network, size = Network(bundle, "cpu", BATCH), bundle.card.tile_size
    tiles = np.random.default_rng(0).integers(0, 255, (BATCH, size, size, 3), np.uint8)
    net = bundle.network("cpu")
    net.activate_in_place()  # as the engine's own
    begun: deque[Callable[[], object]] = deque()

    def together() -> None:
        with torch.inference_mode():
            net(torch.from_numpy(tiles))

    def in_lanes() -> None:
        begun.append(network.begin(tiles))
        if len(begun) > network.n_ahead:
            begun.popleft()()

    together()
    in_lanes()
    found: dict[str, list[float]] = {way: [] for way in (*TOGETHER, *IN_LANES)}
    for _ in range(rounds):
        rates = {way: run(together, seconds) for way, run in TOGETHER.items()}
        rates |= {way: run(in_lanes, seconds) for way, run in IN_LANES.items()}
        for way, rate in rates.items():
            found[way].append(rate / rates[FIRST])
    network.close()
    return {way: statistics.median(rates) for way, rates in found.items()}


if __name__ == "__main__":
    main()
