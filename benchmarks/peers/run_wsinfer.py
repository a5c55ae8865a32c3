"""WSInfer's command line on ``inputs.py``'s folder; run in WSInfer's environment.

    python run_wsinfer.py INPUTS OUT

Its ``run`` asks a registry on the internet for the names of its models before it looks at its
arguments: here it gets an empty one.
"""

import json
import sys
from pathlib import Path

inputs, out = map(Path, sys.argv[1:3])

import wsinfer_zoo.client  # noqa: E402


def empty_registry(**_: object) -> str:
    path = wsinfer_zoo.client.WSINFER_ZOO_REGISTRY_DEFAULT_PATH
    path.write_text(json.dumps({"models": {}}))
    return str(path)


wsinfer_zoo.client.hf_hub_download = empty_registry

from wsinfer.cli.cli import cli  # noqa: E402

if __name__ == "__main__":
    # Batch size and workers are its defaults on two cores.
    slides, model, config = inputs / "slides", inputs / "torchscript.pt", inputs / "config.json"
    folders = ["--wsi-dir", str(slides), "--results-dir", str(out)]
    files = ["--config", str(config), "--model-path", str(model)]
    cli(["run", *folders, *files], standalone_mode=False)
    table = out / "model-outputs-csv" / "slide.csv"
    print("tiles", len(table.read_text().splitlines()) - 1)
