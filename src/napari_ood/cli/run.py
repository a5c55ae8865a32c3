"""``napari-ood run``: a bundle on slides."""

from __future__ import annotations

import threading
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ood.cli.interrupt import interrupt_sets_event
from napari_ood.cli.judgement import judge, judgement_text
from napari_ood.cli.progress import StatusLine
from napari_ood.cli.report import CANCELLED, complain, print_json
from napari_ood.cli.run_facts import bytes_text, stored
from napari_ood.errors import RunError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_ood.inference import Run
    from napari_ood.models import Bundle
    from napari_ood.slides import Slide, TileGrid

STAGES = ("read", "forward", "write")


def run(args: Namespace) -> int:
    """Run the bundle on every slide; a slide that fails does not stop the others.

    Returns 0, the exit code of the worst failure, or 130 when cancelled.
    """
    from napari_ood import load_bundle
    from napari_ood.inference.outputs import output_paths

    if args.roi is not None and len(args.slides) > 1:
        raise RunError("--roi is of one slide: run slides with outlines one by one")
    outputs = output_paths(args.slides, args.out)
    bundle = load_bundle(args.model)
    codes = {0}
    with interrupt_sets_event() as cancelled:
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


def _run_one(
    path: Path, bundle: Bundle, out: Path, args: Namespace, cancelled: threading.Event
) -> int:
    """Run one slide and report it; return how many tiles its run holds."""
    from napari_ood import open_slide, run_slide

    with open_slide(path, mpp=args.mpp) as slide:
        _warn(slide, bundle)
        n_before = _n_sessions(out)
        with StatusLine() as line:
            run = run_slide(
                slide,
                bundle,
                out,
                region=args.region,
                device=args.device,
                on_progress=partial(line.show_run, slide.name),
                cancel=cancelled.is_set,
                batch_size=args.batch_size,
                tissue=args.tissue,
                stride=args.stride,
                roi=_outlines(slide, args),
                precision=args.precision,
                features=args.features,
            )
    if not run.tissue.any():
        from napari_ood.inference.plan import NO_TISSUE

        complain(f"{path}: {NO_TISSUE}")
    facts = describe(path, out, run, n_before)
    if bundle.card.whole_image and run.n_tiles:
        facts["image"] = judge(run)
    if args.json:
        print_json(facts, indent=None)
    else:
        print(_sentence(facts), flush=True)
    return run.n_tiles


def _outlines(slide: Slide, args: Namespace) -> Callable[[TileGrid], NDArray[np.bool_]] | None:
    """What ``--roi`` names: which tiles may be run."""
    if args.roi is None:
        return None
    from napari_ood.export import roi_for_slide

    return roi_for_slide(args.roi, slide, args.classes, args.crop)


def _warn(slide: Slide, bundle: Bundle) -> None:
    """Tell before the run what limits it. SlideError when slide and bundle cannot match."""
    from napari_ood.inference import check_slide
    from napari_ood.inference.plan import warnings_for

    scale = check_slide(slide, bundle.card)
    for warning in (
        *warnings_for(slide, bundle.card),
        *bundle.card.warnings,
        *([scale] if scale else []),
    ):
        complain(f"{slide.path}: {warning}")


def _n_sessions(out: Path) -> int:
    from napari_ood import open_run

    return len(open_run(out).provenance["sessions"]) if out.exists() else 0


def describe(path: Path, out: Path, run: Run, n_before: int = 0) -> dict[str, Any]:
    """Return the JSON record of a run.

    ``n_tiles`` and ``n_total`` count the whole run; ``n_new``, times and speed are of this call
    alone, that is of the session after the first ``n_before``; zero where nothing was left to do.
    """
    sessions = run.provenance["sessions"]
    latest = sessions[-1] if len(sessions) > n_before else {}
    stages = latest.get("stage_seconds", {})
    return {
        "run": str(out),
        "slide": str(path),
        "complete": run.complete,
        "n_tiles": run.n_tiles,
        "n_total": int(run.tissue.sum()),
        "n_new": latest.get("n_tiles", 0),
        "tiles_per_s": round(latest.get("tiles_per_s", 0.0), 2),
        "seconds": round(latest.get("seconds", 0.0), 3),
        "device": sessions[-1]["device"] if sessions else None,
        **run.arithmetic.to_dict(),
        **stored(run),
        "stage_seconds": {stage: round(stages.get(stage, 0.0), 3) for stage in STAGES},
    }


def _sentence(facts: dict[str, Any]) -> str:
    if "image" in facts:
        lines = judgement_text(facts["image"]).splitlines()
        return "\n  ".join([f"{facts['run']}: {facts['slide']} as one image", *lines])
    tiles = f"{facts['run']}: {facts['n_tiles']:,} of {facts['n_total']:,} tiles"
    if not facts["n_new"]:
        return f"{tiles}, nothing was left to do" if facts["complete"] else tiles
    stages = ", ".join(f"{name} {s:.1f} s" for name, s in facts["stage_seconds"].items())
    return (
        f"{tiles}, {facts['n_new']:,} of them now in {facts['seconds']:.1f} s on "
        f"{facts['device']} in {facts['precision']} ({facts['tiles_per_s']:.1f} tiles/s; "
        f"{stages}); {bytes_text(facts['bytes_per_tile'])}"
    )


def _report_failure(path: Path, error: Exception, args: Namespace) -> int:
    if args.json:
        record = {"slide": str(path), "error": type(error).__name__, "message": str(error)}
        print_json(record, indent=None)
    return complain(error, args.debug)
