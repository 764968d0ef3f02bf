"""Files that are written whole or not at all.

The new file is written in the same folder under a temporary name, synced and renamed. If a process is killed
before that, a later one removes its temporary file.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from fastrnn.core.checks import shown

#: The temporary names of files that are being written.
BESIDE = re.compile(r"\.fastrnn-[0-9a-f]{16}\.tmp")

#: The age in seconds at which a temporary file is removed if no process is writing it.
LEFT_BEHIND = 3600.0

#: The mode of a new file, before the umask; and of one that will get the mode of the file it replaces.
NEW, PRIVATE = 0o666, 0o600


def checked_path(path: str | os.PathLike[str]) -> str:
    """Return a path as a str; a path with a NUL is a ``ValueError``."""
    name = os.fsdecode(path)
    if "\0" in name:
        raise ValueError(f"path={shown(name)} has a NUL, which no name of a file has")
    return name


def require_place(path: str | os.PathLike[str], content: str = "model") -> Path:
    """Return the file that a path leads to, through links; if it cannot be written, raise an ``OSError``.

    A link may lead to a file that does not exist yet. Links that point to each other are an error. Errors
    say what the file would have, ``content``.
    """
    name = checked_path(path)
    try:
        status = os.stat(name)  # noqa: PTH116  (it fails for a long name, a loop, or a file as folder)
    except FileNotFoundError:
        status = None
    target = Path(os.path.realpath(name))
    names_none = not os.path.basename(name)  # noqa: PTH119  (a Path drops a slash at the end)
    if names_none or (status is not None and stat.S_ISDIR(status.st_mode)):
        raise IsADirectoryError(f"{shown(name)} is a directory; the {content} needs the path of a file")
    if status is not None and not stat.S_ISREG(status.st_mode):
        raise FileExistsError(f"{shown(name)} is not a regular file: a {content} would replace it")
    if status is not None and not os.access(target, os.W_OK):
        raise PermissionError(f"{shown(name)} is not writable")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder of {shown(name)} does not exist")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"the folder of {shown(name)} is not writable")
    return target


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file whole or not at all.

    If there is a file already, the new one gets its mode, its access control list and, if that is allowed,
    its owner and group. A user who could not read the old file cannot read the new one, not even while it is
    written. If there is none, the umask decides the mode.
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
    """Give a new file the owner, group, mode and attributes of the file that it replaces."""
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
            # the new file has another group, which may do only what everybody could do
            mode &= ~0o070 | (mode & 0o007) << 3
    if hasattr(os, "listxattr"):
        _take_over_attributes(descriptor, target)
    os.fchmod(descriptor, mode)  # this comes last: a mode limits an access control list


def _take_over_attributes(descriptor: int, target: Path) -> None:
    """Copy extended attributes, and remove others, such as an access control list from the folder."""
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
    """Lock a file, so that other processes know that it is being written, if the file system can do so."""
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_left_behind(folder: Path, before: float) -> None:
    """Remove this user's temporary files that ended processes last wrote before a time."""
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
                    fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # it fails during a write
                    path.unlink()
                finally:
                    os.close(descriptor)


def _sync_directory(directory: Path) -> None:
    """Sync a rename to the disk. The rename is done already, so an error, such as on Windows, is ignored."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
