"""The kernels of ``csrc/fastrnn.h``, compiled from ``csrc`` and called through cffi.

The package holds one cffi module for each instruction set that its compiler knew. This module picks
the fastest one that the processor runs, and checks the type and the memory of every array before a
pointer to it is passed; that the sizes fit is the business of `Network` and `Trainer`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.backends.backend import Backend, Description, forced_isa
from fastrnn.backends.contract import KERNELS
from fastrnn.errors import BackendUnavailableError

PRECISIONS: dict[str, np.dtype[Any]] = {"f32": np.dtype(np.float32), "f64": np.dtype(np.float64)}

#: Array types by the C type of their elements.
DTYPES: dict[str, np.dtype[Any]] = {
    "float": np.dtype(np.float32),
    "double": np.dtype(np.float64),
    "int32_t": np.dtype(np.int32),
    "int64_t": np.dtype(np.int64),
    "uint8_t": np.dtype(np.uint8),
}


def _import_build(isa: str) -> ModuleType:
    return importlib.import_module(f"fastrnn.backends._c_{isa}")


def _choose_build() -> tuple[str, ModuleType]:
    """The name and the module of the fastest build that is installed and that the processor runs.

    The environment variable ``FASTRNN_ISA`` forces one of them.
    """
    try:
        baseline = _import_build("baseline")
    except ImportError as error:
        raise BackendUnavailableError(
            f"backend='c' was not compiled when fastrnn was installed ({error}); with a C compiler and "
            "Python's headers present (Debian: gcc, python3-dev), installing fastrnn again from its source "
            "compiles it"
        ) from error
    level = baseline.lib.fr_processor_level()
    runs_here = [*(f"v{n}" for n in range(level, 2, -1)), "baseline"]
    forced = forced_isa(runs_here)
    for isa in [forced] if forced else runs_here:
        try:
            return isa, _import_build(isa)
        except ImportError as error:  # a compiler that could not build for it
            if forced:
                raise BackendUnavailableError(f"FASTRNN_ISA={forced!r}: {error}") from error
    return "baseline", baseline


def _array_converter(ffi: Any, c_type: str) -> Callable[[NDArray[Any]], Any]:
    """A function from an array to a pointer to its memory, which refuses what the kernel cannot read."""
    expected = DTYPES[c_type]
    array_type = ffi.typeof(f"{c_type}[]")

    def convert(array: NDArray[Any]) -> Any:
        if array.dtype != expected:
            raise TypeError(f"a kernel wants an array of {expected}, and was given {array.dtype}")
        # raises where the array is not contiguous, or read-only
        return ffi.from_buffer(array_type, array, require_writable=True)

    return convert


def _bind(ffi: Any, function: Any) -> Callable[..., int]:
    """The C function as a function of arrays and numbers."""
    converters = [
        (position, _array_converter(ffi, argument.item.cname))
        for position, argument in enumerate(ffi.typeof(function).args)
        if argument.kind == "pointer"
    ]

    def call(*arguments: Any) -> int:
        converted = list(arguments)
        for position, convert in converters:
            converted[position] = convert(converted[position])
        return int(function(*converted))

    return call


def _dispatch(by_dtype: dict[np.dtype[Any], Callable[..., int]], position: int, *arguments: Any) -> int:
    """Call the function for the precision of the array at this position."""
    dtype = arguments[position].dtype
    if dtype not in by_dtype:
        raise TypeError(f"a kernel wants arrays of float32 or float64, and was given {dtype}")
    return by_dtype[dtype](*arguments)


def _bind_kernel(module: ModuleType, name: str) -> Callable[..., int]:
    """One kernel for both precisions, told apart by the first argument in which they differ."""
    functions = {suffix: getattr(module.lib, f"fr_{name}_{suffix}") for suffix in PRECISIONS}
    argument_types = [module.ffi.typeof(function).args for function in functions.values()]
    position = next(i for i, types in enumerate(zip(*argument_types, strict=True)) if len(set(types)) > 1)
    by_dtype = {PRECISIONS[suffix]: _bind(module.ffi, function) for suffix, function in functions.items()}
    return partial(_dispatch, by_dtype, position)


def load() -> Backend:
    """Load the fastest build that this processor runs.

    Raises
    ------
    BackendUnavailableError
        fastrnn was installed without a C compiler.
    """
    isa, module = _choose_build()
    description = Description(
        f"C build {isa}", module.lib.fr_vector_bits(), fma=bool(module.lib.fr_has_fma())
    )
    return Backend("c", description, {name: _bind_kernel(module, name) for name in KERNELS})
