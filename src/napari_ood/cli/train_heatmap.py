"""``napari-ood train-heatmap``: maps finer than a tile for a bundle."""

from __future__ import annotations

from argparse import Namespace
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_ood.cli.interrupt import interrupt_sets_event
from napari_ood.cli.progress import StatusLine, clock
from napari_ood.cli.report import CANCELLED, check_folder, complain, write_record
from napari_ood.errors import TrainingCancelled

if TYPE_CHECKING:
    from napari_ood.training.heatmap import HeatmapProgress


def train_heatmap(args: Namespace) -> int:
    """Add places and decoder to a bundle; 0, or 130 when cancelled."""
    from napari_ood.models import load_bundle
    from napari_ood.training.heatmap import HeatmapConfig
    from napari_ood.training.heatmap_make import HeatmapRequest, add_heatmap

    check_folder(args.json)
    request = HeatmapRequest(
        bundle=load_bundle(args.bundle),
        id=args.id,
        ood=args.ood,
        out=args.out,
        config=HeatmapConfig(
            epochs=args.epochs,
            n_tiles=args.tiles,
            weight_by=args.weight_by,
            seed=args.seed,
            device=args.device,
        ),
        held_out=args.held_out,
        locations_only=args.locations_only,
    )
    with interrupt_sets_event() as cancelled, StatusLine() as line:
        try:
            made = add_heatmap(
                request,
                partial(show, line),
                lambda text: line.keep(f"napari-ood: {text}"),
                cancelled,
            )
        except TrainingCancelled as error:
            complain(str(error))
            return CANCELLED
    if not write_record(made.summary, args.json):
        print(sentence(made.summary), flush=True)
    return 0


def show(line: StatusLine, progress: HeatmapProgress) -> None:
    """Show where the work is, and keep a line for each epoch."""
    if progress.stage != "decoder":
        what = "places" if progress.stage == "places" else "trunk"
        line.show(f"{what}: {progress.done:,}/{progress.total:,} tiles")
        return
    epoch = f"epoch {progress.epoch}/{progress.n_epochs}"
    if progress.held_out is None:
        line.show(f"{epoch}: {progress.done}/{progress.total} batches, loss {progress.loss:.5f}")
    else:
        line.keep(f"{epoch}: loss {progress.loss:.5f}, held-out loss {progress.held_out:.5f}")


def sentence(summary: dict[str, Any]) -> str:
    """What was made, and how to measure it."""
    sizes = ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in summary["bytes"].items())
    scores = "locations" if summary["heatmap"] is None else "heatmap,locations"
    return (
        f"{summary['bundle']}: {sizes}, from {summary['id']['train']:,} in-distribution tiles "
        f"({summary['id']['held_out']:,} held out), after {clock(summary['seconds'])} on "
        f"{summary['device']}\n"
        f"measure: napari-ood evaluate {summary['bundle']} --id DATA --ood NAME=DATA "
        f"--scores {scores}"
    )
