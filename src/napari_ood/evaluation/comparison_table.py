"""The tables of a comparison of methods, as markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from napari_ood.evaluation.comparison import (
    MEAN,
    PAPER,
    Interval,
    Path,
    Record,
    paired,
    summarise,
)
from napari_ood.evaluation.table import NONE, markdown

Summary = Mapping[str, Mapping[Path, Interval]]
Cell = Callable[[Interval | None], str]
SINGLE = "single"


def plain(value: Interval | None, digits: int = 3) -> str:
    """``0.912 (0.893–0.931)``; only the mean where there is one seed."""
    if value is None:
        return NONE
    return _with_range(value, lambda x: f"{x:.{digits}f}", "")


def percent(value: Interval | None) -> str:
    """``12.3 % (10.1–14.5)``."""
    if value is None:
        return NONE
    return _with_range(value, lambda x: f"{100 * x:.1f}", " %")


def signed(value: Interval | None) -> str:
    """``+0.012 (−0.003 to +0.027)``."""
    if value is None:
        return NONE
    return _with_range(value, lambda x: f"{x:+.3f}", "")


def tables(records: Mapping[str, Sequence[Record]], sets: Sequence[str]) -> str:
    """All tables of a comparison.

    Parameters
    ----------
    records : method → one record per finished seed
    sets : names of the foreign sets
    """
    done = {method: found for method, found in records.items() if found}
    summary = {method: summarise(found) for method, found in done.items()}
    columns = [*sets, MEAN] if len(sets) > 1 else list(sets)
    parts = [_in_distribution(summary)]
    if sets:
        parts += [
            _sets("## Foreign tiles: AUROC of H(p̄)", summary, columns, "entropy", "auroc", plain),
            _sets("## Foreign tiles: FPR95 of H(p̄)", summary, columns, "entropy", "fpr95", percent),
            _differences(done, MEAN if len(sets) > 1 else sets[0]),
            _sets(
                "## Foreign tiles: AUROC of the disagreement (mutual information)",
                *(summary, columns, "disagreement", "auroc", plain),
            ),
            _sets(
                "## Foreign tiles: FPR95 of the disagreement",
                *(summary, columns, "disagreement", "fpr95", percent),
            ),
        ]
    parts += [_heads(summary), _cost(summary), paper_table()]
    return "\n\n".join(part for part in parts if part)


def _in_distribution(summary: Summary) -> str:
    cells: dict[str, tuple[Path, Cell]] = {
        "accuracy": (("id", "accuracy"), plain),
        "AUROC": (("id", "auroc"), plain),
        "NLL": (("id", "nll"), plain),
        "ECE": (("id", "ece"), plain),
        "AURC": (("id", "aurc"), lambda value: plain(value, 4)),
        "NLL, calibrated": (("id", "nll_calibrated"), plain),
        "ECE, calibrated": (("id", "ece_calibrated"), plain),
    }
    return f"## In distribution\n\n{_table(summary, cells)}"


def _sets(
    title: str, summary: Summary, columns: Sequence[str], score: str, value: str, cell: Cell
) -> str:
    chosen = {
        name: of_method
        for name, of_method in summary.items()
        if (score, columns[0], value) in of_method
    }
    cells = {name: ((score, name, value), cell) for name in columns}
    return f"{title}\n\n{_table(chosen, cells)}" if chosen else ""


def _differences(records: Mapping[str, Sequence[Record]], column: str) -> str:
    """Paired differences to the single network, where a method has the same seeds."""
    reference = records.get(SINGLE, ())
    summary = {
        name: paired(found[: len(reference)], reference[: len(found)])
        for name, found in records.items()
        if name != SINGLE and reference
    }
    if not summary:
        return ""
    where = "mean over sets" if column == MEAN else column
    cells: dict[str, tuple[Path, Cell]] = {
        "accuracy": (("id", "accuracy"), signed),
        "NLL": (("id", "nll"), signed),
        f"AUROC of H(p̄), {where}": (("entropy", column, "auroc"), signed),
        f"FPR95 of H(p̄), {where}": (("entropy", column, "fpr95"), signed),
    }
    table = _table(summary, cells)
    return f"## Difference to the single network, seed by seed\n\n{table}"


def _heads(summary: Summary) -> str:
    chosen = {name: found for name, found in summary.items() if ("heads", "n") in found}
    if not chosen:
        return ""
    cells: dict[str, tuple[Path, Cell]] = {
        "heads": (("heads", "n"), lambda value: plain(value and _mean_only(value), 0)),
        "largest win share": (("heads", "largest_win_share"), plain),
        "pairwise agreement": (("heads", "agreement"), plain),
        "margin correlation": (("heads", "margin_correlation"), plain),
        "accuracy of one head": (("heads", "accuracy"), plain),
    }
    return f"## Do the heads differ? (in-distribution test tiles)\n\n{_table(chosen, cells)}"


def _whole(value: Interval | None) -> str:
    return plain(value and _mean_only(value), 0)


def _cost(summary: Summary) -> str:
    cells: dict[str, tuple[Path, Cell]] = {
        "networks": (("cost", "networks"), lambda value: plain(value and _mean_only(value), 0)),
        "training, min": (("cost", "training_minutes"), lambda value: plain(value, 1)),
        "weights, MB": (
            ("cost", "weights_mb"),
            lambda value: plain(value and _mean_only(value), 2),
        ),
        "time per tile, × single": (
            ("cost", "relative_time"),
            lambda value: plain(value and _mean_only(value), 2),
        ),
        "to answer 64 tiles, MB": (("cost", "answering_mb"), _whole),
        "to train on 64 tiles, MB": (("cost", "training_mb"), _whole),
    }
    return f"## Cost\n\n{_table(summary, cells)}"


def paper_table() -> str:
    """The paper's own numbers, in a table of their own."""
    rows = [(name, f"{a:.1f}", f"{f:.1f}") for name, (a, f) in PAPER.items()]
    return (
        "## For orientation: the paper's own numbers\n\n"
        "Linmans et al., MIDL 2020: CAMELYON16 against lymphoma, their network, data and "
        "scale; intervals of theirs overlap (M-heads' AUROC 86.3–96.5). Not comparable with the "
        "tables above.\n\n" + markdown([("method", "AUROC, %", "FPR95, %"), *rows])
    )


def _table(summary: Summary, cells: Mapping[str, tuple[Path, Cell]]) -> str:
    rows = [
        (f"`{name}`", str(_n(found)), *(cell(found.get(path)) for path, cell in cells.values()))
        for name, found in summary.items()
    ]
    return markdown([("method", "n", *cells), *rows])


def _n(found: Mapping[Path, Interval]) -> int:
    return max((value.n for value in found.values()), default=0)


def _mean_only(value: Interval) -> Interval:
    """Without interval: what is the same for all seeds has none."""
    return Interval(value.mean, None, None, value.n)


def _with_range(value: Interval, write: Callable[[float], str], unit: str) -> str:
    def text(x: float) -> str:
        return write(x).replace("-", "−")

    if value.low is None or value.high is None:
        return text(value.mean) + unit
    low, high = text(value.low), text(value.high)
    # A dash between signed numbers would look like another sign.
    between = " to " if low[0] in "+−" else "–"
    return f"{text(value.mean)}{unit} ({low}{between}{high})"


def as_json(records: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
    """Every number per seed, and the summary by dotted path, for compare.json."""
    return {
        method: {
            "per_seed": list(found),
            "summary": {
                ".".join(path): {
                    "mean": value.mean,
                    "ci95": None if value.low is None else [value.low, value.high],
                    "n": value.n,
                }
                for path, value in summarise(found).items()
                if path != ("seed",)
            },
        }
        for method, found in records.items()
    }
