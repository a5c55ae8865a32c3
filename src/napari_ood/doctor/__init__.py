"""Examine an installation: what is there, what is missing, and what to do about it."""

from __future__ import annotations

from napari_ood.doctor.finding import Finding, usable

__all__ = ["Finding", "diagnose", "usable"]


def diagnose() -> list[Finding]:
    """Run every check; takes a few seconds, opens no window, changes nothing.

    Returns
    -------
    list of Finding
        In the order in which they should be read. A check that breaks is itself a finding.
    """
    from napari_ood.doctor.checks import CHECKS

    findings: list[Finding] = []
    for check in CHECKS:
        try:
            findings.extend(check())
        except Exception as error:  # noqa: BLE001  whatever is broken here is what we look for
            findings.append(
                Finding(
                    check.__name__.replace("_", " "),
                    "problem",
                    f"{type(error).__name__}: {error}",
                    "reinstall with: pip install --force-reinstall 'napari-ood[all]'",
                )
            )
    return findings
