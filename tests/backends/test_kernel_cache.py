"""Numba's cache on disk: damaged files, other users, and places where a cache cannot be."""

from __future__ import annotations

import ast
import itertools
import logging
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import require_backend

HERE = Path(__file__).parent

#: Calls a kernel of the contract.
NORM = """
import logging
logging.basicConfig(format="%(message)s")
import numpy as np
import fastrnn
backend, norm = fastrnn.get_backend("numba"), np.empty(1)
backend.gradient_norm(norm=norm, grads=np.array([3.0, -9.0]), limit=4.0, n=2)
print(norm.tolist())
"""


@pytest.fixture(autouse=True)
def numba_is_here():
    require_backend("numba")


@pytest.fixture
def cache():
    """The module of the cache, as if no problem had been reported yet."""
    from fastrnn.backends import kernel_cache

    kernel_cache._problems = itertools.count()
    return kernel_cache


def run(code: str, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=HERE,
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder), **environment},
    )


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def doubled(cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that compiles a small kernel again, like a new process, and counts its cache hits."""
    from numba.core import config

    from fastrnn.backends.numba import jit

    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))

    def compile_and_call() -> int:
        compiled = jit.jit(lambda x: x + x)
        assert (compiled(3), compiled(0.5)) == (6, 1.0)
        return len(compiled.stats.cache_hits)

    return compile_and_call


class Planted:
    """Creates a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def damaged(content: bytes, flips: int) -> list[bytes]:
    """Damaged forms of a file: flipped bits, cuts, additions, other bytes."""
    changed = []
    for bit in range(0, 8 * len(content), max(1, 8 * len(content) // flips) | 1):
        one = bytearray(content)
        one[bit // 8] ^= 1 << bit % 8
        changed.append(bytes(one))
    cuts = [content[:n] for n in (0, 1, 31, 32, 33, 63, 64, 65, len(content) // 2, len(content) - 1)]
    return [*changed, *cuts, content + b"\0", b"noise", bytes(len(content)), pickle.dumps("0.68.1") + content]


@pytest.fixture
def files(cache, tmp_path: Path):
    """The files of a kernel, of which one exists."""
    made = cache.KernelFiles(tmp_path, "kernel", "stamp")
    made.save("key", ["code"] * 20)
    return made


def test_no_damage_reaches_the_unpickler(files, monkeypatch: pytest.MonkeyPatch):
    path = files.path("key")
    content = path.read_bytes()
    assert files.load("key") == ["code"] * 20
    monkeypatch.setattr(pickle, "loads", None)
    for form in damaged(content, 8 * len(content)):
        path.write_bytes(form)
        with pytest.raises(ValueError, match="is damaged"):
            files.load("key")


def test_a_file_in_place_of_another_is_damaged(files):
    files.save("other key", "other code")
    files.path("other key").replace(files.path("key"))
    with pytest.raises(ValueError, match="is damaged"):
        files.load("key")
    assert files.load("other key") is None


def test_a_stale_file_is_absent_and_is_replaced(
    cache, files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    newer = cache.KernelFiles(tmp_path, "kernel", "newer stamp")
    with monkeypatch.context() as patch:
        patch.setattr(pickle, "loads", None)
        assert newer.load("key") is None
    newer.save("key", "newer code")
    assert newer.load("key") == "newer code"
    assert files.load("key") is None
    assert len(files_in(tmp_path)) == 1


def test_what_is_no_file_is_not_opened(files):
    files.path("key").unlink()
    os.mkfifo(files.path("key"))
    with pytest.raises(ValueError, match="is not a file"):
        files.load("key")


def test_flush_removes_the_files_of_one_kernel(cache, files, tmp_path: Path):
    other = cache.KernelFiles(tmp_path, "another", "stamp")
    other.save("key", 1)
    files.flush()
    assert files.load("key") is None
    assert other.load("key") == 1


def test_a_failed_write_leaves_what_was_there(files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        files.save("key", "newer code")
    assert files.load("key") == ["code"] * 20
    assert files_in(tmp_path) == [files.path("key")]


def test_the_log_tells_what_is_compiled(doubled, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "fastrnn")
    doubled()
    assert [record.message for record in caplog.records] == ["compiling <lambda>"] * 2
    caplog.clear()
    doubled()
    assert not caplog.records


def test_a_damaged_file_is_compiled_again_and_replaced(
    cache, doubled, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    assert doubled() == 0
    assert doubled() == 2
    path, _ = files_in(tmp_path)
    content = path.read_bytes()
    for form in damaged(content, 5)[::2]:
        path.write_bytes(form)
        assert doubled() == 1
        assert doubled() == 2
    (record,) = caplog.records
    assert "is damaged" in record.message
    assert "\n" not in record.message
    assert not record.exc_info


def test_a_damaged_cache_of_kernels_changes_no_result(tmp_path: Path):
    assert run(NORM, tmp_path).stdout == "[5.0]\n"
    (path,) = files_in(tmp_path)
    content = path.read_bytes()
    for form in damaged(content, 2)[1:4]:
        path.write_bytes(form)
        again = run(NORM, tmp_path)
        assert (again.returncode, again.stdout) == (0, "[5.0]\n")
        assert len(again.stderr.splitlines()) == 1
        assert run(NORM, tmp_path).stderr == ""


# ---- Kernels of several files ----------------------------------------------------------------------------

#: Imports a kernel from a copy of the folder of kernels, calls it and prints its cache hits.
CALL = """
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
import fastrnn.backends.backend, fastrnn.backends.kernel_cache
sys.meta_path[:] = [BuiltinImporter, FrozenImporter, PathFinder]
fastrnn.backends.__path__ = [sys.argv[1]]
from fastrnn.backends.numba.a import kernel
print(kernel(0), len(kernel.stats.cache_hits))
"""

FILE_A = """
from fastrnn.backends.numba.b import CONSTANT, called, emitted, part, spliced
from fastrnn.backends.numba.jit import jit

@jit
def kernel(x):
    return called(x) + spliced(x) + emitted(x) + part(x) + CONSTANT
"""

FILE_B = """
from numba.core import types
from numba.extending import intrinsic

from fastrnn.backends.numba.jit import inlined, jit, routine

CONSTANT = 1

@jit
def called(x):
    return x + 20

@inlined
def spliced(x):
    return x + 300

@routine
def part(x):
    return x + 50000

@intrinsic
def emitted(typing_context, x):
    def emit(context, builder, signature, arguments):
        return builder.add(arguments[0], context.get_constant(types.int64, 4000))
    return types.int64(x), emit
"""


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder whose subfolder ``numba`` compiles like the backend and has two files of kernels."""
    from fastrnn.backends.numba import constants, jit

    folder = tmp_path / "copy" / "numba"
    folder.mkdir(parents=True)
    for module in (constants, jit):
        shutil.copy(module.__file__, folder)
    for name, text in (("__init__", ""), ("a", FILE_A), ("b", FILE_B)):
        (folder / f"{name}.py").write_text(text)
    return folder.parent


def call(place: Path, cache_folder: Path) -> str:
    done = run(CALL, cache_folder, str(place))
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param("CONSTANT = 1", "CONSTANT = 2", 54322, id="an imported constant"),
        pytest.param("x + 20", "x + 30", 54331, id="the body of a jitted function"),
        pytest.param("x + 300", "x + 400", 54421, id="the body of an inlined function"),
        pytest.param("x + 50000", "x + 60000", 64321, id="the body of a routine"),
        pytest.param("4000", "5000", 55321, id="an intrinsic"),
    ],
)
def test_an_edit_in_one_file_is_noticed_by_the_kernels_of_another(
    copied: Path, tmp_path: Path, old: str, new: str, expected: int
):
    assert call(copied, tmp_path / "cache") == "54321 0"
    assert call(copied, tmp_path / "cache") == "54321 1"
    file = copied / "numba" / "b.py"
    before = file.stat()
    file.write_text(file.read_text().replace(old, new))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    shutil.rmtree(file.parent / "__pycache__", ignore_errors=True)  # Python compares only times and sizes
    assert call(copied, tmp_path / "cache") == f"{expected} 0"
    assert call(copied, tmp_path / "cache") == f"{expected} 1"


def test_kernels_are_cached_beside_their_source(copied: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    for hits in (0, 1):
        done = run(CALL, Path(), str(copied), NUMBA_CACHE_DIR="")
        assert (done.stdout.strip(), done.stderr) == (f"54321 {hits}", "")
    assert list((copied / "numba" / "__pycache__").glob("a.kernel-*.nbc"))


def test_nothing_is_cached_from_a_zip(copied: Path, tmp_path: Path):
    archive = shutil.make_archive(str(tmp_path / "archive"), "zip", copied)
    for _ in range(2):
        assert call(Path(archive), tmp_path / "cache") == "54321 0"
    assert not files_in(tmp_path / "cache")


def test_kernels_of_one_name_in_two_files_do_not_meet(copied: Path, tmp_path: Path):
    other = FILE_A.replace("+ CONSTANT", "+ 7 * CONSTANT")
    (copied / "numba" / "c.py").write_text(other)
    both = CALL.replace(
        "import kernel\n", "import kernel\nfrom fastrnn.backends.numba import c\nprint(c.kernel(0))\n"
    )
    for hits in (0, 1):
        assert run(both, tmp_path / "cache", str(copied)).stdout == f"54327\n54321 {hits}\n"


def test_no_constant_of_a_kernel_comes_from_outside_the_folder():
    """The stamp covers only this folder, of which only ``jit`` imports other modules of the package."""
    from fastrnn.backends.numba import jit

    for path in Path(jit.__file__).parent.glob("*.py"):
        sources = {
            name
            for node in ast.walk(ast.parse(path.read_text()))
            for name in (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else []
            )
        }
        ours = {name for name in sources if name.startswith("fastrnn")}
        outside = {name for name in ours if not name.startswith("fastrnn.backends.numba")}
        assert not outside or path.stem == "jit", f"{path.name} imports {outside}"


# ---- Other users ---------------------------------------------------------------------------------------


@pytest.fixture
def as_root():
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root can give a file to another user")


OTHER = 12345


def test_a_private_folder_is_private(cache, tmp_path: Path):
    folder = tmp_path / "cache" / "not yet there"
    cache.require_private(folder)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "cache")
    cache.require_private(link / "below")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    cache.require_private(loop)


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o702, 0o1777])
def test_a_folder_that_others_may_write_to_is_refused(cache, tmp_path: Path, mode: int):
    tmp_path.chmod(mode)
    with pytest.raises(PermissionError, match="other users may write to"):
        cache.require_private(tmp_path)
    below = tmp_path / "below"
    if mode & 0o1000:  # like /tmp: a user's own folder there is private
        cache.require_private(below)
    else:
        with pytest.raises(PermissionError, match="other users may write to"):
            cache.require_private(below)


def test_a_group_that_has_others_in_it_may_not_write(cache, as_root, tmp_path: Path):
    tmp_path.chmod(0o770)
    os.chown(tmp_path, -1, OTHER)
    with pytest.raises(PermissionError, match="other users may write to"):
        cache.require_private(tmp_path)


def test_a_user_s_own_group_may_write(cache, monkeypatch: pytest.MonkeyPatch):
    import grp
    import pwd

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    members: list[str] = []
    user = pwd.struct_passwd(("ada", "x", 1000, 1000, "", "/home/ada", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", {1000: user}.__getitem__)
    groups = {
        1000: grp.struct_group(("ada", "x", 1000, members)),
        50: grp.struct_group(("staff", "x", 50, [])),
    }
    monkeypatch.setattr(grp, "getgrgid", groups.__getitem__)
    assert cache._is_own_group(1000)
    members.append("ada")
    assert cache._is_own_group(1000)
    members.append("eve")
    assert not cache._is_own_group(1000)
    assert not cache._is_own_group(50)
    assert not cache._is_own_group(7)


def test_what_another_user_owns_is_refused(cache, as_root, tmp_path: Path):
    folder = tmp_path / "theirs" / "mine"
    folder.mkdir(parents=True)
    for place in (folder, folder.parent):
        os.chown(place, OTHER, OTHER)
        with pytest.raises(PermissionError, match="belongs to another user"):
            cache.require_private(folder)
        os.chown(place, 0, 0)
    cache.require_private(folder)


def test_links_are_followed_and_are_somebody_s(cache, as_root, tmp_path: Path):
    (tmp_path / "open" / "cache").mkdir(parents=True)
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "first").symlink_to(tmp_path / "second")
    (tmp_path / "second").symlink_to("open")
    with pytest.raises(PermissionError, match="other users may write to .*open"):
        cache.require_private(tmp_path / "first" / "cache")
    (tmp_path / "open").chmod(0o755)
    cache.require_private(tmp_path / "first" / "cache")
    os.chown(tmp_path / "second", OTHER, OTHER, follow_symlinks=False)
    with pytest.raises(PermissionError, match="second belongs to another user"):
        cache.require_private(tmp_path / "first" / "cache")


@pytest.mark.parametrize("exposure", ["owner", "mode", "file's owner", "file's mode"])
def test_a_planted_file_is_not_unpickled(cache, files, as_root, tmp_path: Path, exposure: str):
    trace = tmp_path / "trace"
    files.save("key", Planted(trace))
    files.load("key")
    assert trace.exists()  # unpickling would create this file
    trace.unlink()
    place = files.path("key") if "file" in exposure else tmp_path
    if "owner" in exposure:
        os.chown(place, OTHER, OTHER)
    else:
        place.chmod(0o777)
    with pytest.raises(PermissionError, match="belongs to another user|other users may write to"):
        files.load("key")
    assert not trace.exists()
    if place == tmp_path:
        with pytest.raises(PermissionError):
            files.save("key", 1)


def test_an_exposed_folder_is_passed_over(
    cache, doubled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(cache._Results, "_locator_classes", [cache._UserProvided])
    tmp_path.chmod(0o777)
    assert doubled() == doubled() == 0
    assert not list(tmp_path.iterdir())
    (record,) = caplog.records
    assert "other users may write to" in record.message


def test_files_are_the_user_s_whatever_the_umask_is(doubled, tmp_path: Path):
    before = os.umask(0)
    try:
        doubled()
        assert doubled() == 2
    finally:
        os.umask(before)
    assert all(not path.stat().st_mode & 0o022 for path in tmp_path.rglob("*"))


# ---- No place ------------------------------------------------------------------------------------------


def test_the_cache_may_be_impossible_to_write(
    cache, doubled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def full_disk(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.KernelFiles, "save", full_disk)
    assert doubled() == doubled() == 0
    (record,) = caplog.records
    assert "cannot be written" in record.message
    assert not record.exc_info


def test_the_cache_may_have_no_place(
    cache, doubled, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(cache._Results, "_locator_classes", [])
    assert doubled() == doubled() == 0
    (record,) = caplog.records
    assert "has no place" in record.message
    assert record.levelno == logging.WARNING
