"""Call every kernel at odd sizes, with exactly the memory that its contract states: ``make sanitize``.

C is compiled with AddressSanitizer and UndefinedBehaviorSanitizer. Arrays are first blocks of malloc, which
the sanitizers or valgrind watch, and then pages beside protected pages. The processor itself finds an access
to these that a sanitizer does not see, such as that of a masked vector or of Numba's code. Each call is made
twice, with different contents of the memory that it must not read, and must give the same bits.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import itertools
import math
import mmap
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from helpers import SIZES, contract
from helpers.contract import Argument, Kernel, kernels
from test_kernels import draw_arguments

from fastrnn.backends import c
from fastrnn.backends.backend import Backend, Description
from fastrnn.backends.registry import get_backend
from fastrnn.core.constants import CELL_NAMES
from fastrnn.core.layout import Shape
from fastrnn.core.thread_team import Team
from fastrnn.optimizers import OPTIMIZERS, SGD

libc = ctypes.CDLL(None, use_errno=True)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]

#: The sizes of vectors, tiles and blocks, and one more or less.
LARGE = (63, 64, 65, 127, 129, 255, 256, 257, 513)

#: The contents, before a call, of memory that a kernel must not read.
POISONS = (math.nan, 1e30)

Array = np.ndarray[Any, Any]


# ---- Memory ------------------------------------------------------------------------------------------


class Heap:
    """Blocks of malloc that are exactly as large as their arrays."""

    def __init__(self) -> None:
        self._blocks: list[int] = []

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        n_bytes = math.prod(shape) * dtype.itemsize
        address = libc.malloc(max(n_bytes, 1))
        self._blocks.append(address)
        return np.frombuffer((ctypes.c_char * n_bytes).from_address(address), dtype).reshape(shape)

    def free(self) -> None:
        while self._blocks:
            libc.free(self._blocks.pop())


class Pages:
    """Arrays that end or begin at a protected page."""

    def __init__(self, *, at_end: bool) -> None:
        self._at_end = at_end
        self._maps: list[mmap.mmap] = []

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        n_bytes, page = math.prod(shape) * dtype.itemsize, mmap.PAGESIZE
        inside = max(page, -(-n_bytes // page) * page)
        pages = mmap.mmap(-1, inside + 2 * page)
        self._maps.append(pages)
        start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
        for guard in (start, start + page + inside):
            if libc.mprotect(guard, page, 0) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")
        first = start + page + (inside - n_bytes if self._at_end else 0)
        return np.frombuffer((ctypes.c_char * n_bytes).from_address(first), dtype).reshape(shape)

    def free(self) -> None:
        self._maps.clear()


# ---- Cases -------------------------------------------------------------------------------------------


@dataclass
class Case:
    """A call of a kernel: its sizes by letter and name, its precision and its number of parts."""

    kernel: Kernel
    size: dict[str, Any]
    shape: Shape | None
    real: Any
    parts: int
    seed: int

    def __str__(self) -> str:
        network = f" of {self.shape}" if self.shape else ""
        return f"{self.kernel.name} {self.real.__name__} in {self.parts} parts at {self.size}{network}"


def draw_shape(rng: random.Random, V: int, H: int) -> Shape:
    """Draw the shape of a network: cell, number of layers, kind of input."""
    kind, L = rng.choice(CELL_NAMES), rng.choice([1, 1, 2, 3])
    E, tied = rng.choice([(0, False), (rng.choice(SIZES), False), (H, True)])
    return Shape(kind, L, V, E, H, tied)


def draw_size(kernel: Kernel, rng: random.Random) -> tuple[dict[str, Any], Shape | None]:
    """Draw the sizes of a kernel's letters, values of arguments, and a network; few sizes are large."""
    whole = any(argument.name == "plan" for argument in kernel.arguments)
    size: dict[str, Any] = {letter: rng.choice(SIZES) for letter in "TBVHNIOKJnS"}
    large = rng.choice("TBV" if whole else "VHNIOKJn")
    size[large] = rng.choice(LARGE[:5] if whole else LARGE)
    size["begin"], size["end"] = sorted(rng.choices(range(size["n"] + 1), k=2))
    size |= {"W": rng.choice([0, 1, 3]), "A": rng.choice([0, 1]), "first": rng.choice([0, 1, 5])}
    size["R"] = rng.choice([0, 1, 2, 5])
    size |= {
        "D": rng.choice([0, 1, 7]),
        "Q": rng.choice([0, 1, 5]),
        "stop_symbol": rng.randrange(-1, size["V"]),
    }
    size |= {"F": rng.choice([1, 3, 15]), "C": rng.choice([1, 16, 77]), "Y": rng.choice([1, 17, 500])}
    size |= {"reduction": rng.choice([0, 1, 2]), "dropout": rng.choice([0.0, 0.3])}
    size |= {"input_dropout": rng.choice([0.0, 0.2])}
    optimizer = rng.choice([SGD(momentum=0.9), *(kind() for kind in OPTIMIZERS.values())])
    size |= {"optimizer": optimizer.number, "M": optimizer.moments}
    return size, draw_shape(rng, size["V"], size["H"]) if whole else None


def cases(count: int) -> Iterator[Case]:
    """Yield ``count`` cases of each kernel in each precision."""
    rng = random.Random(0)
    for kernel, seed, real in itertools.product(kernels(), range(count), (np.float32, np.float64)):
        splits = any(argument.name == "parts" for argument in kernel.arguments)
        parts = 1 + seed % 3 if splits else 1
        yield Case(kernel, *draw_size(kernel, rng), real, parts, seed)


def holds_nothing(argument: Argument) -> bool:
    """Whether an array may hold anything before a call, because the kernel must not read it."""
    return argument.role in {"output", "scratch"}


def is_output(argument: Argument) -> bool:
    """Whether a kernel fills an array; a packed matrix may have room that it does not use."""
    return argument.role in {"output", "updated", "added"} and argument.name not in {"packed", "prepared"}


def lay_out(case: Case, memory: Heap | Pages, poison: float | None) -> list[Any]:
    """A case's arguments in this memory. Arrays that must not be read are filled with ``poison``, if any."""
    arguments: list[Any] = []
    drawn = draw_arguments(case.kernel, case.size, case.real, case.seed, case.shape, case.parts)
    for argument, value in zip(case.kernel.arguments, drawn, strict=True):
        if not isinstance(value, np.ndarray):
            arguments.append(value)
            continue
        array = memory.array(value.shape, value.dtype)
        if argument.name == "barrier":
            array[...] = 0
        elif not holds_nothing(argument):
            array[...] = value
        elif poison is not None:
            array[...] = poison if array.dtype.kind == "f" else 77
        arguments.append(array)
    return arguments


def call(backend: Backend, case: Case, arguments: list[Any]) -> None:
    """Call each part of a kernel; if the parts wait for each other, call them at the same time."""
    names = [argument.name for argument in case.kernel.arguments]

    def work(part: int) -> None:
        own = list(arguments)
        if "parts" in names:
            own[names.index("part")], own[names.index("parts")] = part, case.parts
        contract.call(backend, case.kernel.name, own)

    if "barrier" in names:
        team.run(case.parts, work)
    else:
        for part in range(case.parts):
            work(part)


def outputs(case: Case, arguments: list[Any]) -> list[Array]:
    return [
        a
        for argument, a in zip(case.kernel.arguments, arguments, strict=True)
        if argument.is_array and is_output(argument)
    ]


def check(backend: Backend, case: Case) -> None:
    """Call a kernel with each filling of the memory; all must give the same bits."""
    found = set()
    for memory, poison in itertools.product((Heap(), Pages(at_end=True), Pages(at_end=False)), POISONS):
        arguments = lay_out(case, memory, poison)
        call(backend, case, arguments)
        found.add(b"".join(array.tobytes() for array in outputs(case, arguments)))
        del arguments
        memory.free()
    if len(found) != 1:
        sys.exit(f"{case}: the contents of memory that it must not read change its results")


def check_defined(backend: Backend, case: Case) -> None:
    """Call a kernel on uninitialized blocks of malloc, and let valgrind check all its results."""
    memory = Heap()
    arguments = lay_out(case, memory, None)
    call(backend, case, arguments)
    for array in outputs(case, arguments):
        same = array.tobytes()
        libc.memcmp(array.ctypes.data, same, len(same))
    del arguments
    memory.free()


# ---- Backends ----------------------------------------------------------------------------------------


def builds(folder: Path) -> Iterator[Backend]:
    """The C builds in a folder that this processor can run."""
    level = 0
    for isa in ("baseline", "v3", "v4"):
        path = next(folder.glob(f"_c_{isa}.*"), None)
        if path is None or (isa != "baseline" and int(isa[1:]) > level):
            continue
        spec = importlib.util.spec_from_file_location(f"fastrnn.backends._c_{isa}", path)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        level = level or module.lib.fr_processor_level()
        bound = {kernel.name: c.CKernel(module, kernel) for kernel in kernels()}
        yield Backend(f"c {isa}", Description(isa, 0, fma=False), bound)


team = Team()


def main() -> None:
    """Check the C builds in a folder, or a backend."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", help="a folder with C builds, or a backend's name")
    parser.add_argument("--cases", type=int, default=40, help="calls of each kernel in each precision")
    parser.add_argument("--valgrind", action="store_true", help="for a run under valgrind's memcheck")
    parser.add_argument("--verbose", action="store_true", help="print each case before it runs")
    options = parser.parse_args()
    folder = Path(options.what)
    each: Callable[[Backend, Case], None] = check_defined if options.valgrind else check
    found = list(builds(folder)) if folder.is_dir() else [get_backend(options.what)]
    assert found, f"{folder} has no C build"
    for backend in found:
        done = Counter[str]()
        for case in cases(options.cases):
            if options.verbose:
                print(backend.name, case, flush=True)
            each(backend, case)
            done[case.kernel.name] += 1
        assert set(done) == {kernel.name for kernel in kernels()}
        print(f"{backend.name}: {sum(done.values())} calls of {len(done)} kernels", flush=True)


if __name__ == "__main__":
    main()
