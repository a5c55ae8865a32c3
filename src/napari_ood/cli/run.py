"""``napari-ood run``: a bundle on slides."""

from __future__ import annotations

import signal
import threading
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from napari_ood.cli.progress import ProgressLine
from napari_ood.cli.report import CANCELLED, complain, print_json
from napari_ood.errors import RunError

if TYPE_CHECKING:
    from napari_ood.inference import Progress, Run
    from napari_ood.models import Bundle


def run(args: Namespace) -> int:
    """Run the bundle on every slide; a slide that fails does not stop the others.

    Returns 0, the exit code of the worst failure, or 130 when cancelled.
    """
    from napari_ood import load_bundle

    outputs = output_paths(args.slides, args.out)
    bundle = load_bundle(args.model)
    codes = {0}
    with _interrupt_sets_event() as cancelled:
        for path, out in outputs.items():
            try:
                finished = _run_one(path, bundle, out, args, cancelled)
            except Exception as error:  # noqa: BLE001  the other slides still get their turn
                codes.add(_report_failure(path, error, args))
                continue
            if cancelled.is_set():
                complain(f"cancelled: kept {finished:,} tiles; run the same command to go on")
                return CANCELLED
    # An unforeseen error (1) outranks one with advice (2): somebody should look into it.
    return min(codes - {0}, default=0)


def output_paths(slides: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Return slide → ``folder/<slide name>.ood.zarr``. RunError when two slides share a name."""
    from napari_ood.slides.slide import slide_name

    outputs: dict[Path, Path] = {}
    taken: dict[str, Path] = {}
    for slide in slides:
        name = slide_name(slide.absolute())
        # Windows and macOS do not tell upper from lower case in file names.
        other = taken.setdefault(name.casefold(), slide)
        if other is not slide:
            raise RunError(
                f"{other} and {slide} would both be written to {folder / name}.ood.zarr: "
                "run them with different --out folders"
            )
        outputs[slide] = folder / f"{name}.ood.zarr"
    return outputs


def _run_one(
    path: Path, bundle: Bundle, out: Path, args: Namespace, cancelled: threading.Event
) -> int:
    """Run one slide and report it; return how many tiles its run holds."""
    from napari_ood import open_slide, run_slide

    with open_slide(path, mpp=args.mpp) as slide:
        for warning in slide.warnings:
            complain(f"{path}: {warning}")
        line = ProgressLine(slide.name)
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            run = run_slide(
                slide,
                bundle,
                out,
                region=args.region,
                device=args.device,
                on_progress=line,
                cancel=cancelled.is_set,
                batch_size=args.batch_size,
                tissue=args.tissue,
                stride=args.stride,
            )
        finally:
            line.close()
    facts = describe(path, out, run, line.latest)
    print_json(facts, indent=None) if args.json else print(_sentence(facts))
    return int(facts["n_done"])


def describe(path: Path, out: Path, run: Run, progress: Progress | None) -> dict[str, Any]:
    """Return the JSON record of a run; speeds are those of this call, not of earlier ones."""
    stages = progress.stage_seconds if progress else {}
    return {
        "run": str(out),
        "slide": str(path),
        "complete": run.complete,
        "n_tiles": run.n_tiles,
        "n_done": progress.n_done if progress else run.n_tiles,
        "tiles_per_s": round(progress.tiles_per_s, 2) if progress else 0.0,
        "seconds": round(progress.seconds, 3) if progress else 0.0,
        "device": run.provenance["device"],
        "stage_seconds": {stage: round(stages.get(stage, 0.0), 3) for stage in STAGES},
    }


STAGES = ("read", "forward", "write")


def _sentence(facts: dict[str, Any]) -> str:
    stages = ", ".join(f"{name} {s:.1f} s" for name, s in facts["stage_seconds"].items())
    return (
        f"{facts['run']}: {facts['n_done']:,} of {facts['n_tiles']:,} tiles in "
        f"{facts['seconds']:.1f} s on {facts['device']} "
        f"({facts['tiles_per_s']:.1f} tiles/s; {stages})"
    )


def _report_failure(path: Path, error: Exception, args: Namespace) -> int:
    if args.json:
        record = {"slide": str(path), "error": type(error).__name__, "message": str(error)}
        print_json(record, indent=None)
    return complain(error, args.debug)


@contextmanager
def _interrupt_sets_event() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a request that the run answers within a batch.

    A second Ctrl-C interrupts at once; what the run store already holds stays good.
    """
    event = threading.Event()

    def request(signum: int, frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    previous = signal.signal(signal.SIGINT, request)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)
