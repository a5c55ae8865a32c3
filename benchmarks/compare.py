"""Compare single network, MC-dropout, ensemble and M-heads on PatchCamelyon (Linmans et al. 2020).

    python benchmarks/compare.py --out FOLDER [--data ../shared/data] [--seeds 3] [-- MORE OPTIONS]

Runs ``napari-ood compare`` with small networks that two CPU cores can train. The same command again
goes on where it stopped. What follows ``--`` is given to ``napari-ood compare`` and overrides.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from pathlib import Path

from napari_ood.cli import main as napari_ood

REPO = Path(__file__).resolve().parents[1]
METHODS = "single,mcdropout,mheads:wta_batch,mheads:mean,mheads:wta_sample,mheads:annealed,ensemble"
SETS = (
    "he-cmu1",
    "he-colon-kather",
    "ihc-colon",
    "pen-coverslip",
    "natural",
    "dsb2018-cytology",
)
SETTINGS = {
    "--arch": "timm:regnetx_002",
    "--precision": "bf16",
    "--crop": "64",
    "--epochs": "4",
    "--members": "10",
    "--samples": "20",
    "--head-depth": "2",
    "--tile": "96",
    "--mpp": "0.97",
}


def main() -> int:
    """Write the lists of foreign tiles, then compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=REPO.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", default=METHODS)
    own, more = _at_dashes(sys.argv[1:])
    options = parser.parse_args(own)
    lists = foreign_lists(options.data.resolve(), options.out / "foreign")
    command = ["compare", str(options.data / "pcam" / "labels.csv"), "--out", str(options.out)]
    command += ["--ood", *(f"{name}={path}" for name, path in lists.items())]
    command += ["--methods", options.methods, "--seeds", str(options.seeds)]
    command += [part for pair in SETTINGS.items() for part in pair]
    return napari_ood([*command, *more])


def foreign_lists(data: Path, folder: Path) -> dict[str, Path]:
    """Write one CSV per foreign set with the mpp of each image, where it is known.

    With it, images are scaled to PatchCamelyon's 0.97 µm/px, so that no method is helped by a
    difference of scale; those of unknown scale are resized as a whole. LC25000 states none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[tuple[str, str]]] = {name: [] for name in SETS}
    with (data / "ood" / "manifest.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["set"] in rows:
                rows[row["set"]].append((row["path"], row["mpp"]))
    lists = {
        name: [(data / "ood" / path, mpp) for path, mpp in found] for name, found in rows.items()
    }
    with (data / "lc25000" / "labels.csv").open(encoding="utf-8", newline="") as file:
        lists["lc25000"] = [
            (data / "lc25000" / row["path"], "")
            for row in csv.DictReader(file)
            if row["split"] == "test"
        ]
    written = {}
    for name, images in lists.items():
        written[name] = folder / f"{name}.csv"
        with written[name].open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "mpp"])
            writer.writerows((os.path.relpath(path, folder), mpp) for path, mpp in images)
    return written


def _at_dashes(arguments: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


if __name__ == "__main__":
    raise SystemExit(main())
