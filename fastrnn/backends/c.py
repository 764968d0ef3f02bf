"""The kernels of ``csrc/fastrnn.h``, compiled from ``csrc`` and called through cffi.

The package holds one cffi module for each instruction set that the compiler supported. This module chooses
the fastest one that the processor can run. It checks the type and the memory of every array before it passes
a pointer. `Network` and `Trainer` check the sizes.
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
from fastrnn.backends.contract import KERNELS, Kernel
from fastrnn.errors import BackendUnavailableError

DOUBLE: np.dtype[Any] = np.dtype(np.float64)
PRECISIONS: dict[str, np.dtype[Any]] = {"_f32": np.dtype(np.float32), "_f64": DOUBLE}

#: The dtypes of arrays by their C type, except ``real``.
DTYPES: dict[str, np.dtype[Any]] = {
    "double": np.dtype(np.float64),
    "int32_t": np.dtype(np.int32),
    "int64_t": np.dtype(np.int64),
    "uint8_t": np.dtype(np.uint8),
}

C_TYPES = {dtype: c_type for c_type, dtype in DTYPES.items()} | {np.dtype(np.float32): "float"}


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
            f"backend='c' was not compiled when fastrnn was installed ({error}); install a C compiler and "
            "Python's headers (Debian: gcc, python3-dev), then install fastrnn again from its source"
        ) from error
    level = baseline.lib.fr_processor_level()
    runs_here = [*(f"v{n}" for n in range(level, 2, -1)), "baseline"]
    forced = forced_isa(runs_here)
    for isa in [forced] if forced else runs_here:
        try:
            return isa, _import_build(isa)
        except ImportError as error:  # the compiler did not support this instruction set
            if forced:
                raise BackendUnavailableError(f"FASTRNN_ISA={forced!r}: {error}") from error
    return "baseline", baseline


def _array_converter(ffi: Any, expected: np.dtype[Any]) -> Callable[[NDArray[Any]], Any]:
    """A function that returns a pointer to an array's memory; it refuses an array of another dtype."""
    from_buffer, array_type = ffi.from_buffer, ffi.typeof(f"{C_TYPES[expected]}[]")

    def convert(array: NDArray[Any]) -> Any:
        if array.dtype is not expected and array.dtype != expected:  # usually each dtype is one object
            raise TypeError(f"a kernel needs an array of {expected}, and got {array.dtype}")
        # raises if the array is not contiguous, or is read-only
        return from_buffer(array_type, array, True)

    return convert


class CKernel:
    """A kernel as a function for its precisions; the dtype of its first array of reals selects one."""

    def __init__(self, module: ModuleType, kernel: Kernel) -> None:
        self._functions: dict[np.dtype[Any], tuple[Any, list[tuple[int, Callable[[NDArray[Any]], Any]]]]] = {}
        for suffix, dtype in (PRECISIONS if kernel.has_reals else {"": DOUBLE}).items():
            converters = [
                (position, _array_converter(module.ffi, DTYPES.get(argument.c_type, dtype)))
                for position, argument in enumerate(kernel.arguments)
                if argument.is_array
            ]
            self._functions[dtype] = getattr(module.lib, f"fr_{kernel.name}{suffix}"), converters
        reals = [i for i, argument in enumerate(kernel.arguments) if argument.c_type == "real"]
        self._first = reals[0] if reals else None

    def __call__(self, *given: Any) -> int:
        function, converted = self._converted(given)
        return function(*converted)  # type: ignore[no-any-return]

    def bound(self, *leading: Any) -> Callable[..., int]:
        """The kernel with all its arrays, which are converted once; the function takes the last numbers."""
        function, converted = self._converted(leading)
        return partial(function, *converted)

    def _converted(self, given: tuple[Any, ...]) -> tuple[Any, list[Any]]:
        """The C function, and the arguments with pointers in place of arrays."""
        converted = list(given)
        try:
            found = DOUBLE if self._first is None else given[self._first].dtype
            function, converters = self._functions[found]
        except KeyError:
            raise TypeError(f"a kernel needs arrays of float32 or float64, and got {found}") from None
        for position, convert in converters:
            converted[position] = convert(converted[position])
        return function, converted


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
    return Backend("c", description, {name: CKernel(module, kernel) for name, kernel in KERNELS.items()})
