"""What may import what, and what must stay unloaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

REPO = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "torchvision", "timm", "napari", "qtpy", "PyQt6", "PySide6", "vispy")


def loaded_by(code: str) -> set[str]:
    """Top-level modules that are loaded once ``code`` has run in a fresh interpreter."""
    report = f"{code}\nimport sys; print('\\n' + ' '.join(m for m in sys.modules if '.' not in m))"
    done = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import napari_ood",
        "import napari_ood.cli, napari_ood.doctor",
        "from napari_ood import open_slide, load_bundle, run_slide, open_run, list_bundles, Slide",
        "import napari_ood.slides, napari_ood.scores, napari_ood.models, napari_ood.inference",
        "import napari_ood.cohort.work, napari_ood.cohort.run",
        "import napari_ood.board.reading, napari_ood.board.measure, napari_ood.board.drift",
        "from napari_ood.cli import main; main(['models'])",
    ],
)
def test_heavy_libraries_stay_unloaded(code: str) -> None:
    assert loaded_by(code).isdisjoint(HEAVY)


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_loads_nothing(arguments: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "napari_ood", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "napari-ood" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert imported.isdisjoint({*HEAVY, "numpy", "dask", "zarr", "tifffile"})


def test_a_slide_is_read_without_what_only_shows_it(tmp_path: Path) -> None:
    path = tmp_path / "field.png"
    Image.new("RGB", (300, 300), (200, 150, 180)).save(path)
    code = f"""
from napari_ood import open_slide
from napari_ood.inference import plan_run
from napari_ood.slides import tissue_mask
print(tissue_mask(open_slide({str(path)!r}, mpp=0.5)).mask.mean())
"""
    assert loaded_by(code).isdisjoint({*HEAVY, "dask", "distributed"})


def test_public_names_exist() -> None:
    import napari_ood

    for name in napari_ood.__all__:
        assert getattr(napari_ood, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        napari_ood.no_such_name  # noqa: B018


def test_floors_import_only_what_lies_below() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPO, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
