"""``napari-ood evaluate``: how good a bundle is, and what it finds foreign."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_ood.cli.progress import StatusLine
from napari_ood.cli.report import STDOUT, check_folder, complain
from napari_ood.errors import OodError

if TYPE_CHECKING:
    from napari_ood.evaluation import Evaluation


def evaluate(args: Namespace) -> int:
    """Evaluate a bundle; print tables, and write JSON and figures where they are asked for."""
    from napari_ood.evaluation import evaluate as measure

    _check_outputs(args)
    with StatusLine() as line:

        def on_tiles(name: str, done: int, total: int) -> None:
            line.show(f"{name}: {done:,}/{total:,} tiles", last=done == total)

        evaluation = measure(
            args.bundle,
            args.id,
            _unique("--ood", args.ood),
            args.scores,
            args.bootstrap,
            args.group,
            split=args.split,
            mpp=_mpp(args.mpp),
            controls=args.controls,
            contrast=args.contrast,
            device=args.device,
            batch_size=args.batch_size,
            seed=args.seed,
            on_tiles=on_tiles,
        )
    for note in evaluation.notes:
        complain(note)
    record = json.dumps(evaluation.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
    if args.json == STDOUT:
        print(record, flush=True)
    else:
        print("\n".join(summary(evaluation, _named(evaluation, args))))
        if args.json is not None:
            with _told(args.json):
                args.json.write_text(record + "\n", "utf-8")
    if args.figures is not None:
        from napari_ood.evaluation.figures import write_figures

        with _told(args.figures):
            written = write_figures(evaluation, args.figures)
        for path in written:
            complain(f"wrote {path}")
    _tell_the_rest(evaluation, args)
    return 0


def summary(evaluation: Evaluation, named: Sequence[str] = ()) -> list[str]:
    """Lines to read: quality in distribution, a table per default score and per one asked for."""
    from napari_ood.evaluation.table import aligned, number, set_table, share

    quality = evaluation.quality
    lines = [f"{evaluation.bundle}, in distribution: {quality.n:,} tiles"]
    if quality.n_labelled:
        lines[0] += (
            f", accuracy {number(quality.accuracy)}, AUROC {number(quality.auroc)}, "
            f"ECE {number(quality.ece)}, NLL {number(quality.nll)}"
        )
    else:
        lines[0] += ", unlabelled, so without accuracy"
    for role, score in evaluation.default_scores.items():
        if score not in evaluation.id_scores:
            continue
        flagged = {name: shares[role] for name, shares in evaluation.flagged.items()}
        lines += ["", f"{role}: {score} (flags {share(flagged['id'])} in distribution)"]
        if evaluation.rows:
            lines += [f"  {line}" for line in aligned(set_table(evaluation.rows, score, flagged))]
    for score in named:
        flagged = {name: shares.get(score) for name, shares in evaluation.flagged.items()}
        lines += ["", f"{score} (flags {share(flagged['id'])} in distribution)"]
        lines += [f"  {line}" for line in aligned(set_table(evaluation.rows, score, flagged))]
    if evaluation.rows:
        lines += [
            "",
            "AUROC: 0.5 is chance, 1 is perfect. FPR95: share of foreign tiles kept when 95 % of",
            "in-distribution tiles are kept. flagged: share above the bundle's own threshold.",
        ]
    return lines


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn a full disk or a missing permission into an error with the file's name."""
    try:
        yield
    except OSError as error:
        raise OodError(f"{path} cannot be written: {error.strerror or error}") from error


def _check_outputs(args: Namespace) -> None:
    """Fail before the network runs, not after."""
    check_folder(args.json)
    if args.figures is not None:
        if args.figures.exists() and not args.figures.is_dir():
            raise OodError(f"{args.figures} is no folder: --figures wants one")
        from napari_ood.evaluation.figures import require_matplotlib

        require_matplotlib()


def _unique(option: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise OodError(f"{option} names {name!r} twice: give each set a name of its own")
        found[name] = value
    return found


def _mpp(pairs: list[tuple[str, float]]) -> float | dict[str, float] | None:
    """``--mpp 0.5`` is for all sets, ``--mpp NAME=0.5`` for one."""
    by_name = _unique("--mpp", pairs)
    if "" not in by_name:
        return by_name or None
    if len(by_name) > 1:
        raise OodError("give --mpp either once for all sets, or as NAME=UM for each")
    return float(by_name[""])


def _named(evaluation: Evaluation, args: Namespace) -> list[str]:
    """Scores that were asked for by name and are not the bundle's own."""
    if args.scores in ("default", "all"):
        return []
    defaults = set(evaluation.default_scores.values())
    return [score for score in evaluation.id_scores if score not in defaults]


def _tell_the_rest(evaluation: Evaluation, args: Namespace) -> None:
    shown = {*evaluation.default_scores.values(), *_named(evaluation, args)}
    others = len(set(evaluation.id_scores) - shown)
    if args.json is None:
        more = f"{others} more scores, " if others else ""
        complain(f"{more}AURC and AUGRC are in --json FILE; --scores all measures all")
    elif args.json != STDOUT:
        complain(f"wrote {args.json}")
