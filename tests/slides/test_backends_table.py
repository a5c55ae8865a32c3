"""Every slide at hand opens right or is refused, as the table in docs/formats.md says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def formats() -> ModuleType:
    script = Path(__file__).resolve().parents[2] / "scripts" / "formats.py"
    spec = importlib.util.spec_from_file_location("formats_script", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_formats_is_current(shared_data: Path, formats: ModuleType) -> None:
    made = formats.table(shared_data / "slides").splitlines()
    document = formats.DOCUMENT.read_text(encoding="utf-8")
    assert made == formats.committed(document).splitlines(), "run python scripts/formats.py"
    assert sum("| opens, " in line for line in made) >= 45
    refused = [line for line in made if "refused: " in line]
    # a stack, three unrelated planes, two DICOM files that are no slides, three folders of several
    assert len(refused) == 7
