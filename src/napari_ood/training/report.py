"""The training report: ``report.json``, ``report.md`` and figures in a folder beside the bundle."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from napari_ood.errors import TrainingError
from napari_ood.training.dataset import TileDataset
from napari_ood.training.figures import draw_heads, draw_history, draw_lr_range
from napari_ood.training.loop import Trained
from napari_ood.training.request import REPORT_JSON

REPORT_MD, HELD_OUT_CSV = "report.md", "held_out.csv"


def write_report(
    folder: Path, summary: dict[str, Any], trained: Trained, drawn: TileDataset | None = None
) -> None:
    """Write the report.

    ``drawn`` are the held-out images where nobody but the training knows which ones they are: their
    list becomes ``held_out.csv``, which ``evaluate --id`` takes.

    Raises
    ------
    TrainingError
        If the folder can't be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draw_history(folder / "history.png", trained.history)
        draw_heads(folder / "heads.png", trained.usage)
        if trained.lr_range is not None:
            draw_lr_range(folder / "lr_range.png", trained.lr_range)
        text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False)
        (folder / REPORT_JSON).write_text(text + "\n", "utf-8")
        (folder / REPORT_MD).write_text(_markdown(summary), "utf-8")
        if drawn is not None:
            _write_held_out(folder / HELD_OUT_CSV, drawn)
    except OSError as error:
        raise TrainingError(f"the report cannot be written to {folder}: {error}") from error


def read_report(folder: Path) -> dict[str, Any]:
    """Return the summary of a report. Raises TrainingError."""
    try:
        summary: dict[str, Any] = json.loads((folder / REPORT_JSON).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{folder / REPORT_JSON} cannot be read: {error}") from error
    return summary


def _write_held_out(file: Path, held: TileDataset) -> None:
    """Paths, labels and other columns of held-out images, as the split ``valid``."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label", "split", *held.columns])
        others = zip(*held.columns.values(), strict=True) if held.columns else [()] * len(held)
        for path, label, rest in zip(held.paths, held.labels.tolist(), others, strict=True):
            writer.writerow([path.resolve(), held.classes[label], "valid", *rest])


def _markdown(summary: dict[str, Any]) -> str:
    held, config, usage = summary["held_out"], summary["config"], summary["usage"]
    parts = [
        f"# Training of {summary['name']}",
        f"{config['architecture']}, {config['n_heads']} heads "
        f"({config['head_blocks']} units of the trunk each), loss `{config['loss']}`, seed "
        f"{config['seed']}; start: {summary['init']}. {summary['seconds']:.0f} s on "
        f"{summary['device']} ({summary['precision']}).",
        *[f"**Note.** {warning}" for warning in summary["warnings"]],
        "## Held-out tiles",
        _table(
            ("tiles", "accuracy", "AUROC", "NLL", "ECE", "temperature"),
            [(held["n"], held["accuracy"], held["auroc"], held["nll"], held["ece"],
              summary["temperature"])],
        ),
        "NLL and ECE are of the calibrated mean over heads. These tiles chose the epoch and the "
        "temperature, so the numbers are somewhat too good; use `napari-ood evaluate` on others.",
        "## Epochs",
        "Before calibration (temperature 1). With several heads the temperature changes how much "
        "each one weighs in their mean, so calibrated accuracy can differ from these.",
        "![](history.png)",
        _table(
            ("epoch", "stage", "loss", "held-out NLL", "accuracy", "learning rate"),
            [(r["epoch"] + 1, r["stage"], r["train_loss"], r["nll"], r["accuracy"],
              f"{r['learning_rate']:.1e}") for r in summary["history"]],
        ),
    ]  # fmt: skip
    if summary["lr_range"] is not None:
        parts += [
            f"## Learning rate range test: {summary['learning_rate']:g}",
            "![](lr_range.png)",
        ]
    rows = zip(usage["win_share"], usage["accuracy"], usage["nll"], strict=True)
    parts += [
        "## Heads",
        "![](heads.png)",
        _table(
            ("head", "win share", "accuracy", "NLL"),
            [(m, *values) for m, values in enumerate(rows)],
        ),
        "## Data",
        _counts(summary["data"]),
        "sha256 of the lists of files: "
        + ", ".join(f"{k} `{v}`" for k, v in summary["data"]["files_sha256"].items()),
    ]
    return "\n\n".join(parts) + "\n"


def _counts(data: dict[str, Any]) -> str:
    sides = ("train", "held_out")
    rows = [(name, *(data[side].get(name, 0) for side in sides)) for name in data["train"]]
    return _table(("class", "training tiles", "held-out tiles"), rows)


def _table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [header, ("---",) * len(header), *[tuple(map(_cell, row)) for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value).replace("|", "\\|")
