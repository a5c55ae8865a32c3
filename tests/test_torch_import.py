"""What must hold after torch was loaded beside other threads; in processes of their own."""

from __future__ import annotations

import subprocess
import sys


def run(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_torch_works_and_garbage_is_still_collected():
    code = """
import gc, weakref
class Cycle: pass
before = Cycle(); before.itself = before
seen = weakref.ref(before)
from napari_ood.torch_import import load_torch
load_torch()
import torch, torchvision, timm
del before
gc.collect()
print(gc.isenabled(), gc.get_freeze_count(), seen() is None)
print(torch.ones(2).sum().item(), torchvision.ops.nms is not None)
"""
    assert run(code) == ["True", "0", "True", "2.0", "True"]


def test_a_collector_that_was_off_stays_off():
    code = """
import gc; gc.disable()
from napari_ood.torch_import import load_torch
load_torch(); load_torch()
print(gc.isenabled())
"""
    assert run(code) == ["False"]


def test_a_torchvision_of_another_build_does_not_hide_the_devices():
    code = """
import sys
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
sys.meta_path.insert(0, Broken())
from napari_ood.models import available_devices
print(available_devices()[-1].name)
"""
    assert run(code) == ["cpu"]
