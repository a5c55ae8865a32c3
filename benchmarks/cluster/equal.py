"""Compare two folders of runs bit for bit: FOLDER FOLDER. Ends with 1 where they differ."""

from __future__ import annotations

import sys
from pathlib import Path

import zarr


def main() -> int:
    one, other = map(Path, sys.argv[1:3])
    runs = sorted(one.glob("*.ood.zarr"))
    differing = 0
    for run in runs:
        a, b = (zarr.open_group(path, mode="r") for path in (run, other / run.name))
        for name in sorted(a.array_keys()):
            same = a[name][...].tobytes() == b[name][...].tobytes()
            differing += not same
            print(f"{run.name} {name} {a[name].shape}: {'equal' if same else 'DIFFERENT'}")
    return int(bool(differing) or not runs)


if __name__ == "__main__":
    sys.exit(main())
