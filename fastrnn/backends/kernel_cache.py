"""The cache of Numba's compiled kernels on disk, which is safe to read.

Numba unpickles and runs what it reads from its cache. So each file begins with a digest, which is checked
before the rest of the file is used. No file is read or written where another user could change it, because
another user can compute a digest too. If anything fails, the kernel is compiled.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import pickle
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

from numba.core import caching, serialize

logger = logging.getLogger("fastrnn")

#: The precisions of a kernel.
FLOATS = {"float32", "float64"}

_problems = itertools.count()


def report(problem: str) -> None:
    """Log a problem of the cache. Only the first one in a process is logged."""
    if next(_problems) == 0:
        logger.warning("Numba's cache: %s; kernels are compiled if they cannot be cached", problem)


# ---- Permissions ---------------------------------------------------------------------------------------


def _is_own_group(group_id: int) -> bool:
    """Whether this user is the only member of a group; many systems make such a group for each user."""
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(group_id)
    except KeyError:
        return False
    is_private = group_id == user.pw_gid != 0 and group.gr_name == user.pw_name
    return is_private and set(group.gr_mem) <= {user.pw_name}


def _refuse_if_exposed(path: Path, status: os.stat_result, *, sticky: bool) -> None:
    """Raise PermissionError if another user owns a file or folder, or may change it.

    ``sticky`` allows folders like ``/tmp``, in which other users can change only their own files.
    """
    if status.st_uid not in {0, os.geteuid()}:
        raise PermissionError(f"{path} belongs to another user")
    by_group = status.st_mode & stat.S_IWGRP and not _is_own_group(status.st_gid)
    is_shared = by_group or status.st_mode & stat.S_IWOTH
    if is_shared and not (sticky and status.st_mode & stat.S_ISVTX) and not stat.S_ISLNK(status.st_mode):
        raise PermissionError(f"other users may write to {path}")


def require_private(folder: Path) -> None:
    """Raise PermissionError if anyone except this user and root can change a folder or its path.

    The folder, every folder above it and every link on the path must belong to one of the two, and only they
    may write there. A folder that does not exist yet passes. Without POSIX permissions there is no check.
    """
    if os.name != "posix":
        return
    folder = folder.absolute()
    waiting, seen = [folder], set[Path]()
    while waiting:
        place = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        waiting.append(place.parent)
        try:
            status = place.lstat()
        except FileNotFoundError:
            continue
        if stat.S_ISLNK(status.st_mode):
            waiting.append(place.parent / place.readlink())
        _refuse_if_exposed(place, status, sticky=place != folder)


class _PrivatePlace:
    """A place that Numba may use for its cache. A place that is not private is skipped."""

    get_cache_path: Callable[[], str]

    def ensure_cache_path(self) -> None:
        """Make the folder; raise an OSError if it is not private or cannot be made."""
        folder = Path(self.get_cache_path())
        try:
            require_private(folder)
        except PermissionError as error:
            report(str(error))
            raise
        folder.mkdir(0o755, parents=True, exist_ok=True)
        super().ensure_cache_path()  # type: ignore[misc]  # raises if it cannot be written


class _UserProvided(_PrivatePlace, caching.UserProvidedCacheLocator):
    """``NUMBA_CACHE_DIR``."""

    def ensure_cache_path(self) -> None:
        try:
            super().ensure_cache_path()
        except OSError as error:  # the user asked for this place
            report(f"NUMBA_CACHE_DIR: {error}")
            raise


class _InTree(_PrivatePlace, caching.InTreeCacheLocator):
    """``__pycache__`` beside the source."""


class _UserWide(_PrivatePlace, caching.UserWideCacheLocator):
    """The user's cache folder."""


class _Results(caching.CompileResultCacheImpl):
    _locator_classes = [_UserProvided, _InTree, _UserWide]  # noqa: RUF012  (Numba's attribute)


# ---- The files -----------------------------------------------------------------------------------------


def _create_unshared(path: str, flags: int) -> int:
    """Create a file that other users may not write to, also if the umask would allow it."""
    return os.open(path, flags, 0o644)


class KernelFiles:
    """The files of one kernel, one for each signature: a digest, the stamp's digest, the pickled code.

    The first digest covers the file's name and the rest of the file. A stale file has another stamp, and is
    ignored.
    """

    def __init__(self, folder: Path, name: str, stamp: Any) -> None:
        self.folder, self.name = folder, name
        self.stamp = hashlib.sha256(repr(stamp).encode()).digest()

    def path(self, key: Any) -> Path:
        """The file for a signature, a processor and the kernel's bytecode."""
        return self.folder / f"{self.name}.{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.nbc"

    def load(self, key: Any) -> Any:
        """Return what was saved under a key, or ``None``.

        Raises
        ------
        OSError, ValueError
            The file cannot be read, is exposed to other users, or is damaged.
        """
        require_private(self.folder)
        path = self.path(key)
        try:
            status = path.lstat()  # a link may point to a folder where others may write
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):  # to open a pipe could block
            raise ValueError(f"{path} is not a file")
        if os.name == "posix":
            _refuse_if_exposed(path, status, sticky=False)
        content = path.read_bytes()
        size = len(self.stamp)
        digest, stamp, code = content[:size], content[size : 2 * size], content[2 * size :]
        if digest != self._digest(path, stamp + code):
            raise ValueError(f"{path} is damaged")
        return pickle.loads(code) if stamp == self.stamp else None  # noqa: S301

    def save(self, key: Any, data: Any) -> None:
        """Write a file whole or not at all."""
        require_private(self.folder)
        path, content = self.path(key), self.stamp + serialize.dumps(data)
        beside = path.with_name(f"{path.name}.tmp.{uuid4().hex[:16]}")
        try:
            with open(beside, "xb", opener=_create_unshared) as file:
                file.write(self._digest(path, content) + content)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)

    def flush(self) -> None:
        """Remove the files of all signatures."""
        for path in self.folder.glob(f"{self.name}.*.nbc"):
            path.unlink(missing_ok=True)

    @staticmethod
    def _digest(path: Path, content: bytes) -> bytes:
        return hashlib.sha256(os.fsencode(path.name) + b"\0" + content).digest()


class KernelCache(caching.FunctionCache):
    """Numba's cache of one kernel. If the cache cannot be read or written, the kernel is compiled.

    Compiled code depends on ``stamp``, besides its source file, its signature and the processor.
    """

    _impl_class = _Results

    def __init__(self, function: Callable[..., Any], stamp: Any) -> None:
        super().__init__(function)
        self._name = function.__name__
        source = self._impl.locator.get_source_stamp()
        self._cache_file = KernelFiles(  # type: ignore[assignment]  # the same methods
            Path(self.cache_path), self._impl.filename_base, (source, stamp)
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return a compiled kernel; if there is none, return ``None``, and Numba compiles it."""
        try:
            kernel = super().load_overload(sig, target_context)
        except Exception as error:  # noqa: BLE001  (a file that was not written here may raise anything)
            report(f"cannot be read ({error})")
            kernel = None
        if kernel is None:
            logger.info("compiling %s%s", self._name, _precision(sig))
        return kernel

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save a compiled kernel; log a failure."""
        try:
            super().save_overload(sig, data)
        except Exception as error:  # noqa: BLE001
            report(f"cannot be written ({error})")


def _precision(signature: Any) -> str:
    """The precision of a kernel with this signature, for the log: that of its floating-point arrays."""
    dtypes = {str(argument.dtype) for argument in signature if hasattr(argument, "dtype")}
    return f" for {min(dtypes & FLOATS)}" if dtypes & FLOATS else ""


def cache_on_disk(compiled: Any, stamp: Any) -> None:
    """Give a Numba dispatcher a cache, like ``cache=True``, if there is a place for one."""
    try:
        compiled._cache = KernelCache(compiled.py_func, stamp)  # noqa: SLF001
    except Exception as error:  # noqa: BLE001  ("no locator available" is a RuntimeError)
        report(f"has no place ({error})")
