"""Writes scored lines as columns or as JSON. A long line is kept in a file until its score is known."""

from __future__ import annotations

import codecs
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, ClassVar

from fastrnn.cli.output import as_json
from fastrnn.core.terminal import escaped, escapes, tell, write

if TYPE_CHECKING:
    from fastrnn.inference.lines import ScoredPiece
    from fastrnn.inference.scoring import Floats

#: How many bytes of a file are copied at a time.
COPIED_AT_ONCE = 1 << 20

#: The exit statuses, as those of grep: lines were written, none was above the threshold, there was an error.
DONE, NONE_ABOVE, FAILED = 0, 1, 2


@dataclass
class Line:
    """The scores of a line.

    Attributes
    ----------
    number
        Its number, from 1.
    symbols
        How many symbols were scored.
    sums
        Numbers whose exact sum is that of the symbols' bits.
    error
        Why it cannot be scored, or nothing.
    """

    number: int
    symbols: int = 0
    sums: list[float] = field(default_factory=list)
    error: str = ""

    def add(self, bits: Floats) -> None:
        """Add the bits of some symbols; a long line keeps only two numbers for each of its pieces."""
        found = bits.tolist()
        total = math.fsum(found)
        self.sums += [total, math.fsum([*found, -total])]
        self.symbols += len(found)

    def score(self, *, is_mean: bool) -> float:
        """The sum of the bits or their mean, which is NaN for a line without symbols, as after an error."""
        if self.error or (is_mean and not self.symbols):
            return math.nan
        return math.fsum(self.sums) / (self.symbols if is_mean else 1)


#: Turns a piece of a line into what is written; the flag says whether it is the last piece.
TextWriter = Callable[[bytes, bool], bytes]


@dataclass(frozen=True)
class Form(ABC):
    """How lines are written: something, the bits of the symbols, something, the text, something.

    Attributes
    ----------
    per_symbol
        Whether the bits of the symbols are written.
    encoding
        The encoding of the lines.
    """

    per_symbol: bool
    encoding: str

    #: What is between the bits of two symbols.
    separator: ClassVar[str]

    @abstractmethod
    def around(self, line: Line) -> tuple[bytes, bytes, bytes]:
        """What is written before the bits of the symbols, between them and the text, and after the text."""

    @abstractmethod
    def number(self, bits: float) -> str:
        """The bits of a symbol."""

    @abstractmethod
    def text_writer(self) -> TextWriter:
        """What writes the text of one line."""

    def numbers(self, bits: Floats) -> bytes:
        """The bits of some symbols, or nothing if they are not written."""
        return self.separator.join(map(self.number, bits.tolist())).encode() if self.per_symbol else b""


@dataclass(frozen=True)
class Columns(Form):
    """The score, the bits of the symbols and the text, between tabs.

    Attributes
    ----------
    is_mean
        Whether the score is the mean of the bits, not their sum.
    """

    is_mean: bool

    separator = " "

    def around(self, line: Line) -> tuple[bytes, bytes, bytes]:
        score = self.number(line.score(is_mean=self.is_mean))
        return f"{score}\t".encode(), b"\t" if self.per_symbol else b"", b"\n"

    def number(self, bits: float) -> str:
        return f"{bits:.4f}"

    def text_writer(self) -> TextWriter:
        if not escapes(sys.stdout):
            return lambda line, _: line
        decode = codecs.getincrementaldecoder(self.encoding)("backslashreplace").decode
        encoding = sys.stdout.encoding or "ascii"
        return lambda line, is_end: escaped(decode(line, is_end), "\t").encode(encoding, "backslashreplace")


@dataclass(frozen=True)
class Json(Form):
    """A JSON object in a line.

    Attributes
    ----------
    errors
        How bytes that are not in the encoding are decoded.
    """

    errors: str

    separator = ", "

    def around(self, line: Line) -> tuple[bytes, bytes, bytes]:
        told: dict[str, Any] = {"line": line.number}
        told |= {"bits": line.score(is_mean=False), "bits_per_symbol": line.score(is_mean=True)}
        told |= {"symbols": None, "error": line.error} if line.error else {"symbols": line.symbols}
        before, between = as_json(told)[:-1], ', "text": "'
        if self.per_symbol:
            before, between = f'{before}, "per_symbol": [', f"]{between}"
        return before.encode(), between.encode(), b'"}\n'

    def number(self, bits: float) -> str:
        return repr(bits)

    def text_writer(self) -> TextWriter:
        decode = codecs.getincrementaldecoder(self.encoding)(self.errors).decode
        return lambda line, is_end: as_json(decode(line, is_end))[1:-1].encode()


class LinesWriter:
    """Writes the lines that are scored to stdout, and the first error to stderr.

    Parameters
    ----------
    form
        How lines are written.
    threshold
        Only lines with a higher score are written, and those that cannot be scored; ``None``: all lines.
    is_mean
        Whether that score is the mean of the bits, not their sum.
    name
        The name of the text in errors.
    """

    def __init__(self, form: Form, threshold: float | None, *, is_mean: bool, name: str) -> None:
        self._form, self._threshold, self._is_mean, self._name = form, threshold, is_mean, name
        self._line = Line(1)
        self._long: _LongText | None = None
        self._above = self._failed = 0

    def write(self, pieces: Iterable[ScoredPiece]) -> None:
        """Write the lines that these pieces end."""
        whole: list[bytes] = []
        for piece in pieces:
            self._line.add(piece.bits)
            self._line.error = piece.error
            if piece.is_end and self._long is None:
                whole += self._whole(piece)
            else:
                self._long = self._long or _LongText(self._form)
                self._long.add(piece)
            if piece.is_end:
                if self._long is not None:
                    write(b"".join(whole))
                    whole = []
                    self._end_long(self._long)
                self._line = Line(self._line.number + 1)
        if whole:
            write(b"".join(whole))

    def finish(self) -> int:
        """Say how many lines could not be scored, and return the exit status."""
        if self._failed > 1:
            tell(f"{self._name}: {self._failed:,} lines could not be scored")
        if self._failed:
            return FAILED
        return DONE if self._above or self._threshold is None else NONE_ABOVE

    def _is_written(self) -> bool:
        """Whether the line is written; this counts it."""
        line = self._line
        if line.error:
            if not self._failed:
                tell(f"Error: {self._name}, line {line.number}: {line.error}")
            self._failed += 1
            return True
        if self._threshold is None or line.score(is_mean=self._is_mean) > self._threshold:
            self._above += 1
            return True
        return False

    def _whole(self, piece: ScoredPiece) -> list[bytes]:
        """What is written for a whole line."""
        if not self._is_written():
            return []
        before, between, after = self._form.around(self._line)
        text = self._form.text_writer()(piece.line, True)
        return [before, self._form.numbers(piece.bits), between, text, after]

    def _end_long(self, long: _LongText) -> None:
        with long:
            if self._is_written():
                long.write(*self._form.around(self._line), with_numbers=not self._line.error)
        self._long = None


class _LongText(ExitStack):
    """The bits and the text of a long line, in files without a name. It is a context, which closes them."""

    def __init__(self, form: Form) -> None:
        import tempfile

        super().__init__()
        self._form = form
        self._numbers: IO[bytes] = self.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        self._text: IO[bytes] = self.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        self._write_text = form.text_writer()

    def add(self, piece: ScoredPiece) -> None:
        """Add a piece of the line."""
        if self._form.per_symbol and piece.bits.size:
            self._numbers.write(self._form.separator.encode() if self._numbers.tell() else b"")
            self._numbers.write(self._form.numbers(piece.bits))
        self._text.write(self._write_text(piece.line, piece.is_end))

    def write(self, before: bytes, between: bytes, after: bytes, *, with_numbers: bool) -> None:
        """Write the line to stdout."""
        write(before)
        if with_numbers:
            _copy(self._numbers)
        write(between)
        _copy(self._text)
        write(after)


def _copy(file: IO[bytes]) -> None:
    """Write a file to stdout."""
    file.seek(0)
    while chunk := file.read(COPIED_AT_ONCE):
        write(chunk)
