"""Loops over vectors of floats, compiled for the processor that runs them (needs llvmlite).

What torch has no fast operation for, and plain Python would take too long to put together from
those it has. Only what :mod:`napari_ood.models.winograd_code` needs.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import llvmlite.binding as llvm
from llvmlite import ir

FLOAT = ir.FloatType()
POINTER = FLOAT.as_pointer()
INDEX = ir.IntType(64)
Value: TypeAlias = ir.Value


@dataclass(frozen=True)
class Processor:
    """What code is made for.

    Attributes
    ----------
    name, features : as LLVM writes them
    lanes : floats in a vector
    rows : of a matrix that are multiplied at a time: their sums stay in registers
    """

    name: str
    features: str
    lanes: int
    rows: int

    @classmethod
    def named(cls, name: str, features: str) -> Processor:
        """The one with such features; vectors are as wide as its registers."""
        has = set(features.split(","))
        if "+avx512f" in has:
            return cls(name, features, 16, 8)
        if "+avx" in has:
            return cls(name, features, 8, 4)
        return cls(name, features, 4, 8 if "+neon" in has else 4)


@cache
def this_processor() -> Processor:
    """The one that this program runs on."""
    features = llvm.get_host_cpu_features().flatten()
    return Processor.named(llvm.get_host_cpu_name(), features)


def index(value: int) -> Value:
    """A constant for counting."""
    return ir.Constant(INDEX, value)


class Code(ir.IRBuilder):  # type: ignore[misc]  # untyped
    """Writes one function ``void name(float *…, int64 …)``, whose pointers never overlap.

    Parameters
    ----------
    module : to add it to
    name : of the function
    pointers, integers : how many parameters it has of each
    lanes : floats in a vector
    """

    def __init__(
        self, module: ir.Module, name: str, pointers: int, integers: int, lanes: int
    ) -> None:
        kind = ir.FunctionType(ir.VoidType(), [POINTER] * pointers + [INDEX] * integers)
        function = ir.Function(module, kind, name)
        for argument in function.args[:pointers]:
            argument.add_attribute("noalias")
        super().__init__(function.append_basic_block())
        self.lanes = lanes
        self.vector = ir.VectorType(FLOAT, lanes)

    @property
    def parameters(self) -> Sequence[Value]:
        """Of the function, pointers first."""
        return tuple(self.function.args)

    @contextmanager
    def counting(self, stop: Value, step: Value) -> Iterator[Value]:
        """What is written meanwhile is done for 0, step, 2 step … below ``stop``."""
        before = self.block
        head, body, end = (self.append_basic_block() for _ in range(3))
        self.branch(head)
        self.position_at_end(head)
        i = self.phi(INDEX)
        i.add_incoming(index(0), before)
        self.cbranch(self.icmp_signed("<", i, stop), body, end)
        self.position_at_end(body)
        yield i
        i.add_incoming(self.add(i, step), self.block)
        self.branch(head)
        self.position_at_end(end)

    def sum(self, *terms: Value) -> Value:
        """Of integers."""
        total, *rest = terms
        for term in rest:
            total = self.add(total, term)
        return total

    def at(self, pointer: Value, *offsets: Value) -> Value:
        """The address so many floats further on."""
        return self.gep(pointer, [self.sum(*offsets)])

    def constant(self, value: float) -> Value:
        """A vector of one number."""
        return ir.Constant(self.vector, [float(value)] * self.lanes)

    def room(self, vectors: int) -> Value:
        """The address of a place for vectors, for the time of the call."""
        with self.goto_entry_block():
            place = self.alloca(self.vector, index(vectors))
        return self.bitcast(place, POINTER)

    def read(self, pointer: Value) -> Value:
        """The vector at an address."""
        return self.load(self.bitcast(pointer, self.vector.as_pointer()), align=4)

    def write(self, vector: Value, pointer: Value) -> None:
        """Store a vector at an address."""
        self.store(vector, self.bitcast(pointer, self.vector.as_pointer()), align=4)

    def spread(self, pointer: Value) -> Value:
        """A vector of the one number at an address."""
        empty = ir.Constant(self.vector, ir.Undefined)
        one = self.insert_element(empty, self.load(pointer), ir.Constant(ir.IntType(32), 0))
        first = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.shuffle_vector(one, empty, first)

    def multiply_add(self, a: Value, b: Value, c: Value) -> Value:
        """a · b + c of vectors, rounded once where the processor can."""
        name = f"llvm.fmuladd.v{self.lanes}f32"
        known = self.module.globals.get(name)
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        return self.call(known or ir.Function(self.module, kind, name), [a, b, c])


def require_executable(address: int) -> None:
    """OSError where the system keeps memory from being executed, which LLVM does not tell.

    SELinux may, or systemd's MemoryDenyWriteExecute: a call would end the program.
    """
    if os.name != "posix":
        return
    page = address & -mmap.PAGESIZE
    change = ctypes.CDLL(None, use_errno=True).mprotect
    change.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if change(page, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC):  # as it should be already
        raise OSError(ctypes.get_errno(), "memory cannot be made executable")


class Compiled:
    """A function of a module as machine code; any number of threads may call it at once.

    Raises
    ------
    OSError, RuntimeError
        Where none can be made.
    """

    def __init__(self, module: ir.Module, function: ir.Function, processor: Processor) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        target = llvm.Target.from_default_triple().create_target_machine(
            cpu=processor.name, features=processor.features, opt=2
        )
        # No optimising passes: what is to be unrolled is written so, and they take twice the time.
        parsed = llvm.parse_assembly(str(module))
        parsed.verify()
        self._engine = llvm.create_mcjit_compiler(parsed, target)  # owns the code
        self._engine.finalize_object()
        types = [ctypes.c_void_p if a.type == POINTER else ctypes.c_int64 for a in function.args]
        address = self._engine.get_function_address(function.name)
        require_executable(address)
        self._call: Callable[..., Any] = ctypes.CFUNCTYPE(None, *types)(address)

    def __call__(self, *arguments: int) -> None:
        """Call with addresses and integers as its ``Code`` has them; Python's lock is free then."""
        self._call(*arguments)
