"""A convolution after Winograd as machine code (needs llvmlite).

Three loops, each over what the one before left in the cache: patches of the images are transformed,
multiplied by the transformed kernels, and transformed into outputs. The processor's own vectors go
along the channels, so that images stay as they are in memory, channels last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from llvmlite import ir

from napari_ood.models.machine_code import INDEX, Code, Compiled, Processor, Value, index

Matrix = Sequence[Sequence[float]]
PANEL_VECTORS = 2
"""Vectors of output channels that are computed at a time."""
PLANE_GAP = 16
"""Floats between planes: at distances of powers of two they would displace each other in the cache.
"""


class Transforms(NamedTuple):
    """Of one dimension: a patch d and a kernel g become outputs Aᵀ (Bᵀ d ⊙ G g).

    Attributes
    ----------
    inward : Bᵀ, products × inputs
    outward : Aᵀ, outputs × products
    stride : of the convolution
    """

    inward: Matrix
    outward: Matrix
    stride: int

    @property
    def products(self) -> int:
        """Products per patch."""
        return len(self.inward)

    @property
    def outputs(self) -> int:
        """Outputs per patch."""
        return len(self.outward)


class Place(NamedTuple):
    """Where a patch or what becomes of it lies in images ``[n, height, width, channels]``.

    Attributes
    ----------
    corner : address of its first row and column, which may be outside
    top, left : that row and column
    """

    corner: Value
    top: Value
    left: Value


def panel(processor: Processor) -> int:
    """Output channels that are computed at a time; kernels are laid out in such panels."""
    return PANEL_VECTORS * processor.lanes


def room(planes: int, patches: int, channels: int) -> int:
    """Floats that planes ``[patch, channel]`` take, the gaps between them included."""
    return planes * (patches * channels + PLANE_GAP)


def winograd_code(transforms: Transforms, processor: Processor) -> Compiled:
    """Compile a convolution of kernels 3 × 3, padding 1.

    Returns
    -------
    Compiled
        To be called with the addresses of images ``[n, H, W, C]``, kernels ``[P², K' / panel, C,
        panel]``, bias ``[K]``, output ``[n, H', W', K]`` and of a ``room`` for P² planes of C and
        one for K' channels; then the number of patches, patches at a time (a multiple of the
        processor's rows), rows and columns of patches in an image, H, W, C, H', W', K and K', which
        is K rounded up to whole panels. All float32. C and K are multiples of the lanes.
    """
    module = ir.Module()
    inward = _write_inward(module, transforms, processor)
    multiply = _write_multiply(module, processor)
    outward = _write_outward(module, transforms, processor)
    code = Code(module, "convolve", 6, 11, processor.lanes)
    x, kernels, bias, out, patches, sums, *sizes = code.parameters
    total, most, rows, columns, height, width, n_in, height_out, width_out, n_out, padded = sizes
    planes = index(transforms.products**2)
    gap = index(PLANE_GAP)
    plane_in = code.add(code.mul(most, n_in), gap)
    plane_out = code.add(code.mul(most, padded), gap)
    with code.counting(total, most) as first:
        left = code.sub(total, first)
        count = code.select(code.icmp_signed("<", left, most), left, most)
        where = first, count, rows, columns
        code.call(inward, [x, patches, sums, *where, plane_in, height, width, n_in])
        with code.counting(planes, index(1)) as i:
            matrices = (
                code.at(patches, code.mul(i, plane_in)),
                code.at(kernels, code.mul(i, code.mul(n_in, padded))),
                code.at(sums, code.mul(i, plane_out)),
            )
            code.call(multiply, [*matrices, count, n_in, padded])
        code.call(
            outward, [sums, bias, out, *where, plane_out, height_out, width_out, n_out, padded]
        )
    code.ret_void()
    return Compiled(module, code.function, processor)


def _write_inward(module: ir.Module, of: Transforms, processor: Processor) -> ir.Function:
    """Patches of the images, zeros around them, into planes ``[P²][patch, C]``.

    ``spare`` is room for a vector per plane: on the stack it would be more than a page of it, which
    Windows has to be asked for.
    """
    code = Code(module, "inward", 3, 8, processor.lanes)
    x, patches, spare, first, count, rows, columns, plane, height, width, n_in = code.parameters
    zeros = code.room(1)
    code.write(code.constant(0), zeros)
    step = of.outputs * of.stride
    with code.counting(count, index(1)) as patch:
        place = _place(
            code, x, code.add(first, patch), (rows, columns), (height, width, n_in), step, 1
        )
        to = code.at(patches, code.mul(patch, n_in))
        row_step = code.mul(width, n_in)
        inputs = range(len(of.inward[0]))
        has_column = [
            code.icmp_unsigned("<", code.add(place.left, index(j)), width) for j in inputs
        ]
        with code.counting(n_in, index(processor.lanes)) as channel:
            corner, target = code.at(place.corner, channel), code.at(to, channel)

            def read(row: Value, column: int) -> Value:
                is_inside = code.icmp_unsigned("<", code.add(place.top, row), height)
                is_inside = code.and_(is_inside, has_column[column])
                place_ = code.at(corner, code.mul(row_step, row), code.mul(n_in, index(column)))
                return code.read(code.select(is_inside, place_, zeros))

            def write(row: int, column: Value, value: Value) -> None:
                number = code.add(index(row * of.products), column)
                code.write(value, code.at(target, code.mul(plane, number)))

            _on_both_sides(code, of.inward, spare, read, write)
    code.ret_void()
    return code.function


def _write_multiply(module: ir.Module, processor: Processor) -> ir.Function:
    """One plane: patches ``[count, C]`` times kernels ``[K' / panel, C, panel]``: ``[count, K']``.

    As many sums as there are registers for are kept while the channels are gone through. The last
    rows may be beyond ``count``: there is room for them, and nobody reads them.
    """
    code = Code(module, "multiply", 3, 3, processor.lanes)
    patches, kernels, sums, count, n_in, n_out = code.parameters
    width, lanes = panel(processor), processor.lanes
    ways = [(i, j) for i in range(processor.rows) for j in range(PANEL_VECTORS)]
    with (
        code.counting(n_out, index(width)) as column,
        code.counting(count, index(processor.rows)) as row,
    ):
        from_, to = (
            code.at(patches, code.mul(row, n_in)),
            code.at(sums, code.mul(row, n_out), column),
        )
        kernel = code.at(kernels, code.mul(column, n_in))
        before, inner, after = code.block, code.append_basic_block(), code.append_basic_block()
        code.branch(inner)
        code.position_at_end(inner)
        channel = code.phi(INDEX)
        channel.add_incoming(index(0), before)
        old = {way: code.phi(code.vector) for way in ways}
        b = [
            code.read(code.at(kernel, code.mul(channel, index(width)), index(j * lanes)))
            for j in range(PANEL_VECTORS)
        ]
        a = [
            code.spread(code.at(from_, code.mul(n_in, index(i)), channel))
            for i in range(processor.rows)
        ]
        new = {(i, j): code.multiply_add(a[i], b[j], old[i, j]) for i, j in ways}
        following = code.add(channel, index(1))
        channel.add_incoming(following, inner)
        for way in ways:
            old[way].add_incoming(code.constant(0), before)
            old[way].add_incoming(new[way], inner)
        code.cbranch(code.icmp_signed("<", following, n_in), inner, after)
        code.position_at_end(after)
        for i, j in ways:
            code.write(new[i, j], code.at(to, code.mul(n_out, index(i)), index(j * lanes)))
    code.ret_void()
    return code.function


def _write_outward(module: ir.Module, of: Transforms, processor: Processor) -> ir.Function:
    """Planes ``[P²][patch, K']`` and the bias into images; what is beyond edges is dropped."""
    code = Code(module, "outward", 3, 9, processor.lanes)
    sums, bias, out, first, count, rows, columns, plane, height, width, n_out, padded = (
        code.parameters
    )
    nowhere, half = code.room(1), code.room(of.products * of.outputs)
    with code.counting(count, index(1)) as patch:
        place = _place(
            code,
            out,
            code.add(first, patch),
            (rows, columns),
            (height, width, n_out),
            of.outputs,
            0,
        )
        from_ = code.at(sums, code.mul(patch, padded))
        row_step = code.mul(width, n_out)
        has_row = [
            code.icmp_unsigned("<", code.add(place.top, index(i)), height)
            for i in range(of.outputs)
        ]
        with code.counting(n_out, index(processor.lanes)) as channel:
            corner, source = code.at(place.corner, channel), code.at(from_, channel)
            shift = code.read(code.at(bias, channel))

            def read(row: Value, column: int) -> Value:
                number = code.add(code.mul(row, index(of.products)), index(column))
                return code.read(code.at(source, code.mul(plane, number)))

            def write(row: int, column: Value, value: Value) -> None:
                is_inside = code.icmp_unsigned("<", code.add(place.left, column), width)
                is_inside = code.and_(is_inside, has_row[row])
                place_ = code.at(corner, code.mul(row_step, index(row)), code.mul(n_out, column))
                code.write(code.fadd(value, shift), code.select(is_inside, place_, nowhere))

            _on_both_sides(code, of.outward, half, read, write)
    code.ret_void()
    return code.function


def _place(
    code: Code,
    images: Value,
    number: Value,
    grid: tuple[Value, Value],
    shape: tuple[Value, Value, Value],
    step: int,
    padding: int,
) -> Place:
    """Where the patch of a number lies, counted row by row and image by image."""
    (rows, columns), (height, width, channels) = grid, shape
    line = code.udiv(number, columns)
    image, row, column = code.udiv(line, rows), code.urem(line, rows), code.urem(number, columns)
    top = code.sub(code.mul(row, index(step)), index(padding))
    left = code.sub(code.mul(column, index(step)), index(padding))
    pixel = code.add(code.mul(code.add(code.mul(image, height), top), width), left)
    return Place(code.at(images, code.mul(pixel, channels)), top, left)


def _on_both_sides(
    code: Code,
    matrix: Matrix,
    half: Value,
    read: Callable[[Value, int], Value],
    write: Callable[[int, Value, Value], None],
) -> None:
    """M X Mᵀ of the vectors that ``read(row, column)`` gives, told to ``write``.

    ``half`` is room for X Mᵀ.
    """
    n_out, n_in = len(matrix), len(matrix[0])

    def cell(row: Value, column: Value) -> Value:
        number = code.add(code.mul(row, index(n_out)), column)
        return code.at(half, code.mul(number, index(code.lanes)))

    with code.counting(index(n_in), index(1)) as row:
        for j, value in enumerate(_times(code, matrix, [read(row, j) for j in range(n_in)])):
            code.write(value, cell(row, index(j)))
    with code.counting(index(n_out), index(1)) as column:
        values = [code.read(cell(index(i), column)) for i in range(n_in)]
        for i, value in enumerate(_times(code, matrix, values)):
            write(i, column, value)


def _times(code: Code, matrix: Matrix, vectors: Sequence[Value]) -> list[Value]:
    """A matrix times vectors; what two rows next to each other share but for signs, once."""
    products: list[Value] = []
    rows = list(matrix)
    while rows:
        row = rows.pop(0)
        same = [
            a if rows and a == b else 0.0
            for a, b in zip(row, rows[0] if rows else row, strict=True)
        ]
        rest = [a - b for a, b in zip(row, same, strict=True)]
        is_pair = rows and any(same) and any(rest)
        if is_pair and all(a - b == -c for a, b, c in zip(rows[0], same, rest, strict=True)):
            rows.pop(0)
            even, odd = _weighted(code, same, vectors), _weighted(code, rest, vectors)
            products += [code.fadd(even, odd), code.fsub(even, odd)]
        else:
            products.append(_weighted(code, row, vectors))
    return products


def _weighted(code: Code, weights: Sequence[float], vectors: Sequence[Value]) -> Value:
    """Σ weight · vector, those of weight ±1 first, which need no multiplication."""
    terms = sorted(
        ((w, v) for w, v in zip(weights, vectors, strict=True) if w), key=lambda t: abs(t[0]) != 1
    )
    (weight, total), *others = terms
    if weight != 1:
        total = code.fneg(total) if weight == -1 else code.fmul(total, code.constant(weight))
    for weight, vector in others:
        if abs(weight) == 1:
            total = (code.fadd if weight == 1 else code.fsub)(total, vector)
        else:
            total = code.multiply_add(vector, code.constant(weight), total)
    return total
