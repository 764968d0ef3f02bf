"""Files that are written whole or not at all.

The new file is written beside the one whose place it takes, synced, and moved there. What a process that was
killed leaves beside it is removed by a later one.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from fastrnn.core.checks import shown

#: The names of files that are being written.
BESIDE = re.compile(r"\.fastrnn-[0-9a-f]{16}\.tmp")

#: Seconds after which a file that nobody writes any more is removed.
LEFT_BEHIND = 3600.0

#: The mode of a new file, less the umask; and of one whose mode comes later.
NEW, PRIVATE = 0o666, 0o600


def checked_path(path: str | os.PathLike[str]) -> str:
    """A path that a file can have; one with a NUL is a ``ValueError``."""
    name = os.fsdecode(path)
    if "\0" in name:
        raise ValueError(f"path={shown(name)} has a NUL, which no name of a file has")
    return name


def require_place(path: str | os.PathLike[str]) -> Path:
    """The file that a path stands for, links followed, if one can be written there; else ``OSError``.

    A link that points to nothing stands for the file that it points to; links that point to each other are
    an error.
    """
    name = checked_path(path)
    try:
        status = os.stat(name)  # noqa: PTH116  (it fails for what is too long, a loop, or behind a file)
    except FileNotFoundError:
        status = None
    target = Path(os.path.realpath(name))
    names_none = not os.path.basename(name)  # noqa: PTH119  (it ends in a slash, which a Path drops)
    if names_none or (status is not None and stat.S_ISDIR(status.st_mode)):
        raise IsADirectoryError(f"{shown(name)} is a directory; the model needs the path of a file")
    if status is not None and not stat.S_ISREG(status.st_mode):
        raise FileExistsError(f"{shown(name)} is no regular file: a model would take its place")
    if status is not None and not os.access(target, os.W_OK):
        raise PermissionError(f"{shown(name)} is not writable")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder of {shown(name)} does not exist")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"the folder of {shown(name)} is not writable")
    return target


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file whole or not at all.

    A file that was there keeps its mode, its access control list and, where that is allowed, its owner and
    its group; nobody who could not read it can read the new one, at any time. A new file has the mode that
    the umask gives it.
    """
    target = require_place(path)
    try:
        before = target.stat()
    except FileNotFoundError:
        before = None
    beside = target.with_name(f".fastrnn-{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(beside, flags, NEW if before is None else PRIVATE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _lock(descriptor)
            _remove_left_behind(target.parent, os.fstat(descriptor).st_mtime - LEFT_BEHIND)
            file.write(data)
            file.flush()
            if before is not None:
                _take_over(descriptor, before, target)
            os.fsync(descriptor)
        beside.replace(target)
    except BaseException:
        with suppress(OSError):
            beside.unlink()
        raise
    _sync_directory(target.parent)


def _take_over(descriptor: int, before: os.stat_result, target: Path) -> None:
    """Give a new file the owner, group, mode and attributes of the one whose place it takes."""
    if not hasattr(os, "fchown"):
        return
    mode, now = stat.S_IMODE(before.st_mode), os.fstat(descriptor)
    if before.st_uid != now.st_uid:
        with suppress(OSError):
            os.fchown(descriptor, before.st_uid, -1)
    if before.st_gid != now.st_gid:
        try:
            os.fchown(descriptor, -1, before.st_gid)
        except OSError:
            # what its group could do, another group may only do if everybody could
            mode &= ~0o070 | (mode & 0o007) << 3
    if hasattr(os, "listxattr"):
        _take_over_attributes(descriptor, target)
    os.fchmod(descriptor, mode)  # last: it limits what an access control list allows


def _take_over_attributes(descriptor: int, target: Path) -> None:
    """Copy extended attributes, and remove others, such as an access control list that a folder gave."""
    with suppress(OSError):
        theirs = os.listxattr(target)
        for name in os.listxattr(descriptor):
            if name not in theirs:
                with suppress(OSError):
                    os.removexattr(descriptor, name)
        for name in theirs:
            with suppress(OSError):
                os.setxattr(descriptor, name, os.getxattr(target, name))


def _lock(descriptor: int) -> None:
    """Tell other processes that a file is being written, where the file system can."""
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_left_behind(folder: Path, before: float) -> None:
    """Remove what was last written before a time by processes of this user that are no more."""
    with suppress(ImportError, OSError):
        import fcntl

        for path in [path for path in folder.iterdir() if BESIDE.fullmatch(path.name)]:
            with suppress(OSError):
                status = path.lstat()
                ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
                if not ours or status.st_mtime >= before:
                    continue
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # fails while someone writes it
                    path.unlink()
                finally:
                    os.close(descriptor)


def _sync_directory(directory: Path) -> None:
    """Make a rename last; it was done, and systems that cannot open a directory do without."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
