"""The backends: three implementations of the kernels that ``csrc/fastrnn.h`` states.

``numpy`` is the reference, always there and slow; ``c`` and ``numba`` are compiled. A `Backend` holds
the kernels of one of them, each as a function of arrays and sizes that raises when the kernel reports
a failure. Backends are loaded when they are first asked for, never on import.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from fastrnn import checks
from fastrnn.errors import BackendUnavailableError

logger = logging.getLogger("fastrnn")
logger.addHandler(logging.NullHandler())

KERNELS = (
    "elementary",
    "pack",
    "embedding_forward",
    "embedding_gradients",
    "gather_forward",
    "gather_gradients",
    "linear_forward",
    "linear_gradients",
    "recurrent_gradients",
    "dropout",
    "rnn_forward",
    "rnn_backward",
    "gru_forward",
    "gru_backward",
    "gru_gradients",
    "lstm_forward",
    "lstm_backward",
    "cross_entropy",
    "gradient_norm",
    "sgd_update",
    "adagrad_update",
    "adam_update",
    "rmsprop_update",
    "average_update",
    "network_forward",
    "network_losses",
    "network_gradients",
    "train_windows",
    "network_prepare",
    "network_step",
    "sample",
)

STATUS = {
    1: "a size is out of range",
    2: "a symbol's id is outside the vocabulary",
    3: "there is no such cell, optimizer or function",
    4: "another thread was interrupted",
}

Kernel = Callable[..., int]


@dataclass(frozen=True)
class Description:
    """What a backend runs on: its vectors' width in bits (0: not known) and fused multiply-adds.

    ``shares_work`` is whether its kernels divide their work into parts, for threads.
    """

    version: str
    vector_bits: int
    fma: bool
    shares_work: bool = True


class Backend(checks.Sealed):
    """The kernels of one implementation: each is an attribute, a function that raises on failure."""

    name: Final[str]
    description: Final[Description]

    def __init__(self, name: str, description: Description, kernels: Mapping[str, Kernel]) -> None:
        self.name = name
        self.description = description
        vars(self).update({kernel: self._checked(kernel, function) for kernel, function in kernels.items()})

    def _checked(self, kernel_name: str, kernel: Kernel) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            status = kernel(*arguments)
            if status != 0:
                raise RuntimeError(f"kernel {kernel_name} of {self.name}: {STATUS.get(status, status)}")

        return call

    if TYPE_CHECKING:

        def __getattr__(self, kernel_name: str) -> Callable[..., None]: ...

    def __reduce__(self) -> tuple[Callable[[str], Backend], tuple[str]]:
        return get_backend, (self.name,)

    def __repr__(self) -> str:
        return f"<fastrnn backend {self.name!r}: {self.description.version}>"


def forced_isa(runs_here: Sequence[str]) -> str | None:
    """Return the instruction set that the environment variable ``FASTRNN_ISA`` forces, if any, for tests.

    It is ``v4``, ``v3`` or ``baseline``, as the builds of C are called, and compiled backends obey it.

    Raises
    ------
    BackendUnavailableError
        The processor does not run it, or there is none of that name.
    """
    isa = os.environ.get("FASTRNN_ISA")
    if isa and isa not in runs_here:
        raise BackendUnavailableError(
            f"FASTRNN_ISA={isa!r} is no instruction set that this processor runs; "
            f"it is one of {', '.join(runs_here)}, or is not set"
        )
    return isa or None


def _load_numpy() -> Backend:
    import numpy as np

    from fastrnn.backends import reference

    # as silent as the compiled kernels: what overflows is seen in the loss
    silent = np.errstate(all="ignore")
    kernels = {name: silent(getattr(reference, name)) for name in KERNELS}
    return Backend("numpy", Description(f"NumPy {np.__version__}", 0, fma=False, shares_work=False), kernels)


def _load_numba() -> Backend:
    try:
        import numba
    except ImportError as error:
        raise BackendUnavailableError(
            f"backend='numba' needs Numba, which cannot be imported here ({error}); "
            "`pip install numba` gets it where Numba has a wheel, and backend='c' needs none"
        ) from error
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]  # set while Numba is imported
        raise BackendUnavailableError(
            "backend='numba' needs Numba's compiler, which NUMBA_DISABLE_JIT switches off; unset it"
        )
    module = importlib.import_module("fastrnn.backends.numba")
    kernels = {name: getattr(module, name) for name in KERNELS}
    description = Description(f"Numba {numba.__version__}", *module.processor())
    return Backend("numba", description, kernels)


def _load_c() -> Backend:
    from fastrnn.backends import c

    return c.load()


_LOADERS: dict[str, Callable[[], Backend]] = {"c": _load_c, "numba": _load_numba, "numpy": _load_numpy}

#: The backends by name, in the order in which ``"auto"`` tries them.
BACKENDS = tuple(_LOADERS)

#: Why ``"auto"`` takes a backend, in a few words.
AUTO_REASONS = {
    "c": "about as fast as numba, and nothing to compile",
    "numba": "c is missing",
    "numpy": "c and numba are missing",
}


@cache
def _load(name: str) -> Backend:
    return _LOADERS[name]()


def get_backend(name: str = "auto") -> Backend:
    """Return a backend by name.

    ``"auto"`` is c where it was compiled, else numba where it can be imported, else numpy. C and Numba are
    about as fast and give the same bits; Numba takes a second to import, and compiles at its first use.

    Raises
    ------
    ValueError
        There is no backend of that name.
    BackendUnavailableError
        The backend cannot run here; the message says what is missing.
    """
    if name == "auto":
        return _find_first()
    if not isinstance(name, str) or name not in _LOADERS:
        allowed = ", ".join(repr(known) for known in ("auto", *BACKENDS))
        raise ValueError(f"backend={name!r} is not known; it is one of {allowed}")
    return _load(name)


@cache
def _find_first() -> Backend:
    """The first backend that is there; where that is not the first of all, the log says why, once."""
    reasons: list[str] = []
    while isinstance(found := find_backend(BACKENDS[len(reasons)]), str):
        reasons.append(found)
    if found.name == "numpy":
        logger.warning("no compiled backend is here, and numpy is slow: %s", "; ".join(reasons))
    elif reasons:
        logger.info("backend='auto' takes %s: %s", found.name, "; ".join(reasons))
    return found


def find_backend(name: str) -> Backend | str:
    """Return a backend, or the reason why it is missing."""
    try:
        return get_backend(name)
    except BackendUnavailableError as error:
        return str(error)
