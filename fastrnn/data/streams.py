"""Files of bytes: compressed ones by their suffix, and those that cannot be read in parts."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

#: The largest file in bytes that is kept in memory, where its lines are found faster.
IN_MEMORY = 1 << 21

#: The suffixes of compressed files, and the names of the errors that say that one is damaged.
COMPRESSED = {".gz", ".xz", ".zst"}
DAMAGE = {"EOFError", "BadGzipFile", "error", "LZMAError", "ZstdError"}

#: How many bytes of a stream are copied at a time.
COPIED_AT_ONCE = 1 << 20

#: How many bytes of a zstd file are decompressed at a time: they may become ten thousand times as many.
FED_AT_ONCE = 1 << 10

#: The largest window of a zstd file in bytes: that of ``zstd --ultra --long=31``.
LARGEST_WINDOW = 1 << 31


def open_bytes(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading bytes; one whose name ends with .gz, .xz or .zst is decompressed.

    Raises
    ------
    OSError
        It cannot be opened.
    ValueError
        It ends with .zst, and the package zstandard is not installed.
    """
    suffix = Path(path).suffix
    if suffix == ".gz":
        import gzip

        return cast("BinaryIO", gzip.open(path))
    if suffix == ".xz":
        import lzma

        return cast("BinaryIO", lzma.open(path))
    if suffix == ".zst":
        return _open_zst(path)
    return Path(path).open("rb")


def _open_zst(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        import zstandard
    except ImportError as error:
        raise ValueError(
            f"{os.fspath(path)} needs the package zstandard: pip install 'fastrnn[zst]', or decompress it"
        ) from error
    return io.BufferedReader(_Frames(Path(path).open("rb"), zstandard.ZstdDecompressor), COPIED_AT_ONCE)


class Pieces(io.RawIOBase):
    """Pieces of bytes as a file that is read once."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = piece
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class _Frames(Pieces):
    """The bytes of the frames of a zstd file. The reader of zstandard takes a truncated one for whole."""

    def __init__(self, file: BinaryIO, decompressor: Any) -> None:
        self._file, self._decompressor = file, decompressor
        super().__init__(self._decompressed())

    def close(self) -> None:
        self._file.close()
        super().close()

    def _decompressed(self) -> Iterator[bytes]:
        frame = None
        while chunk := self._file.read(FED_AT_ONCE):
            while chunk:
                frame = frame or self._decompressor(max_window_size=LARGEST_WINDOW).decompressobj()
                yield frame.decompress(chunk)
                chunk, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
        if frame is not None:
            raise EOFError("it ends within a frame")


def open_in_parts(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file that can be read in parts; `in_parts` copies compressed ones, pipes and small ones.

    Raises
    ------
    OSError, ValueError
        As `open_bytes`; also if a compressed file is damaged.
    """
    file = open_bytes(path)
    try:
        status = os.stat(path)  # noqa: PTH116
        is_regular = stat.S_ISREG(status.st_mode) and Path(path).suffix not in COMPRESSED
        if is_regular and status.st_size > IN_MEMORY:
            return file
        with file, damage_named(path):
            return in_parts(file)
    except BaseException:
        file.close()
        raise


def in_parts(stream: Any) -> BinaryIO:
    """The bytes of a stream as a file that can be read in parts: in memory or, if many, on the disk.

    The file on the disk has no name, and is gone when it is closed or its process ends.
    """
    start = stream.read(IN_MEMORY + 1)
    if len(start) <= IN_MEMORY:
        return io.BytesIO(start)
    import shutil
    import tempfile

    file = tempfile.TemporaryFile()  # noqa: SIM115  (a TextFile keeps it open)
    try:
        file.write(start)
        shutil.copyfileobj(stream, file, COPIED_AT_ONCE)
        file.flush()
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return cast("BinaryIO", file)


@contextmanager
def damage_named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the errors of a damaged compressed file into a ``ValueError`` with its name."""
    try:
        yield
    except Exception as error:
        if type(error).__name__ in DAMAGE:
            raise ValueError(f"{os.fspath(path)} is damaged: {error}") from error
        raise
