"""A file is written whole or not at all, with the mode and the owner of the file that it replaces."""

from __future__ import annotations

import errno
import os
import resource
import stat
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import fastrnn
from fastrnn.core import atomic
from fastrnn.core.atomic import require_place, write_atomically

#: A name that a file has while it is written.
BESIDE = ".fastrnn-0123456789abcdef.tmp"

OLD, NEW = b"old", b"new" * 100_000

is_root = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "m"
    path.write_bytes(OLD)
    return path


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- Whole or not at all -----------------------------------------------------------------------------


def injected(monkeypatch: pytest.MonkeyPatch, call: str, number: int, nth: int) -> list[str]:
    """Let the nth call of a function of ``os`` fail; the calls that were made are added to the list."""
    original, made = getattr(os, call), []

    def failing(*arguments: Any, **options: Any) -> Any:
        made.append(call)
        if len(made) == nth:
            raise OSError(number, os.strerror(number))
        return original(*arguments, **options)

    monkeypatch.setattr(os, call, failing)
    return made


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize(
    "call",
    [
        "open",
        "fdopen",
        "stat",
        "fstat",
        "fsync",
        "replace",
        "fchmod",
        "fchown",
        "listxattr",
        "listdir",
        "close",
    ],
)
def test_a_call_that_fails_leaves_the_old_file_or_the_new_one(
    old: Path, monkeypatch: pytest.MonkeyPatch, call: str, nth: int, number: int
):
    old.chmod(0o640)
    made = injected(monkeypatch, call, number, nth)
    try:
        write_atomically(old, NEW)
        expected = NEW
    except OSError as error:
        assert error.errno == number
        assert len(made) == nth
        expected = OLD
    monkeypatch.undo()
    assert old.read_bytes() == expected
    assert mode_of(old) == 0o640
    assert names_in(old.parent) == ["m"]
    if (call, nth) in {("open", 1), ("fdopen", 1), ("fsync", 1), ("replace", 1), ("fchmod", 1)}:
        assert expected == OLD


def test_a_write_that_fails_leaves_the_old_file(old: Path):
    """A limit on the size of files fails like a full disk: after some of the bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_atomically(old, NEW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert old.read_bytes() == OLD
    assert names_in(old.parent) == ["m"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_an_error_has_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str):
    injected(monkeypatch, call, errno.ENOSPC, 1)
    with pytest.raises(OSError, match="No space left") as caught:
        fastrnn.train("hello", hidden_size=2, steps=1, backend="numpy").save(tmp_path / "m")
    monkeypatch.undo()
    caught.value.model.save(tmp_path / "elsewhere")
    assert fastrnn.load(tmp_path / "elsewhere").surprisal("hello").size == 5


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_other_errors_have_the_model_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type):
    model = fastrnn.train("hello", hidden_size=2, steps=1, backend="numpy")

    def fails(contents: Any) -> bytes:
        raise error

    monkeypatch.setattr(fastrnn.model.serialization, "to_bytes", fails)
    with pytest.raises(error) as caught:
        model.save(tmp_path / "m")
    assert caught.value.model is model
    monkeypatch.undo()
    for path in ("", "a\0b"):
        with pytest.raises((OSError, ValueError)) as caught:
            model.save(path)
        assert caught.value.model is model


def test_concurrent_writes_leave_one_whole_file(old: Path):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: write_atomically(old, bytes([i]) * 10_000), range(40)))
    assert old.read_bytes() in [bytes([i]) * 10_000 for i in range(40)]
    assert names_in(old.parent) == ["m"]


def test_file_and_folder_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    synced = []
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: synced.append(stat.S_IFMT(os.fstat(descriptor).st_mode))
    )
    write_atomically(tmp_path / "m", NEW)
    assert synced == [stat.S_IFREG, stat.S_IFDIR]


# ---- Modes and owners --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o660, 0o666, 0o755, 0o604, 0o2640])
def test_a_file_keeps_its_mode(old: Path, mode: int, monkeypatch: pytest.MonkeyPatch):
    old.chmod(mode)
    modes = []
    for call in ("fsync", "fdopen"):
        original = getattr(os, call)

        def spied(descriptor: int, *arguments: Any, original: Any = original) -> Any:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
            return original(descriptor, *arguments)

        monkeypatch.setattr(os, call, spied)
    write_atomically(old, NEW)
    assert old.read_bytes() == NEW
    assert mode_of(old) == mode
    assert modes == [0o600, mode]  # when it is opened, and after all is written


def test_a_new_file_follows_the_umask(tmp_path: Path):
    for umask, expected in ((0o027, 0o640), (0o022, 0o644), (0o077, 0o600), (0, 0o666)):
        os.umask(umask)
        write_atomically(tmp_path / f"{umask}", NEW)
        assert mode_of(tmp_path / f"{umask}") == expected


def test_a_model_s_file_stays_private_and_a_link_stays_a_link(tmp_path: Path):
    real, link = tmp_path / "real", tmp_path / "link"
    model = fastrnn.train("hello", hidden_size=2, steps=1, backend="numpy")
    real.write_bytes(OLD)
    real.chmod(0o600)
    link.symlink_to("real")
    model.save(link)
    assert link.is_symlink()
    assert real.read_bytes() == model.to_bytes()
    assert mode_of(real) == 0o600


@pytest.mark.skipif(not is_root, reason="only root gives files to others")
def test_a_file_keeps_its_owner(old: Path):
    os.chown(old, 12_345, 23_456)
    old.chmod(0o640)
    write_atomically(old, NEW)
    status = old.stat()
    assert (status.st_uid, status.st_gid, mode_of(old)) == (12_345, 23_456, 0o640)


@pytest.mark.parametrize(
    ("mode", "expected"), [(0o660, 0o600), (0o664, 0o644), (0o640, 0o600), (0o777, 0o777)]
)
def test_another_group_gets_only_what_everybody_has(
    old: Path, monkeypatch: pytest.MonkeyPatch, mode: int, expected: int
):
    """If the group cannot be kept, the file has the group of the process."""
    old.chmod(mode)
    before = old.stat()
    other = os.stat_result([*before[:5], before.st_gid + 1, *before[6:10]])

    def refused(descriptor: int, uid: int, gid: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refused)
    descriptor = os.open(old, os.O_WRONLY)
    atomic._take_over(descriptor, other, old)
    os.close(descriptor)
    assert mode_of(old) == expected


def test_a_new_file_has_the_group_of_its_folder(tmp_path: Path):
    if is_root:
        os.chown(tmp_path, -1, 23_456)
    tmp_path.chmod(0o2775)
    write_atomically(tmp_path / "m", NEW)
    assert (tmp_path / "m").stat().st_gid == tmp_path.stat().st_gid


def access_list(*entries: tuple[int, int, int]) -> bytes:
    """An access control list in the format of Linux: tag, permissions, id."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="there are no extended attributes")
def test_a_file_keeps_its_access_control_list_and_takes_none_of_its_folder(tmp_path: Path):
    nobody = 0xFFFFFFFF
    owner, group, mask, other = (1, 6, nobody), (4, 0, nobody), (16, 4, nobody), (32, 0, nobody)
    listed = access_list(owner, (2, 4, 12_345), group, mask, other)
    for path in (tmp_path / "with", tmp_path / "without"):
        path.write_bytes(OLD)
        path.chmod(0o640)
    try:
        os.setxattr(tmp_path / "with", "system.posix_acl_access", listed)
        os.setxattr(
            tmp_path, "system.posix_acl_default", access_list(owner, (2, 6, 54_321), group, mask, other)
        )
    except OSError as error:
        pytest.skip(f"the file system has no access control lists: {error}")
    for name in ("with", "without"):
        write_atomically(tmp_path / name, NEW)
        assert mode_of(tmp_path / name) == 0o640
    assert os.getxattr(tmp_path / "with", "system.posix_acl_access") == listed
    assert "system.posix_acl_access" not in os.listxattr(tmp_path / "without")


# ---- Places ------------------------------------------------------------------------------------------


def test_a_loop_of_links_is_an_error_and_stays(tmp_path: Path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "self").symlink_to("self")
    for name in ("a", "b", "self", "self/m"):
        with pytest.raises(OSError, match="symbolic links") as caught:
            write_atomically(tmp_path / name, NEW)
        assert caught.value.errno == errno.ELOOP
    assert all((tmp_path / name).is_symlink() for name in ("a", "b", "self"))
    assert names_in(tmp_path) == ["a", "b", "self"]


def test_a_link_to_nothing_stands_for_the_file_that_it_names(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/m")
    write_atomically(tmp_path / "link", NEW)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "m").read_bytes() == NEW
    (tmp_path / "lost").symlink_to("none/m")
    with pytest.raises(FileNotFoundError, match="the folder of .*lost. does not exist"):
        write_atomically(tmp_path / "lost", NEW)


def test_what_is_no_place_for_a_file_is_refused(tmp_path: Path, old: Path):
    os.mkfifo(tmp_path / "pipe")
    for path, error, message in (
        ("", IsADirectoryError, "'' is a directory; the model needs the path of a file"),
        (f"{tmp_path}/new/", IsADirectoryError, "new/' is a directory"),
        (tmp_path, IsADirectoryError, "is a directory; the model needs the path of a file"),
        (tmp_path / "none" / "m", FileNotFoundError, "the folder of .* does not exist"),
        (old / "m", NotADirectoryError, "Not a directory"),
        (tmp_path / "pipe", FileExistsError, "is not a regular file"),
        ("/dev/null", FileExistsError, "is not a regular file"),
        (tmp_path / ("m" * 256), OSError, "File name too long: .*mmm"),
        (f"{tmp_path}/a\0b", ValueError, r"path='.*a\\x00b' has a NUL"),
        (3, TypeError, "expected str, bytes or os.PathLike object, not int"),
    ):
        for attempt in (require_place, lambda path: write_atomically(path, NEW)):
            with pytest.raises(error, match=message):
                attempt(path)
    assert names_in(tmp_path) == ["m", "pipe"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_long_name_is_no_problem(tmp_path: Path):
    write_atomically(tmp_path / ("m" * 255), NEW)
    assert names_in(tmp_path) == ["m" * 255]


def test_what_this_user_may_not_write_is_refused():
    """The test runs in its own process, which gives up root's permissions."""
    code = """
        import os, sys
        from fastrnn.core.atomic import write_atomically
        folder = sys.argv[1]
        if os.geteuid() == 0:
            os.setgroups([]); os.setgid(23456); os.setuid(12345)
        for name in ("folder/m", "read-only", "unreadable/m", "kept"):
            try:
                write_atomically(f"{folder}/{name}", b"new")
                print(name, "written")
            except OSError as error:
                print(type(error).__name__, str(error).replace(folder, ""))
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        for path in (folder / "folder", folder / "unreadable"):
            path.mkdir()
        for path in (folder / "read-only", folder / "kept"):
            path.write_bytes(OLD)
        (folder / "kept").chmod(0o666)
        (folder / "read-only").chmod(0o444)
        (folder / "folder").chmod(0o555)
        (folder / "unreadable").chmod(0)
        command = [sys.executable, "-c", textwrap.dedent(code), name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == [
            "PermissionError the folder of '/folder/m' is not writable",
            "PermissionError '/read-only' is not writable",
            "PermissionError [Errno 13] Permission denied: '/unreadable/m'",
            "kept written",
        ]
        assert (folder / "kept").read_bytes() == b"new"
        assert mode_of(folder / "kept") == 0o666
        assert (folder / "read-only").read_bytes() == OLD


# ---- What killed processes leave behind --------------------------------------------------------------


def leave(path: Path, hours: float) -> Path:
    path.write_bytes(OLD)
    then = time.time() - 3600 * hours
    os.utime(path, (then, then))
    return path


def test_what_a_killed_process_left_is_removed_once_it_is_old(tmp_path: Path):
    leave(tmp_path / BESIDE, 1.1)
    leave(tmp_path / BESIDE.replace("0", "1"), 0.9)
    write_atomically(tmp_path / "m", NEW)
    assert names_in(tmp_path) == [BESIDE.replace("0", "1"), "m"]


def test_nothing_else_is_removed(tmp_path: Path):
    others = (
        "m2", ".fastrnn-.tmp", ".fastrnn-0123456789abcde.tmp", ".fastrnn-0123456789abcdeff.tmp",
        ".fastrnn-0123456789ABCDEF.tmp", "fastrnn-0123456789abcdef.tmp", f"{BESIDE}.bak", f"x{BESIDE}",
        ".fastrnn-0123456789abcdeg.tmp", f"{BESIDE}\n",
    )  # fmt: skip
    for name in others:
        leave(tmp_path / name, 100)
    other = leave(tmp_path / "target", 100)
    names = [BESIDE.replace("0", digit) for digit in "1234"]
    (tmp_path / names[0]).mkdir()
    (tmp_path / names[1]).symlink_to(other)
    os.mkfifo(tmp_path / names[2])
    for name in names[:3]:
        os.utime(tmp_path / name, (0, 0), follow_symlinks=False)
    if is_root:
        os.chown(leave(tmp_path / names[3], 100), 12_345, -1)
    before = names_in(tmp_path)
    write_atomically(tmp_path / "m", NEW)
    assert names_in(tmp_path) == sorted([*before, "m"])


def test_what_another_process_still_writes_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The other process may have been stopped for hours, for example with its machine."""
    reached, go_on, fsync = threading.Event(), threading.Event(), os.fsync

    def stopped(descriptor: int) -> None:
        if threading.current_thread() is not threading.main_thread() and not go_on.is_set():
            os.utime(descriptor, (0, 0))
            reached.set()
            go_on.wait(60)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", stopped)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(write_atomically, tmp_path / "slow", OLD)
        assert reached.wait(60)
        (beside,) = (tmp_path / name for name in names_in(tmp_path))
        write_atomically(tmp_path / "m", NEW)
        assert beside.exists()
        go_on.set()
        slow.result(60)
    assert (tmp_path / "slow").read_bytes() == OLD
    assert names_in(tmp_path) == ["m", "slow"]


def test_a_process_that_is_killed_leaves_a_whole_file(old: Path):
    code = """
        import os, signal, sys
        from fastrnn.core.atomic import write_atomically
        os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
        write_atomically(sys.argv[1], b"new")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(old)], check=False)
    assert old.read_bytes() == OLD
    (left,) = set(names_in(old.parent)) - {"m"}
    assert atomic.BESIDE.fullmatch(left)
    os.utime(old.parent / left, (0, 0))
    write_atomically(old, NEW)
    assert names_in(old.parent) == ["m"]
