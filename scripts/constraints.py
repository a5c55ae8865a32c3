"""Print the exact versions of everything that ``napari-ood[all]`` and the dev group need.

Reads what is installed in this environment, so the environment is the one that passed the tests.
Packages that only other platforms need (e.g. colorama) stay free.
"""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HEADER = """\
# The versions that CI tests with. Written by `make constraints`; used by `make setup`.
# Users need none of this: pyproject.toml holds the lower bounds.
"""


def closure(requirements: list[Requirement]) -> dict[str, str]:
    """Name → version of the requirements and all they require here, extras followed."""
    versions: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    while requirements:
        wanted = requirements.pop()
        key = (canonicalize_name(wanted.name), frozenset(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            found = distribution(wanted.name)
        except PackageNotFoundError:
            print(f"not installed, left out: {wanted}", file=sys.stderr)
            continue
        versions[key[0]] = found.version
        requirements += [
            child
            for child in map(Requirement, found.requires or [])
            if _applies(child, wanted.extras)
        ]
    return versions


def _applies(requirement: Requirement, extras: set[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": e}) for e in [*extras, ""])


def main() -> None:
    """Write the constraints to stdout."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    roots = ["napari-ood[all]", *project["dependency-groups"]["dev"]]
    versions = closure([Requirement(text) for text in roots])
    for name in ("napari-ood", "pip"):  # pip is what installs, not what is installed
        versions.pop(name, None)
    print(HEADER, *(f"{name}=={versions[name]}\n" for name in sorted(versions)), sep="", end="")


if __name__ == "__main__":
    main()
