"""How much memory a piece of work with tensors takes at its peak (torch)."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors that are made inside, and how many live at once at most.

    What an operation uses and frees within itself is not seen. The same on every machine, unlike
    the size of the process.

    Attributes
    ----------
    peak : bytes
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak: int = 0
        self._live: int = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and note what it made."""
        for tensor in _tensors((args, kwargs)):
            self._note(tensor, made=False)  # a view of what was there before takes nothing
        out = func(*args, **(kwargs or {}))
        for tensor in _tensors(out):
            self._note(tensor, made=True)
        return out

    def _note(self, tensor: Tensor, made: bool) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes() if made else 0
        if key in self._known:
            return
        self._known.add(key)
        self._live += size
        self.peak = max(self.peak, self._live)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._live -= size


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def peak_bytes(work: Callable[[], object]) -> int:
    """Peak of the memory that ``work`` takes beyond what there was before it."""
    memory = PeakMemory()
    with memory:
        work()
    return memory.peak


def weight_bytes(modules: Iterable[nn.Module]) -> int:
    """Bytes of all parameters and buffers."""
    return sum(
        tensor.numel() * tensor.element_size()
        for module in modules
        for tensor in (*module.parameters(), *module.buffers())
    )
