"""Memory: a check that an array fits before it is allocated, and arrays that are aligned for vectors.

A user who has a view of an array cannot free its memory while a kernel uses it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Up to this size in bytes, memory is allocated without a check.
ALWAYS_FITS = 1 << 20

#: Larger numbers of bytes are shown as this one.
LARGEST_READABLE = 10**100

#: Bytes of a cache line.
CACHE_LINE = 64

#: A container's limit and its use of memory, in the files of cgroup versions 2 and 1.
_CGROUP_FILES = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def available() -> int | None:
    """Return how many bytes of memory this process can still get, or ``None`` if the system does not say.

    On a system without ``/proc`` this is all the memory of the machine.
    """
    limits = _available_to_machine(), _available_to_container(), _available_to_process()
    return min((value for value in limits if value is not None), default=None)


def _available_to_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        pass
    try:  # systems without /proc: all of the machine's memory
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _available_to_container() -> int | None:
    for limit, used in _CGROUP_FILES:
        try:
            return int(Path(limit).read_text(encoding="ascii")) - int(Path(used).read_text(encoding="ascii"))
        except (OSError, ValueError):  # the system has the other version, or the limit is "max": none
            continue
    return None


def _available_to_process() -> int | None:
    """How much of the process's limit of address space (``ulimit -v``) is not in use."""
    try:
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit == resource.RLIM_INFINITY:
            return None
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        return max(0, limit - used * resource.getpagesize())
    except (ImportError, OSError, ValueError):  # no such limit, or no /proc, on this system
        return None


def require(n_bytes: int, what: str) -> None:
    """Raise a ``MemoryError`` if ``n_bytes`` cannot fit; ``what`` says what needs them."""
    limit = available() if n_bytes > ALWAYS_FITS else None
    if limit is not None and n_bytes > limit:
        raise MemoryError(f"{what} needs {readable(n_bytes)}, and {readable(limit)} are available")


def readable(n_bytes: int) -> str:
    """Return a number of bytes with a unit, such as ``1.5 GB``."""
    size = float(min(n_bytes, LARGEST_READABLE))
    for unit in ("bytes", "kB", "MB", "GB", "TB", "PB"):
        if size < 1000 or unit == "PB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"


def aligned(size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an uninitialised vector that begins at a cache line."""
    spare = CACHE_LINE // dtype.itemsize
    flat = np.empty(size + spare, dtype)
    start = -flat.ctypes.data % CACHE_LINE // dtype.itemsize
    return flat[start : start + size]


class _Owner:
    """Owns the memory of the arrays that are made from it.

    An array that owns its memory is the ``base`` of its views, so anyone who has a view can resize it. An
    `_Owner` takes its place as the ``base`` and cannot be resized.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self._array.__array_interface__


def lasting(size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an aligned vector of zeros whose memory stays as long as a view of it exists."""
    vector = aligned(size, dtype)
    vector[:] = 0
    return np.asarray(_Owner(vector))


def is_lasting(array: NDArray[Any]) -> bool:
    """Whether an array is a view of an array that `lasting` made."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    return isinstance(owner, _Owner)
