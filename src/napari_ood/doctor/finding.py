"""What a check of the doctor reports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    Attributes
    ----------
    name
        What was looked at, e.g. ``"OpenGL"``.
    status
        ``"ok"``; ``"note"``: works with a limit worth knowing; ``"problem"``: needs action.
    value
        What was found.
    advice
        What to do; empty where there is nothing to do.
    """

    name: str
    status: Literal["ok", "note", "problem"]
    value: str
    advice: str = ""


def usable(findings: Iterable[Finding]) -> bool:
    """Tell whether nothing stands in the way of the main job."""
    return all(finding.status != "problem" for finding in findings)
