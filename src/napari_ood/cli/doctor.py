"""``napari-ood doctor``: is this installation sound?"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from napari_ood.cli.report import PROBLEM, print_json, print_table

if TYPE_CHECKING:
    from napari_ood.doctor import Finding


def doctor(args: Namespace) -> int:
    """Print what was found and what to do; 0 when the main job can be done, else 1."""
    from napari_ood.doctor import diagnose, usable

    findings = diagnose()
    sound = usable(findings)
    if args.json:
        print_json([asdict(finding) for finding in findings])
    else:
        print_table(row for finding in findings for row in _rows(finding))
        print("\nready" if sound else "\nnot ready: see the lines marked PROBLEM")
    return 0 if sound else PROBLEM


def _rows(finding: Finding) -> Iterator[tuple[str, str]]:
    mark = "" if finding.status == "ok" else f"{finding.status.upper()}: "
    yield finding.name, f"{mark}{finding.value}"
    if finding.advice:
        yield "", f"→ {finding.advice}"
