"""Load torch, beside OpenGL and without holding up the program's other threads.

*Two copies of LLVM.* On Linux, Mesa's OpenGL drivers load libLLVM and make its symbols global.
Triton's extension module carries another LLVM, whose symbols the linker then resolves to Mesa's;
importing torchvision, which imports Triton, in a process with an OpenGL window ends in a
segmentation fault (seen with Mesa 22.3 on LLVM 15 and Triton 3.9). ``RTLD_DEEPBIND`` makes Triton
look into itself first.

*A window that stops.* An import in a thread still holds Python's global lock while the dynamic
linker reads a gigabyte of libraries, and while the garbage collector walks through the hundred
thousands of objects that were just made. Measured by ``benchmarks/torch_import.py``.

*A compiler that nobody asked for.* torchvision imports torch's compiler for one check and timm for
one decorator, and that is a third of the time that all three take (``benchmarks/startup.py``).
Without a window they get stand-ins, which load it when they are called. With one it is loaded at
once: later, under the user's hand, it would stop the window.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache, partial, wraps
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

MAPS = Path("/proc/self/maps")
LIBRARIES = ("libtorch_global_deps.so", "libtorch_python.so")
"""The first brings what torch needs and makes its symbols global, as torch itself does; the second
all the rest. On other systems these names don't exist, and torch loads them itself."""


def load_torch() -> None:
    """Import torch, torchvision and timm; other threads go on meanwhile.

    To be called, in a thread, before anything imports torch in a process with a window.
    """
    if "timm" in sys.modules and "torchvision" in sys.modules:
        return
    has_window = "napari" in sys.modules
    atexit.register(_leave_garbage)
    with _no_collection():
        _load_triton_apart()
        if "torch" not in sys.modules:
            _link_libraries()
        importlib.import_module("torch")
        with (
            suppress(ImportError, RuntimeError),  # whoever needs them will be told
            nullcontext() if has_window else _compiler_when_called(),
        ):
            importlib.import_module("torchvision")
            importlib.import_module("timm")


@contextmanager
def _compiler_when_called() -> Iterator[None]:
    """Let modules that are imported now do without torch's compiler until they use it."""
    name = "torch._dynamo.utils"
    if name in sys.modules:
        yield
        return
    import torch.compiler

    disable = torch.compiler.disable
    stand_in = ModuleType(name)

    def __getattr__(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)

        def when_called(*args: Any, **kwargs: Any) -> Any:
            return getattr(importlib.import_module(name), attribute)(*args, **kwargs)

        return when_called

    def disable_when_called(fn: Any = None, recursive: bool = True, **options: Any) -> Any:
        if fn is None:
            return partial(disable_when_called, recursive=recursive, **options)
        if not isinstance(fn, FunctionType):
            return disable(fn, recursive, **options)  # type: ignore[no-untyped-call]
        disabled = cache(partial(disable, fn, recursive, **options))
        return wraps(fn)(lambda *args, **kwargs: disabled()(*args, **kwargs))

    stand_in.__getattr__ = __getattr__  # type: ignore[method-assign]
    sys.modules[name] = stand_in
    torch.compiler.disable = disable_when_called
    try:
        yield
    finally:
        torch.compiler.disable = disable
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]


def _link_libraries() -> None:
    """Have torch's libraries loaded by a call that, unlike ``import``, lets other threads run."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None or not sys.platform.startswith("linux"):
        return
    linker = ctypes.CDLL(None)
    linker.dlopen.restype, linker.dlopen.argtypes = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_int)
    for name, mode in zip(LIBRARIES, (os.RTLD_GLOBAL, os.RTLD_LOCAL), strict=True):
        path = Path(spec.origin).parent / "lib" / name
        if path.is_file():  # what fails here fails again in the import, which says why
            linker.dlopen(os.fsencode(path), os.RTLD_NOW | mode)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector from walking through what is made meanwhile, and right after."""
    enabled, frozen = gc.isenabled(), gc.get_freeze_count() > 0
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            # Everything becomes "old" without being looked at. It stays frozen only where somebody
            # keeps objects frozen who will also thaw them (the viewer, see viewer/garbage.py):
            # what is frozen and refers to itself is never freed, and that may be a slide's pixels.
            gc.freeze()
            if not frozen:
                gc.unfreeze()
            gc.enable()


def _leave_garbage() -> None:
    """At its end Python collects garbage several times: 0.7 s for what the kernel frees anyway."""
    if "triton" not in sys.modules:  # whose bindings would print what was not collected
        gc.freeze()


def _load_triton_apart() -> None:
    """Load Triton so that it cannot clash with Mesa; does nothing where it could not."""
    if "triton" in sys.modules or not hasattr(os, "RTLD_DEEPBIND") or not _llvm_is_loaded():
        return
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags | os.RTLD_DEEPBIND)
    try:
        with suppress(ImportError):  # torch works without Triton
            importlib.import_module("triton._C.libtriton")
    finally:
        sys.setdlopenflags(flags)


def _llvm_is_loaded() -> bool:
    try:
        return "libLLVM" in MAPS.read_text()
    except OSError:
        return False
