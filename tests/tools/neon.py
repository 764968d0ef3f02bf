"""The bits and the inner loop of the kernels on aarch64: ``make neon``.

The kernels and a small driver are compiled for aarch64, with GCC and, where it is installed, with Clang. The
driver runs under qemu-aarch64: it calls every kernel at odd sizes, and trains networks. The C backend of this
machine does the same, and must give the same bits; only the payload of a NaN is the processor's own. Then the
instructions of the tile's loop over k are counted, and the loop must not touch the stack.
"""

from __future__ import annotations

import argparse
import itertools
import re
import shutil
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from helpers import contract
from helpers.contract import Kernel
from sanitize import Array, Case, cases, holds_nothing, is_output
from test_kernels import draw_arguments, whole_size

from fastrnn.backends.backend import Backend
from fastrnn.backends.c import PRECISIONS
from fastrnn.backends.contract import KERNELS
from fastrnn.backends.registry import get_backend
from fastrnn.core.constants import CELL_NAMES, FUNCTIONS
from fastrnn.core.layout import Shape
from fastrnn.optimizers import OPTIMIZERS

ROOT = Path(__file__).parents[2]
OBJDUMP, QEMU = "aarch64-linux-gnu-objdump", "qemu-aarch64"
COMPILERS = {"gcc": ["aarch64-linux-gnu-gcc"], "clang": ["clang", "--target=aarch64-linux-gnu"]}

#: A branch as objdump shows it; what the tile's loop must not hold: stores and copies of a lane.
BRANCH = r"(?:b|bl|b\.\w+|cbn?z|tbn?z)\s"
REFUSED = {"str", "stp", "mov", "dup", "ld1r"}

#: What the driver does: it reads programs, carries out their calls, and writes the arrays that they give.
DRIVER = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
DECLARATIONS
typedef union { int64_t whole; double real; } value;
static void *arrays[64];
static int32_t call(int64_t function, const value *a)
{
    switch (function) {
CALLS
    }
    return -1;
}
static int64_t next(void)
{
    int64_t x;
    if (fread(&x, sizeof x, 1, stdin) != 1)
        exit(2);
    return x;
}
int main(void)
{
    for (int64_t programs = next(); programs > 0; programs--) {
        const int64_t count = next();
        for (int64_t i = 0; i < count; i++) {
            const int64_t bytes = next(), holds = next();
            arrays[i] = aligned_alloc(64, (size_t)(bytes + 64) / 64 * 64);
            memset(arrays[i], 0xff, (size_t)bytes);
            if (holds && fread(arrays[i], 1, (size_t)bytes, stdin) != (size_t)bytes)
                return 2;
        }
        for (int64_t calls = next(); calls > 0; calls--) {
            value arguments[64];
            const int64_t function = next(), length = next();
            for (int64_t i = 0; i < length; i++)
                arguments[i].whole = next();
            if (call(function, arguments) != 0)
                return 3;
        }
        for (int64_t outputs = next(); outputs > 0; outputs--) {
            const int64_t i = next(), bytes = next();
            fwrite(arrays[i], 1, (size_t)bytes, stdout);
        }
        for (int64_t i = 0; i < count; i++)
            free(arrays[i]);
    }
    return 0;
}
"""


# ---- Programs ----------------------------------------------------------------------------------------


@dataclass
class Program:
    """Some calls of kernels with arrays that they share; those of ``empty`` hold nothing at first."""

    name: str
    real: Any
    calls: list[tuple[Kernel, list[Any]]]
    outputs: list[Array]
    empty: list[Array]

    def arrays(self) -> list[Array]:
        """Each array once."""
        found = {id(a): a for _, arguments in self.calls for a in arguments if isinstance(a, np.ndarray)}
        return list(found.values())


def program_of(case: Case) -> Program:
    """A case's call in all its parts, after those that pack what it reads."""
    kernel = case.kernel
    arguments = draw_arguments(kernel, case.size, case.real, case.seed, case.shape, case.parts)
    names = [argument.name for argument in kernel.arguments]
    given = dict(zip(names, arguments, strict=True))
    if "barrier" in given:
        given["barrier"][...] = 0
    if "params" in given and "plan" in given:
        given["params"] *= case.real(0.1)
    before: list[tuple[Kernel, list[Any]]] = []
    for argument in kernel.arguments:
        if argument.name == "packed" and argument.role == "input":
            size = whole_size(case.size)
            K, J = (size[letter.removesuffix("32")] for letter in argument.shape)
            weight = np.ascontiguousarray(given["packed"][:, :J])
            before.append((KERNELS["pack"], [given["packed"], weight, 0, 0, 1, K, J]))
        elif argument.name == "prepared" and argument.role == "input":
            prepare = [given[name] for name in ("prepared", "params", "plan")]
            before.append((KERNELS["network_prepare"], prepare))
    calls = []
    for part in range(case.parts):
        own = given | ({"part": part, "parts": case.parts} if "parts" in given else {})
        calls.append((kernel, [own[name] for name in names]))
    made = [a for a in kernel.arguments if a.is_array]
    outputs = [given[argument.name] for argument in made if is_output(argument)]
    empty = [given[argument.name] for argument in made if holds_nothing(argument)]
    return Program(str(case), case.real, before + calls, outputs, empty)


def trainings() -> Iterator[Case]:
    """Some windows of every cell with every optimizer, in networks of each kind."""
    kernel = KERNELS["train_windows"]
    networks = itertools.cycle([(1, 0, False), (2, 13, False), (3, 37, True), (1, 64, True)])
    for seed, (cell, optimizer) in enumerate(itertools.product(CELL_NAMES, OPTIMIZERS.values())):
        layers, embedding, tied = next(networks)
        H = embedding if tied else (40, 9, 67)[seed % 3]
        size = {"T": 6, "B": (1, 5, 13)[seed % 3], "V": 29, "H": H, "S": 20, "W": 8, "A": seed % 2}
        size |= {"optimizer": optimizer().number, "M": optimizer().moments, "first": 0}
        size |= {"reduction": seed % 3, "dropout": (0.0, 0.3)[seed % 2]}
        for real in (np.float32, np.float64):
            yield Case(kernel, size, Shape(cell, layers, 29, embedding, H, tied), real, 1, seed)


def functions() -> Iterator[Program]:
    """The elementary functions of numbers of every kind: random bits."""
    rng = np.random.default_rng(0)
    for function, real in itertools.product(range(len(FUNCTIONS)), (np.float32, np.float64)):
        x = rng.integers(0, 256, 10_000 * np.dtype(real).itemsize, np.uint8).view(real)
        y = np.zeros_like(x)
        call = (KERNELS["elementary"], [y, x, function, len(x)])
        yield Program(f"elementary function {function} {real.__name__}", real, [call], [y], [y])


def programs(count: int) -> list[Program]:
    """All programs: so many calls of each kernel in each precision, trainings, elementary functions."""
    odd = []
    for case in cases(count):
        waits = any(argument.name == "barrier" for argument in case.kernel.arguments)
        odd.append(replace(case, parts=1) if waits else case)
    return [*map(program_of, [*odd, *trainings()]), *functions()]


def written(program: Program) -> bytes:
    """A program as the driver reads it."""
    arrays = program.arrays()
    index = {id(array): position for position, array in enumerate(arrays)}
    empty = {id(array) for array in program.empty}
    suffix = list(PRECISIONS.values()).index(np.dtype(program.real))
    kernels = list(KERNELS)
    parts = [struct.pack("<q", len(arrays))]
    for array in arrays:
        parts.append(struct.pack("<qq", array.nbytes, id(array) not in empty))
        if id(array) not in empty:
            parts.append(array.tobytes())
    parts.append(struct.pack("<q", len(program.calls)))
    for kernel, arguments in program.calls:
        parts.append(struct.pack("<qq", 2 * kernels.index(kernel.name) + suffix, len(arguments)))
        for argument, value in zip(kernel.arguments, arguments, strict=True):
            if argument.is_array:
                parts.append(struct.pack("<q", index[id(value)]))
            else:
                parts.append(struct.pack("<d" if argument.c_type == "double" else "<q", value))
    parts.append(struct.pack("<q", len(program.outputs)))
    parts.extend(struct.pack("<qq", index[id(array)], array.nbytes) for array in program.outputs)
    return b"".join(parts)


def carried_out(program: Program, backend: Backend) -> list[Array]:
    """What a program gives on this machine."""
    own = {id(array): array.copy() for array in program.arrays()}
    for kernel, arguments in program.calls:
        contract.call(backend, kernel.name, [own.get(id(value), value) for value in arguments])
    return [own[id(array)] for array in program.outputs]


def same_bits(one: Array, other: Array) -> bool:
    """Whether two arrays have the same bits, but for those of NaN."""
    if one.dtype.kind != "f":
        return one.tobytes() == other.tobytes()
    nan = np.isnan(one)
    return bool((nan == np.isnan(other)).all()) and one[~nan].tobytes() == other[~nan].tobytes()


# ---- aarch64 -----------------------------------------------------------------------------------------


def run(command: Sequence[str | Path], data: bytes | None = None) -> bytes:
    """What a command prints; fail where it fails."""
    return subprocess.run([*map(str, command)], input=data, stdout=subprocess.PIPE, check=True).stdout


def driver_source() -> str:
    """The driver with a call for each kernel in each precision."""
    sys.path.insert(0, str(ROOT / "csrc"))
    from generate_cffi import all_declarations

    calls = []
    for number, kernel in enumerate(KERNELS.values()):
        for suffix, precision in enumerate(PRECISIONS):
            passed = ", ".join(
                f"arrays[a[{i}].whole]"
                if argument.is_array
                else f"a[{i}].{'real' if argument.c_type == 'double' else 'whole'}"
                for i, argument in enumerate(kernel.arguments)
            )
            calls.append(f"    case {2 * number + suffix}: return fr_{kernel.name}_{precision}({passed});")
    return DRIVER.replace("DECLARATIONS", all_declarations()).replace("CALLS", "\n".join(calls))


def build(compiler: list[str], folder: Path) -> Path:
    """Compile kernels and driver as CMake does; return the program."""
    folder.mkdir(parents=True, exist_ok=True)
    strict = re.search(r"set\(strict (.*?)\)", (ROOT / "csrc/CMakeLists.txt").read_text())
    assert strict is not None
    flags, objects = strict[1].split(), []
    for bits, source in itertools.product((32, 64), sorted((ROOT / "csrc").glob("*.c"))):
        if bits == 64 and source.stem == "build_info":
            continue
        objects.append(folder / f"{source.stem}{bits}.o")
        run([*compiler, "-std=c11", *flags, "-Werror", f"-DFR_BITS={bits}", "-c", source, "-o", objects[-1]])
    (folder / "driver.c").write_text(driver_source())
    run([*compiler, "-O1", "-static", folder / "driver.c", *objects, "-lm", "-o", folder / "driver"])
    return folder / "driver"


def tile_loop(object_file: Path) -> list[str]:
    """The instructions of the innermost loop that has the most fused multiply-adds."""
    listing = run([OBJDUMP, "-d", "--no-show-raw-insn", object_file]).decode()
    code = re.findall(r"^ *([0-9a-f]+):\t(.*)$", listing, re.MULTILINE)
    position_of = {address: position for position, (address, _) in enumerate(code)}
    loops = []
    for last, (_, instruction) in enumerate(code):
        jump = re.match(rf"{BRANCH}.*\b([0-9a-f]+) <", instruction)
        first = position_of[jump[1]] if jump else last + 1
        body = [text for _, text in code[first : last + 1]]
        if body and not any(re.match(rf"{BRANCH}|ret", text) for text in body[:-1]):
            loops.append(body)
    return max(loops, key=lambda body: sum(text.startswith("fmla") for text in body))


def check_tile(object_file: Path) -> str:
    """Count the instructions of the tile's loop; fail where it touches the stack or copies a lane."""
    body = tile_loop(object_file)
    counts = Counter(text.split()[0] for text in body)
    counted = ", ".join(f"{n} {name}" for name, n in counts.most_common())
    if any(re.search(r"\[(sp|x29)", text) for text in body) or counts.keys() & REFUSED:
        sys.exit(f"{object_file}: the tile's loop does more than load and multiply: {counted}")
    return counted


def check(name: str, folder: Path, all_programs: list[Program], expected: list[list[Array]]) -> None:
    """Compile with one compiler, compare bits, and count instructions."""
    driver = build(COMPILERS[name], folder)
    text = struct.pack("<q", len(all_programs)) + b"".join(map(written, all_programs))
    found, offset = run([QEMU, driver], text), 0
    for program, arrays in zip(all_programs, expected, strict=True):
        for array in arrays:
            own = np.frombuffer(found, array.dtype, array.size, offset)
            offset += array.nbytes
            if not same_bits(own, array.ravel()):
                sys.exit(f"{name}: {program.name}: other bits on aarch64")
    assert offset == len(found)
    print(f"{name}: {len(all_programs)} programs have the same bits on aarch64", flush=True)
    for bits in (32, 64):
        counted = check_tile(folder / f"linear{bits}.o")
        print(f"{name}, float{bits}, a step of the tile: {counted}", flush=True)


def main() -> None:
    """Check with each compiler that is installed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=10, help="of each kernel in either precision")
    options = parser.parse_args()
    missing = [tool for tool in (COMPILERS["gcc"][0], OBJDUMP, QEMU) if shutil.which(tool) is None]
    if missing:
        sys.exit(f"{', '.join(missing)} not found; Debian: apt install qemu-user gcc-aarch64-linux-gnu")
    all_programs = programs(options.cases)
    backend = get_backend("c")
    expected = [carried_out(program, backend) for program in all_programs]
    print(f"compared with {backend.description.version}", flush=True)
    for name, (executable, *_) in COMPILERS.items():
        if shutil.which(executable):
            check(name, ROOT / "build" / "neon" / name, all_programs, expected)
        else:
            print(f"{name}: not found")


if __name__ == "__main__":
    main()
