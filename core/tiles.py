"""Products of many rows with a few columns, register by register: what all compiled functions for prompts are made of.

A library packs its operands anew for every product and hands whole results to memory. Here the few columns, the tokens
of a question, are packed once, the many rows, keys or weights, are read once in their order, and whoever calls does
with a piece of the result what is to be done with it while it is still in the cache.

Columns lie in panels of `COLUMNS`, padded with zeros: (panels, k, COLUMNS). Everything is float32.

numba keeps callers on the disk by the date of their own file: after a change here delete `core/__pycache__/*.nb*`.
"""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor

COLUMNS = 16
WIDE = bool(get_host_cpu_features().get("avx512f"))
LANES, ROWS = (16, 8) if WIDE else (8, 4)
"""Numbers in a register, and rows that are multiplied at a time: eight sums are under way, as many as hide latency."""
GROUP, STEPS = 64, 128
"""Rows that meet all columns before the next rows do, and terms of their sums that are taken at a time: all of it stays
in the inner caches, and meanwhile memory is asked for what comes next."""
ANY_ORDER = {"reassoc", "contract", "arcp", "nsz", "nnan"}
"""Sums may be taken in another order. Infinities keep their meaning: blocks without a token and e^x need them."""


LOG2_E = np.float32(1 / math.log(2))
POWERS = tuple(np.float32(math.log(2) ** n / math.factorial(n)) for n in range(7))
"""2^x as a polynomial, within 2e-7 for -1/2 ... 1/2."""


def compiled(function, fastmath: Any = ANY_ORDER):
    """`function` compiled, and kept on the disk where numba finds a folder that it may write to.

    fastmath: what may be computed otherwise than it stands there; False for nothing.
    """
    options = {"fastmath": fastmath, "nogil": True, "error_model": "numpy"}  # no check for zero before a division
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # neither beside this file nor in the user's folder for caches
        return njit(**options)(function)


def _pointer(builder, base, offset, kind):
    """`offset` numbers of float32 behind the address `base`."""
    return builder.inttoptr(builder.add(base, builder.shl(offset, ir.IntType(64)(2))), kind.as_pointer())


def _tile(rows: int) -> Any:
    """A function tile(left, row, term, right, steps, start, every, sums): sums (rows, COLUMNS) = what stands at `start`
    plus left times right (steps, COLUMNS).

    left, right, start and sums are addresses; row and term, how many numbers lie between two rows of `left` and two of
    its terms; every, how many between two rows at `start`: 0 where all begin with the same.
    Written for the compiler behind numba, since loops of numba's own keep their sums in memory instead of registers.
    """

    @intrinsic
    def tile(context, left, row, term, right, steps, start, every, sums):
        address, number = types.uintp, types.intp
        signature = types.void(address, number, number, address, number, address, number, address)

        def emit(context, builder, signature, arguments):
            one, whole, short = ir.FloatType(), ir.IntType(64), ir.IntType(32)
            vector, many = ir.VectorType(one, LANES), COLUMNS // LANES
            left, row, term, right, steps, start, every, sums = arguments

            def at(base, line, number):
                """Addresses of a row's registers, `line` times `number` numbers behind base."""
                begin = builder.mul(number, whole(line))
                return [_pointer(builder, base, builder.add(begin, whole(i * LANES)), vector) for i in range(many)]

            first = [[builder.load(place, align=4) for place in at(start, r, every)] for r in range(rows)]
            before, loop, after = builder.block, builder.append_basic_block(), builder.append_basic_block()
            builder.branch(loop)
            builder.position_at_end(loop)
            step = builder.phi(whole)
            totals = [[builder.phi(vector) for _ in line] for line in first]
            columns = [builder.load(place, align=4) for place in at(right, COLUMNS, step)]
            nothing, fast = ir.Constant(vector, ir.Undefined), ("fast",)
            same = ir.Constant(ir.VectorType(short, LANES), [0] * LANES)
            later = []
            for r in range(rows):
                place = builder.add(builder.mul(step, term), builder.mul(row, whole(r)))
                factor = builder.load(_pointer(builder, left, place, one), align=4)
                factor = builder.shuffle_vector(builder.insert_element(nothing, factor, short(0)), nothing, same)
                pairs = zip(columns, totals[r], strict=True)
                later.append([builder.fadd(builder.fmul(factor, c, fast), t, fast) for c, t in pairs])
            following = builder.add(step, whole(1))
            step.add_incoming(whole(0), before)
            step.add_incoming(following, loop)
            for r in range(rows):
                for total, beginning, new in zip(totals[r], first[r], later[r], strict=True):
                    total.add_incoming(beginning, before)
                    total.add_incoming(new, loop)
            builder.cbranch(builder.icmp_signed("<", following, steps), loop, after)
            builder.position_at_end(after)
            for r in range(rows):
                for place, value in zip(at(sums, r, whole(COLUMNS)), later[r], strict=True):
                    builder.store(value, place, align=4)
            return context.get_dummy_value()

        return signature, emit

    return tile


tile_rows, tile_row = _tile(ROWS), _tile(1)


def _cache_line(context, address):
    """Ask for the cache line at an address, which need not exist. It is put into the second cache: a request to the
    first has to wait where a dozen are under way, and what is asked for all at once would be late or push out the rest.
    """

    def emit(context, builder, signature, arguments):
        short, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, short, short, short])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [builder.inttoptr(arguments[0], byte), short(0), short(2), short(1)])
        return context.get_dummy_value()

    return types.void(types.uintp), emit


_prefetch: Any = intrinsic(_cache_line)


@compiled
def ask_for(address, rows, size, steps, part, parts):
    """Ask memory for one of so many parts of `rows` rows, `size` numbers apart, of `steps` numbers each."""
    for row in range(rows):
        for step in range(16 * part, steps, 16 * parts):
            _prefetch(address + np.uint64(4 * (row * size + step)))


@compiled
def multiply(rows, panels, results):
    """results (panels, m or more, COLUMNS) = rows (m, k), contiguous, times panels (panels, k, COLUMNS)."""
    count, size = rows.shape
    nothing = np.zeros(COLUMNS, np.float32)
    for first in range(0, count, GROUP):
        some = min(GROUP, count - first)
        whole = some - some % ROWS
        for begin in range(0, size, STEPS):
            steps, left = min(STEPS, size - begin), rows.ctypes.data + np.uint64(4 * (first * size + begin))
            after = first * size + begin + STEPS if begin + STEPS < size else (first + GROUP) * size
            following = rows.ctypes.data + np.uint64(4 * after)
            for panel in range(len(panels)):
                right, sums = panels[panel, begin:].ctypes.data, results[panel, first:].ctypes.data
                for row in range(0, whole, ROWS):
                    ask_for(following + np.uint64(4 * row * size), ROWS, size, steps, panel, len(panels))
                    here, place = left + np.uint64(4 * row * size), sums + np.uint64(64 * row)
                    start, every = (place, COLUMNS) if begin else (nothing.ctypes.data, 0)
                    tile_rows(here, size, 1, right, steps, start, every, place)
                for row in range(whole, some):
                    here, place = left + np.uint64(4 * row * size), sums + np.uint64(64 * row)
                    tile_row(here, size, 1, right, steps, place if begin else nothing.ctypes.data, 0, place)


@compiled
def powers_of_two(values, exponents, powers):
    """In place: 2 to the values (m,), none of which is above 126.

    `exponents` and `powers` are the same memory as integers and as float32: room for powers of two. 2^x is 2^n times a
    polynomial of what is left of x: unlike the library's function, it becomes vector instructions.
    """
    for place in range(len(values)):
        x = max(values[place], np.float32(-126))
        n = np.floor(x + np.float32(0.5))
        rest = x - n
        power = POWERS[6] * rest + POWERS[5]
        power = power * rest + POWERS[4]
        power = power * rest + POWERS[3]
        power = power * rest + POWERS[2]
        power = power * rest + POWERS[1]
        values[place] = power * rest + POWERS[0]
        exponents[place] = (np.int32(n) + np.int32(127)) << np.int32(23)
    for place in range(len(values)):
        values[place] *= powers[place]


def packed(rows: Tensor) -> np.ndarray:
    """Rows (n, k) as the columns of panels (panels, k, COLUMNS)."""
    count, size = rows.shape
    padded = np.zeros((-(-count // COLUMNS) * COLUMNS, size), np.float32)
    padded[:count] = rows.detach().numpy()
    return np.ascontiguousarray(padded.reshape(-1, COLUMNS, size).transpose(0, 2, 1))
