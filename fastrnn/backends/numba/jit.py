"""How kernels are compiled: for which processor, with which options, and where they are cached."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import llvmlite.binding
import numba
from numba.core.registry import cpu_target

from fastrnn.backends.backend import forced_isa
from fastrnn.backends.kernel_cache import cache_on_disk
from fastrnn.errors import BackendUnavailableError


def jit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile without the GIL and without exceptions, with a cache where one can be written."""
    compiled = numba.njit(nogil=True, error_model="numpy", **options)(function)
    if STAMP[-1] is not None:
        cache_on_disk(compiled, STAMP)
    return cast("Callable[..., Any]", compiled)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, as a part of each kernel that calls it: what Numba compiles apart it compiles twice."""
    return jit(function, inline="always")


#: The instruction sets that FASTRNN_ISA may force, as LLVM names a processor and features.
TARGETS = {
    "v4": ("x86-64-v4", "+avx512f,+fma,-prefer-256-bit"),
    "v3": ("x86-64-v3", "+avx2,+fma"),
    "baseline": ("x86-64", "+sse2"),
}


def forced_here() -> str | None:
    """The instruction set that FASTRNN_ISA forces, by the same rules as for the C backend."""
    has = llvmlite.binding.get_host_cpu_features()
    v3 = all(has.get(name) for name in ("avx2", "fma", "bmi", "bmi2"))
    v4 = v3 and all(has.get(f"avx512{name}") for name in ("f", "bw", "cd", "dq", "vl"))
    return forced_isa([isa for isa, runs in (("v4", v4), ("v3", v3), ("baseline", True)) if runs])


def choose_target() -> frozenset[str]:
    """The features that Numba compiles for: the processor's, or for the whole process those that are forced.

    Numba makes its compiler when it first compiles, and keeps the target in the keys of its cache.
    """
    forced = FORCED if platform.machine() in {"x86_64", "AMD64"} else None
    if forced:
        config = cast("Any", numba.config)
        config.CPU_NAME, config.CPU_FEATURES = TARGETS[forced]
    _, *target = cpu_target.target_context.codegen().magic_tuple()
    if forced and tuple(target) != TARGETS[forced]:
        raise BackendUnavailableError(
            f"FASTRNN_ISA={forced!r} comes too late for backend='numba': Numba has compiled for {target[0]} "
            "in this process; load the backend before anything else uses Numba"
        )
    return frozenset(name[1:] for name in target[1].split(",") if name.startswith("+"))


def processor() -> tuple[int, bool]:
    """The widest vectors, in bits, that the kernels have (0: not known), and whether the processor fuses."""
    if forced_here() != FORCED:
        raise BackendUnavailableError(
            f"FASTRNN_ISA={forced_here()!r} comes too late for backend='numba', which was loaded in this "
            f"process with {FORCED!r}"
        )
    widths = {"avx512f": 512, "avx2": 256, "avx": 256, "sse2": 128, "neon": 128}
    bits = max((width for name, width in widths.items() if name in FEATURES), default=0)
    return bits, not FEATURES.isdisjoint({"fma", "neon"})


FORCED = forced_here()
FEATURES = choose_target()
WIDTH, FUSES = max(processor()[0], 128), processor()[1]


def folder_stamp() -> dict[str, str] | None:
    """The names and digests of the files of this folder; ``None`` where the package is in no folder."""
    folder = Path(__file__).parent
    if not folder.is_dir():
        return None
    files = sorted(path for path in folder.iterdir() if path.suffix in {".py", ".pyc"})
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


#: What a compiled kernel depends on beside its own bytecode, its signature and the processor. A kernel
#: contains what it calls, so a change in any file of this folder may change it.
STAMP = (numba.__version__, WIDTH, folder_stamp())
