"""``napari-ood compare``: methods against each other on the same tiles."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from napari_ood.cli.interrupt import interrupt_sets_event
from napari_ood.cli.progress import StatusLine, clock
from napari_ood.cli.report import CANCELLED, complain
from napari_ood.errors import OodError, TrainingCancelled

if TYPE_CHECKING:
    from napari_ood.training.compare import ComparisonProgress, ComparisonRequest


def compare(args: Namespace) -> int:
    """Compare methods and print the tables; 0, or 130 when cancelled."""
    from napari_ood.evaluation.figures import require_matplotlib
    from napari_ood.training.compare import NETWORKS, compare_methods

    request = request_of(args)
    require_matplotlib()  # now, not after hours of training
    with interrupt_sets_event() as cancelled, StatusLine() as line:
        try:
            comparison = compare_methods(
                request, lambda progress: line.show(describe(progress)), cancelled, complain
            )
        except TrainingCancelled:
            kept = request.out / NETWORKS
            complain(f"cancelled; what is trained is in {kept}: the same command goes on")
            return CANCELLED
    print(comparison.text, end="", flush=True)
    for path in comparison.files:
        complain(f"wrote {path}")
    return 0


def request_of(args: Namespace) -> ComparisonRequest:
    """Turn arguments into a request. OodError where a name is given twice."""
    from napari_ood.training import TrainConfig
    from napari_ood.training.compare import ComparisonRequest

    ood = dict(args.ood)
    if len(ood) < len(args.ood):
        raise OodError("--ood gives two sets the same name: give each a name of its own")
    config = TrainConfig(
        architecture=args.arch,
        head_blocks=args.head_depth,
        loss=args.loss,
        epsilon=args.epsilon,
        epochs=args.epochs,
        batch_size=args.batch_size,
        learning_rate=args.lr,
        crop=args.crop,
        augment_kind=args.augment,
        precision=args.precision,
        device=args.device,
    )
    return ComparisonRequest(
        data=args.data,
        ood=ood,
        out=args.out,
        methods=tuple(name.strip() for name in args.methods.split(",") if name.strip()),
        config=config,
        seeds=args.seeds,
        members=args.members,
        samples=args.samples,
        dropout=args.dropout,
        tile=args.tile,
        mpp=args.mpp,
        group=args.group,
    )


def describe(progress: ComparisonProgress) -> str:
    """Return e.g. ``network 5/36, ensemble 4 of seed 0: epoch 2/4, loss 0.41, …, 1:10:02 left``."""
    training = progress.training
    member = f" {progress.member + 1}" if progress.method == "ensemble" else ""
    text = (
        f"network {progress.network}/{progress.n_networks}, {progress.method}{member} of seed "
        f"{progress.seed}: epoch {training.epoch}/{training.n_epochs}, loss {training.loss:.3f}, "
        f"accuracy {training.accuracy:.3f}"
    )
    if progress.seconds_left is not None:
        text += f", {clock(progress.seconds_left)} left for all"
    return text
