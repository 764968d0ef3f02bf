"""Scores the lines of a text that comes in pieces of bytes, such as a pipe: each line as soon as it is there.

A line that cannot be scored, because it is not in its encoding or has an unknown symbol, does not keep the
others from being scored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from fastrnn.data.decoding import Decoder
from fastrnn.data.lines import LineSplitter
from fastrnn.data.normalization import BYTE_ORDER_MARK, normalized
from fastrnn.data.text_file import checked_encoding, not_decodable
from fastrnn.inference.reading import Reading
from fastrnn.inference.scoring import Floats, Scorer

NO_BITS: Floats = np.empty(0)


@dataclass(frozen=True, slots=True)
class ScoredPiece:
    """A line, or a piece of a long one.

    Attributes
    ----------
    line
        The bytes as they were read, without the end of the line.
    is_end
        Whether the line ends with them.
    bits
        The bits of the symbols that were scored since the last piece. The last symbols of a piece may be
        scored with the next one.
    error
        Why the line cannot be scored, or nothing.
    """

    line: bytes
    is_end: bool
    bits: Floats = field(default_factory=lambda: NO_BITS)
    error: str = ""


@dataclass
class _LongLine:
    """A line that comes in pieces."""

    decoder: Decoder | None
    reading: Reading
    #: The reading's place before the line.
    place: Any
    #: Whether a byte order mark is left out that comes next.
    leaves_out_mark: bool
    #: How many symbols and how many bytes were read.
    position: int = 0
    n_bytes: int = 0
    error: str = ""


class LineScorer:
    """Scores lines.

    Parameters
    ----------
    scorer
        The `Scorer` of a model of characters or bytes.
    encoding
        The encoding of the lines, for characters. A line end must be a byte in it.
    carry
        Whether the lines are one text; else each is a text of its own. A line then has its end as a symbol,
        and is scored given all lines before it that could be scored.

    Raises
    ------
    ValueError
        Python has no such encoding, or a line end is not a byte in it.
    """

    def __init__(self, scorer: Scorer, *, encoding: str = "utf-8", carry: bool = False) -> None:
        vocabulary = scorer.vocabulary
        self._scorer = scorer
        self._carry = carry
        self._is_text = vocabulary.unit == "character"
        self._encoding = _splittable(encoding) if self._is_text else ""
        #: What is done with bytes that are not in the encoding: each may be a symbol that no model knows.
        self._errors = "strict" if scorer.unknown == "error" else "surrogateescape"
        self._universal = self._is_text and vocabulary.newlines == "universal"
        self._splitter = LineSplitter(returns=self._universal or not carry)
        self._reading = scorer.new_reading()
        self._long: _LongLine | None = None
        #: Whether a byte order mark is left out where the next line begins.
        self._leaves_out_mark = self._universal

    def feed(self, data: bytes) -> list[ScoredPiece]:
        """The lines, and the pieces of long lines, that end with the next bytes of the text."""
        return self._scored(self._splitter.split(data), "\n" if self._carry else "")

    def finish(self) -> list[ScoredPiece]:
        """The last line, if the text does not end with a line end."""
        return self._scored(self._splitter.last(), "")

    def _scored(self, pieces: list[tuple[bytes, bool]], end: str) -> list[ScoredPiece]:
        found: list[ScoredPiece] = []
        lines: list[bytes] = []
        for piece, is_end in pieces:
            if is_end and self._long is None:
                lines.append(piece)
                continue
            found += self._of_lines(lines, end)
            lines = []
            found.append(self._of_piece(piece, end if is_end else "", is_end=is_end))
        return found + list(self._of_lines(lines, end))

    # ---- Whole lines ---------------------------------------------------------------------------------

    def _of_lines(self, lines: list[bytes], end: str) -> Iterator[ScoredPiece]:
        """Yield the scores of whole lines, each of which has this end as a symbol."""
        texts = [self._read(line, end) for line in lines]
        try:
            bits = self._of_texts(texts)
        except ValueError:
            before = texts
            texts = [text if isinstance(text, ValueError) else self._encodable(text) for text in texts]
            if texts == before:
                raise  # the model is out of range
            bits = self._of_texts(texts)
        for line, text in zip(lines, texts, strict=True):
            if isinstance(text, ValueError):
                yield ScoredPiece(line, is_end=True, error=str(text))
            else:
                yield ScoredPiece(line, is_end=True, bits=next(bits))

    def _of_texts(self, texts: list[Any]) -> Iterator[Floats]:
        """The scores of each text; errors are left out."""
        texts = [text for text in texts if not isinstance(text, ValueError)]
        if not texts:
            return iter(())
        if self._carry:
            scores, lengths = self._scorer.of_continuations(self._reading, texts, _unnamed)
        else:
            scores, lengths = self._scorer.of_texts(texts, _unnamed)
        cuts = [0, *np.cumsum(lengths).tolist()]
        return (scores[begin:stop] for begin, stop in pairwise(cuts))

    def _read(self, line: bytes, end: str) -> Any:
        """The text of a line as the model reads it, or the error of one that is not in its encoding."""
        if not self._is_text:
            return line + end.encode()
        mark = self._begins_with_mark()
        try:
            text = line.decode(self._encoding, self._errors)
        except UnicodeError as error:
            return self._not_decodable(error, len(line))
        form = self._scorer.vocabulary.normalization
        text = text.removeprefix(BYTE_ORDER_MARK) if mark else text
        return (text if form is None else normalized(text, form)) + end

    def _begins_with_mark(self) -> bool:
        """Whether a byte order mark is left out at the beginning of the next line, which begins now."""
        found = self._leaves_out_mark
        self._leaves_out_mark = found and not self._carry
        return found

    def _encodable(self, text: Any) -> Any:
        """The text, or the error of one with a symbol that the model does not know."""
        try:
            self._scorer.vocabulary.encode_as_is(text, unknown=self._scorer.unknown)
        except ValueError as error:
            return error
        return text

    def _not_decodable(self, error: UnicodeError, n_bytes: int) -> ValueError:
        """The error to show, when so many bytes of the line were read."""
        if isinstance(error, UnicodeDecodeError):
            return not_decodable(error, "the line", self._encoding, n_bytes - len(error.object))
        return error

    # ---- Long lines ----------------------------------------------------------------------------------

    def _of_piece(self, piece: bytes, end: str, *, is_end: bool) -> ScoredPiece:
        """Score the next piece of a long line. After an error, the rest of the line is not read."""
        long = self._long = self._long or self._begun()
        bits = NO_BITS
        if not long.error:
            try:
                bits = self._of_next(long, piece, end, is_end=is_end)
            except UnicodeError as error:
                long.error = str(self._not_decodable(error, long.n_bytes + len(piece)))
            except ValueError as error:
                long.error = str(error)
            if long.error:
                long.reading.go_back(long.place)
        if is_end:
            self._long = None
        return ScoredPiece(piece, is_end, bits, long.error)

    def _begun(self) -> _LongLine:
        """A long line that begins."""
        reading = self._reading if self._carry else self._scorer.new_reading()
        form = self._scorer.vocabulary.normalization
        decoder = Decoder(self._encoding, "keep", form, self._errors) if self._is_text else None
        mark = self._begins_with_mark()
        return _LongLine(decoder, reading, reading.place(), mark)

    def _of_next(self, long: _LongLine, piece: bytes, end: str, *, is_end: bool) -> Floats:
        """The scores of the symbols that a piece completes."""
        text: Any = piece + end.encode()
        if long.decoder is not None:
            text = long.decoder.decode(piece, final=is_end)
            if text and long.leaves_out_mark:
                text, long.leaves_out_mark = text.removeprefix(BYTE_ORDER_MARK), False
            text += end
        bits = self._scorer.of_piece(long.reading, text, long.position, is_last=is_end, name="")
        long.position += len(text)
        long.n_bytes += len(piece)
        return bits


def _splittable(encoding: str) -> str:
    """Return the name of an encoding in which lines can be found, or raise a ``ValueError``."""
    checked = checked_encoding(encoding)
    if "\r\n".encode(checked) != b"\r\n":
        raise ValueError(
            f"encoding={encoding!r} does not write a line end as one byte, so lines cannot be found; convert "
            "the text to UTF-8, for example with iconv"
        )
    return checked


def _unnamed(_: int) -> str:
    """The name in errors of a line: whoever shows them knows it."""
    return ""
