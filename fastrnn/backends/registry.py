"""The backends: three implementations of the kernels in ``csrc/fastrnn.h``.

``numpy`` is the reference, which is always there and slow; ``c`` and ``numba`` are compiled. A `Backend`
holds the kernels of one of them, as methods that raise an error if the kernel reports a failure. A backend is
loaded when it is first needed, never on import.
"""

from __future__ import annotations

import copyreg
import importlib
import logging
from collections.abc import Callable
from functools import cache

from fastrnn.backends.backend import Backend, Description
from fastrnn.backends.contract import KERNELS
from fastrnn.errors import BackendUnavailableError

logger = logging.getLogger("fastrnn")
logger.addHandler(logging.NullHandler())


def _load_numpy() -> Backend:
    import numpy as np

    from fastrnn.backends import reference

    # no warnings, like the compiled kernels: the loss shows an overflow
    silent = np.errstate(all="ignore")
    kernels = {name: silent(getattr(reference, name)) for name in KERNELS}
    return Backend("numpy", Description(f"NumPy {np.__version__}", 0, fma=False, shares_work=False), kernels)


def _load_numba() -> Backend:
    try:
        import numba
    except ImportError as error:
        raise BackendUnavailableError(
            f"backend='numba' needs Numba, which cannot be imported here ({error}); "
            "run `pip install numba`, or use backend='c', which does not need Numba"
        ) from error
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]  # set while Numba is imported
        raise BackendUnavailableError(
            "backend='numba' needs Numba's compiler, and NUMBA_DISABLE_JIT disables it; unset this variable"
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

#: Why ``"auto"`` chooses a backend, in a few words.
AUTO_REASONS = {
    "c": "it is about as fast as numba, and needs no compilation at first use",
    "numba": "c is missing",
    "numpy": "c and numba are missing",
}


@cache
def _load(name: str) -> Backend:
    return _LOADERS[name]()


def get_backend(name: str = "auto") -> Backend:
    """Return a backend by name.

    ``"auto"`` is c if it was compiled, else numba if it can be imported, else numpy. C and Numba are about
    equally fast and give the same bits. Numba takes a second to import, and compiles at its first use.

    Raises
    ------
    ValueError
        The name is not known.
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
    """The first backend that can be loaded. If others failed before it, the reasons are logged once."""
    reasons: list[str] = []
    while isinstance(found := find_backend(BACKENDS[len(reasons)]), str):
        reasons.append(found)
    if found.name == "numpy":
        logger.warning("no compiled backend can be loaded, and numpy is slow: %s", "; ".join(reasons))
    elif reasons:
        logger.info("backend='auto' chooses %s: %s", found.name, "; ".join(reasons))
    return found


def find_backend(name: str) -> Backend | str:
    """Return a backend, or the reason why it cannot be loaded."""
    try:
        return get_backend(name)
    except BackendUnavailableError as error:
        return str(error)


def _reduced(backend: Backend) -> tuple[Callable[[str], Backend], tuple[str]]:
    """Let pickle and copy store a backend's name, and load the backend by it."""
    return get_backend, (backend.name,)


copyreg.pickle(Backend, _reduced)
