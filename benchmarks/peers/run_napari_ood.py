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
    main(["run", *arguments, "--out", str(out), "--device", "cpu"])
    run = open_run(out / "slide.ood.zarr")
    # Their precision: what is chosen by measurement must not be a faster one.
    assert run.arithmetic.precision == "fp32"
    print(run.arithmetic, "tiles", run.n_tiles)
