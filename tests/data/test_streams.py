"""Compressed files, pipes, and files that are copied so that they can be read in parts."""

import gzip
import io
import lzma
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import require_backend
from helpers.program import run

import fastrnn
from fastrnn.data import streams

TEXT = "the cat sat on the mat, and the dög saw the cat.\r\n" * 40


def zst(data: bytes) -> bytes:
    zstandard = pytest.importorskip("zstandard")
    half = len(data) // 2  # two frames, as `cat a.zst b.zst` has them
    return b"".join(zstandard.ZstdCompressor().compress(part) for part in (data[:half], data[half:]))


PACKED = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zst}


def packed(folder: Path, suffix: str, data: bytes = TEXT.encode()) -> Path:
    path = folder / f"text{suffix}"
    path.write_bytes(PACKED[suffix](data))
    return path


def quick(text, **options) -> bytes:
    options = {"steps": 8, "rng": 0, "progress": False, "hidden_size": 5, "backend": "c"} | options
    return fastrnn.train(text, **options).to_bytes()


@pytest.fixture(params=[0, 1 << 21], ids=["on the disk", "in memory"])
def at_most(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(streams, "IN_MEMORY", request.param)
    return request.param


@pytest.mark.parametrize("suffix", PACKED)
@pytest.mark.parametrize("options", [{}, {"unit": "byte"}, {"lines": True}])
def test_a_compressed_file_is_its_text(suffix: str, options: dict, tmp_path: Path, at_most: int):
    require_backend("c")
    plain = tmp_path / "text"
    plain.write_bytes(TEXT.encode())
    assert quick(packed(tmp_path, suffix), **options) == quick(plain, **options)


@pytest.mark.parametrize("suffix", PACKED)
def test_a_large_compressed_file(suffix: str, tmp_path: Path):
    """It has more bytes than a decompressor gives at a time."""
    data = np.random.default_rng(0).integers(0, 250, 5_000_000).astype(np.uint8).tobytes() + b"end"
    with streams.open_in_parts(packed(tmp_path, suffix, data)) as file:
        assert not isinstance(file, io.BytesIO)
        assert file.read() == data
        file.seek(3_000_000)
        assert file.read(10) == data[3_000_000:3_000_010]


def test_a_zst_file_that_grows_a_thousandfold_takes_little_memory(tmp_path: Path):
    path = tmp_path / "text.zst"
    path.write_bytes(zst(b"the same line again\n" * 5_000_000))
    most, file = 0, streams.open_bytes(path)
    for piece in file.raw._decompressed():
        most = max(most, len(piece))
    assert most < 1 << 25
    file.close()


@pytest.mark.parametrize("suffix", PACKED)
def test_a_damaged_file_is_an_error(suffix: str, tmp_path: Path):
    path = packed(tmp_path, suffix)
    good = path.read_bytes()
    wrongs = [good[:-3], good[: len(good) // 3], b"no " * 30]
    if suffix != ".zst":  # its frames need not have a checksum
        wrongs.append(good[:30] + b"?" + good[31:])
    for wrong in wrongs:
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match=rf"text{suffix} is damaged: "):
            quick(path, unit="byte")
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"damaged|0 symbols"):
        quick(path, unit="byte")


@pytest.mark.parametrize("suffix", PACKED)
def test_a_compressed_file_is_scored(suffix: str, tmp_path: Path):
    model, plain, path = tmp_path / "model", tmp_path / "text", packed(tmp_path, suffix)
    plain.write_bytes(TEXT.encode())
    fastrnn.train(plain, steps=8, rng=0, progress=False, hidden_size=5).save(model)
    assert run("eval", model, path).stdout == run("eval", model, plain).stdout != ""
    path.write_bytes(path.read_bytes()[:-9])
    result = run("eval", model, path)
    assert result.exit_code == 1
    assert f"{path} is damaged" in result.stderr


def test_without_zstandard_an_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = packed(tmp_path, ".zst")
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    with pytest.raises(ValueError, match=r"needs the package zstandard: pip install 'fastrnn\[zst\]'"):
        quick(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_is_copied_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(streams, "IN_MEMORY", 1000)
    monkeypatch.setattr(streams, "COPIED_AT_ONCE", 100)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    thread = threading.Thread(target=path.write_bytes, args=(TEXT.encode(),))
    thread.start()
    with streams.open_in_parts(path) as file:
        thread.join()
        assert not isinstance(file, io.BytesIO)
        assert file.read() == TEXT.encode()


def test_a_disk_that_is_full_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    opened = []

    class Full(io.RawIOBase):
        def __init__(self):
            opened.append(self)

        def write(self, data):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(streams, "IN_MEMORY", 0)
    monkeypatch.setattr("tempfile.TemporaryFile", Full)
    with pytest.raises(OSError, match="No space left"):
        streams.in_parts(io.BytesIO(b"abc"))
    assert opened[0].closed
