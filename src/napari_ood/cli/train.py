"""``napari-ood train``: a bundle from folders of tiles."""

from __future__ import annotations

import json
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ood.cli.interrupt import interrupt_sets_event
from napari_ood.cli.progress import StatusLine, clock
from napari_ood.cli.report import CANCELLED, STDOUT, complain
from napari_ood.errors import TrainingCancelled, TrainingError

if TYPE_CHECKING:
    from napari_ood.training import TrainConfig, TrainProgress

HEAD_EPOCHS, LAYER_DECAY = 2, 0.8
"""With weights to start from: epochs for the heads alone, and the rate of a trunk unit relative to
the one after it."""

PATIENCE = 10


def train(args: Namespace) -> int:
    """Train a bundle; 0, or 130 when cancelled."""
    from napari_ood.training.make import make_bundle
    from napari_ood.training.request import Request

    request = Request(
        data=args.data,
        out=args.out,
        config=config(args),
        tile=args.tile,
        mpp=args.mpp,
        held_out=args.held_out,
        init=args.init,
        name=args.name,
        thumbnails=args.thumbnails,
        bf16=args.bf16,
    )
    if args.json not in (None, STDOUT) and not args.json.absolute().parent.is_dir():
        raise TrainingError(f"--json {args.json}: its folder does not exist")
    with interrupt_sets_event() as cancelled, StatusLine() as line:
        try:
            made = make_bundle(
                request, partial(show, line), partial(note, line), cancelled, args.resume
            )
        except TrainingCancelled:
            return _say_cancelled(line, request.report)
    if args.json == STDOUT:
        print(_as_json(made.summary), flush=True)
        return 0
    if args.json is not None:
        _write_json(args.json, made.summary)
    print(sentence(made.summary), flush=True)
    return 0


def config(args: Namespace) -> TrainConfig:
    """Settings of a training by its arguments.

    Weights to start from are treated with care: first the heads alone, then all layers in cycles
    that double, the trunk's first units at lower rates.
    """
    from napari_ood.training import TrainConfig, sgdr_cycles

    begun = args.init is not None
    return TrainConfig(
        architecture=args.arch,
        pretrained=args.init == "timm",
        n_heads=args.heads,
        head_blocks=args.head_depth,
        loss=args.loss,
        epsilon=args.epsilon,
        balance="dynamic",
        head_epochs=HEAD_EPOCHS if begun else 0,
        epochs=args.epochs,
        cycles=sgdr_cycles(args.epochs) if begun else 1,
        layer_decay=LAYER_DECAY if begun else 1.0,
        batch_size=args.batch_size,
        learning_rate=args.lr,
        patience=PATIENCE,
        augment_kind=args.augment,
        seed=args.seed,
        precision=args.precision,
        device=args.device,
    )


def show(line: StatusLine, progress: TrainProgress) -> None:
    """Show where a training is, and keep a line for each epoch."""
    record = progress.record
    epoch = f"epoch {progress.epoch}/{progress.n_epochs}"
    stage = ", heads only" if progress.stage == "heads" else ""
    if record is not None:
        line.keep(
            f"{epoch}{stage}: loss {record.train_loss:.4f}, held-out NLL {record.nll:.4f}, "
            f"accuracy {record.accuracy:.4f}, {clock(record.seconds)}"
        )
        return
    left = "" if progress.seconds_left is None else f", {clock(progress.seconds_left)} left"
    line.show(
        f"{epoch}{stage}: {progress.step}/{progress.n_steps} batches, loss {progress.loss:.4f}, "
        f"accuracy {progress.accuracy:.4f}{left}"
    )


def note(line: StatusLine, text: str) -> None:
    """Tell what the user should know."""
    line.keep(f"napari-ood: {text}")


def sentence(summary: dict[str, Any]) -> str:
    """What was made, what its heads do, and how to measure on the tiles that were held out."""
    held, usage = summary["held_out"], summary["usage"]
    wins = sorted(usage["win_share"], reverse=True)
    agreement = usage["agreement"]
    m = len(wins)
    pairs = [agreement[i][j] for i in range(m) for j in range(i)]
    drawn = summary.get("held_out_list")
    measure = (
        f"\nheld-out tiles are listed: napari-ood evaluate {_quoted(summary['bundle'])} "
        f"--id {_quoted(drawn)}"
        if drawn
        else ""
    )
    agree = f", two heads agree on {sum(pairs) / len(pairs):.1%} of them" if pairs else ""
    return (
        f"{summary['bundle']}: calibrated held-out accuracy {held['accuracy']:.4f}, AUROC "
        f"{held['auroc']:.4f}, NLL {held['nll']:.4f}, ECE {held['ece']:.4f} on {held['n']:,} "
        f"tiles, after {clock(summary['seconds'])} on {summary['device']} "
        f"({summary['precision']}); report: {summary['report']}\n"
        f"heads: accuracy {min(usage['accuracy']):.4f} to {max(usage['accuracy']):.4f}, best on "
        f"{wins[-1]:.1%} to {wins[0]:.1%} of the held-out tiles each{agree}{measure}"
    )


def _quoted(path: str) -> str:
    return f'"{path}"' if " " in path else path


def _say_cancelled(line: StatusLine, report: Path) -> int:
    from napari_ood.training.request import CHECKPOINT

    if (report / CHECKPOINT).is_file():
        complain(
            f"cancelled: {report} keeps the last whole epoch; the same command with --resume goes "
            "on from it"
        )
    else:
        complain("cancelled before the first epoch was done: nothing is kept")
    return CANCELLED


def _as_json(summary: dict[str, Any]) -> str:
    return json.dumps(summary, indent=2, ensure_ascii=False)


def _write_json(path: Path, summary: dict[str, Any]) -> None:
    try:
        path.write_text(_as_json(summary) + "\n", "utf-8")
    except OSError as error:
        raise TrainingError(f"{path} cannot be written: {error}") from error
