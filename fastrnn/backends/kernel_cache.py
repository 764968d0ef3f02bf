"""The cache of Numba's compiled kernels on disk, made safe to read.

Numba unpickles and runs what it reads from its cache. So each file here begins with a digest that is checked
before anything else of the file is used. And no file is read or written where another user could change it: a
digest does not stop someone who can compute it. Whatever fails, the kernel is compiled.
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

_problems = itertools.count()


def report(problem: str) -> None:
    """Log a problem of the cache: the first of a process, which stands for those of all kernels."""
    if next(_problems) == 0:
        logger.warning("Numba's cache: %s; kernels are compiled where it does not serve", problem)


# ---- Who else may write --------------------------------------------------------------------------------


def _is_own_group(group_id: int) -> bool:
    """Whether a group has this user alone: many systems make one for each user and let it write."""
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(group_id)
    except KeyError:
        return False
    is_private = group_id == user.pw_gid != 0 and group.gr_name == user.pw_name
    return is_private and set(group.gr_mem) <= {user.pw_name}


def _refuse_if_exposed(path: Path, status: os.stat_result, *, sticky: bool) -> None:
    """Raise PermissionError where another user owns a file or folder, or may change it.

    With ``sticky``, others may write to a folder where they can touch only what is theirs, like ``/tmp``.
    """
    if status.st_uid not in {0, os.geteuid()}:
        raise PermissionError(f"{path} belongs to another user")
    by_group = status.st_mode & stat.S_IWGRP and not _is_own_group(status.st_gid)
    is_shared = by_group or status.st_mode & stat.S_IWOTH
    if is_shared and not (sticky and status.st_mode & stat.S_ISVTX) and not stat.S_ISLNK(status.st_mode):
        raise PermissionError(f"other users may write to {path}")


def require_private(folder: Path) -> None:
    """Raise PermissionError unless this user and root alone can change what a folder's path leads to.

    The folder, every folder above it and every link on the way belong to one of the two, and only they may
    write there. What does not exist yet is not exposed. Systems without POSIX permissions are not checked.
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
    """One of the places where Numba looks for room for its cache, passed over unless it is private."""

    get_cache_path: Callable[[], str]

    def ensure_cache_path(self) -> None:
        """Make the folder, or raise OSError."""
        folder = Path(self.get_cache_path())
        try:
            require_private(folder)
        except PermissionError as error:
            report(str(error))
            raise
        folder.mkdir(0o755, parents=True, exist_ok=True)
        super().ensure_cache_path()  # type: ignore[misc]  # raises where it cannot be written


class _UserProvided(_PrivatePlace, caching.UserProvidedCacheLocator):
    """``NUMBA_CACHE_DIR``."""

    def ensure_cache_path(self) -> None:
        try:
            super().ensure_cache_path()
        except OSError as error:  # somebody asked for this place
            report(f"NUMBA_CACHE_DIR: {error}")
            raise


class _InTree(_PrivatePlace, caching.InTreeCacheLocator):
    """``__pycache__`` beside the source."""


class _UserWide(_PrivatePlace, caching.UserWideCacheLocator):
    """The user's folder of caches."""


class _Results(caching.CompileResultCacheImpl):
    _locator_classes = [_UserProvided, _InTree, _UserWide]  # noqa: RUF012  (Numba's attribute)


# ---- The files -----------------------------------------------------------------------------------------


def _create_unshared(path: str, flags: int) -> int:
    """Create a file that other users may not write to, whatever the umask allows."""
    return os.open(path, flags, 0o644)


class KernelFiles:
    """The files of one kernel, one for each signature: a digest, the stamp's digest, the pickled code.

    The first digest is of the file's name and of all that follows it. A stale file has another stamp
    and counts as absent.
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
            status = path.lstat()  # a link may lead to where others write
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait
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
    """Numba's cache of one kernel; the kernel is compiled where the cache is damaged, full or out of reach.

    ``stamp`` is what compiled code depends on beside its source file, its signature and the processor.
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
        """Return a compiled kernel, or ``None``: then it is compiled."""
        try:
            kernel = super().load_overload(sig, target_context)
        except Exception as error:  # noqa: BLE001  (what a file of another origin may raise)
            report(f"cannot be read ({error})")
            kernel = None
        if kernel is None:
            logger.info("compiling %s", self._name)
        return kernel

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled kernel, if possible."""
        try:
            super().save_overload(sig, data)
        except Exception as error:  # noqa: BLE001
            report(f"cannot be written ({error})")


def cache_on_disk(compiled: Any, stamp: Any) -> None:
    """Give a dispatcher of Numba's a cache where there is a place for one, as ``cache=True`` would."""
    try:
        compiled._cache = KernelCache(compiled.py_func, stamp)  # noqa: SLF001
    except Exception as error:  # noqa: BLE001  ("no locator available" is a RuntimeError)
        report(f"has no place ({error})")
