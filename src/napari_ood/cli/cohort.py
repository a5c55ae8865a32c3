"""``napari-ood cohort``: a bundle on many slides, by many processes or machines."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from napari_ood.cli.interrupt import interrupt_sets_event
from napari_ood.cli.progress import StatusLine, clock
from napari_ood.cli.report import CANCELLED, USER_ERROR, check_folder, complain, write_record

if TYPE_CHECKING:
    from napari_ood.cohort import CohortProgress


def cohort(args: Namespace) -> int:
    """Run the cohort. Returns 0, 2 when slides failed, or 130 when cancelled."""
    from napari_ood import load_bundle
    from napari_ood.cohort import run_cohort

    check_folder(args.json)
    bundle = load_bundle(args.model)
    with interrupt_sets_event() as cancelled, StatusLine() as line:
        manifest = run_cohort(
            args.slides,
            bundle,
            args.out,
            workers=args.workers,
            scheduler=args.scheduler,
            retries=args.retries,
            device=args.device,
            batch_size=args.batch_size,
            tissue=args.tissue,
            stride=args.stride,
            mpp=args.mpp,
            precision=args.precision,
            features=args.features,
            on_progress=lambda progress: line.show(describe(progress)),
            on_notice=line.keep,
            cancel=cancelled,
        )
    if not write_record(manifest, args.json):
        print(sentence(manifest, str(args.out / "cohort.json")), flush=True)
    warned = [record for record in manifest["slides"] if record["warnings"]]
    if warned:
        complain(f"{warnings_text(warned)}; all are in {args.out / 'cohort.json'}")
    counts = manifest["counts"]
    if manifest["cancelled"]:
        complain("cancelled: what was computed is kept; run the same command to go on")
        return CANCELLED
    return USER_ERROR if counts["failed"] else 0


def describe(progress: CohortProgress) -> str:
    """Return e.g. ``12/40 slides, 1 failed, 8 workers, 9,131 tiles, 310.2 tiles/s, 1:24 left``."""
    parts = [f"{progress.n_done}/{progress.n_slides} slides"]
    if progress.n_failed:
        parts.append(f"{progress.n_failed} failed")
    n = progress.n_workers
    parts += [f"{n} worker{'s' * (n != 1)}", f"{progress.n_tiles:,} tiles"]
    if progress.n_tiles:
        parts.append(f"{progress.tiles_per_s:.1f} tiles/s")
    if progress.seconds_left is not None:
        parts.append(f"{clock(progress.seconds_left)} left")
    return ", ".join(parts)


def warnings_text(warned: list[dict[str, Any]]) -> str:
    """How many slides have warnings, and one of them: of a large cohort, many have the same."""
    n, first = len(warned), warned[0]
    have = "slides have warnings, such as" if n > 1 else "slide has a warning,"
    return f"{n:,} {have} {first['slide']}: {first['warnings'][0]}"


def sentence(manifest: dict[str, Any], path: str) -> str:
    """What became of it, in words."""
    counts = manifest["counts"]
    failed = f", {counts['failed']:,} failed" if counts["failed"] else ""
    if not counts["new_tiles"] and not manifest["cancelled"]:
        new = "nothing was left to do" if not failed else "no tile was new"
    else:
        new = f"{counts['new_tiles']:,} tiles now"
    return f"{path}: {counts['done']:,} of {counts['slides']:,} slides done{failed}; {new}"
