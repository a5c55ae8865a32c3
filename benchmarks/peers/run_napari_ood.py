"""napari-ood's command line on ``inputs.py``'s folder.

python run_napari_ood.py INPUTS OUT
"""

import sys
from pathlib import Path

from napari_ood import open_run
from napari_ood.cli import main

if __name__ == "__main__":
    inputs, out = map(Path, sys.argv[1:3])
    arguments = [str(inputs / "slides" / "slide.tif"), "--model", str(inputs / "bundle")]
    # Their precision, theirs alone: a choice by measurement might take a faster one.
    main(["run", *arguments, "--out", str(out), "--device", "cpu", "--precision", "fp32"])
    print("tiles", open_run(out / "slide.ood.zarr").n_tiles)
