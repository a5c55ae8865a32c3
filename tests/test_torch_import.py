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


def test_the_program_ends_without_looking_for_garbage_in_torch():
    code = """
import atexit, gc
atexit.register(lambda: print(gc.get_freeze_count() > 100_000))  # called after those that follow
from napari_ood.torch_import import load_torch
load_torch()
"""
    assert run(code) == ["True"]


def test_triton_has_nothing_to_say_at_the_end():
    code = """
from napari_ood.torch_import import load_torch
load_torch()
import triton
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


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


def test_the_compiler_is_loaded_only_when_it_is_used():
    code = """
import sys
from napari_ood.torch_import import load_torch
load_torch()
import torch, torchvision, timm
print("torch._dynamo" in sys.modules, "torch._dynamo.utils" in sys.modules)
net = timm.create_model("test_resnet", num_classes=2).eval()
boxes = torch.tensor([[0, 0.0, 0.0, 4.0, 4.0]])
out = torchvision.ops.roi_align(torch.ones(1, 1, 8, 8), boxes, 2)
print(net(torch.zeros(1, 3, 32, 32)).shape == (1, 2), out.sum().item())
from timm.models.naflexvit import NaFlexRopeIterator
print(torch.compiler.disable.__module__)
import torch._dynamo.utils
print(torch._dynamo.utils.is_compile_supported("cpu") in (True, False))
print(torch.optim.SGD(net.parameters(), lr=0.1) is not None)
"""
    assert run(code) == ["False", "False", "True", "4.0", "torch.compiler", "True", "True"]


def test_beside_a_window_the_compiler_is_loaded_at_once():
    code = """
import sys, types
sys.modules["napari"] = types.ModuleType("napari")
from napari_ood.torch_import import load_torch
load_torch()
print("torch._dynamo.utils" in sys.modules)
"""
    assert run(code) == ["True"]
