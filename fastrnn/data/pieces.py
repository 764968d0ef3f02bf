"""Reads a text of characters that comes in pieces, as str or as bytes of UTF-8.

However a text is cut, its pieces give the symbols of the whole. What a piece leaves for the next one is a
value, `Rest`, which nothing changes: so a piece that is refused leaves no trace.
"""

from __future__ import annotations

import codecs
from typing import NamedTuple

from fastrnn.data.normalization import Normalizer, universal_newlines


class Rest(NamedTuple):
    """What a text so far has left for its next piece.

    Attributes
    ----------
    begun
        Whether the text has a character, so that a byte order mark is not at its beginning.
    after_return
        Whether its last character is CR, so that an LF belongs to it.
    data
        The bytes of a character that is not complete.
    segment
        The last segment, which normalization may still change.
    """

    begun: bool = False
    after_return: bool = False
    data: bytes = b""
    segment: str = ""


#: The rest of a text that has not begun, and that of most others.
NOTHING, BEGUN = Rest(), Rest(begun=True)


def read_piece(
    piece: str | bytes | bytearray | memoryview,
    rest: Rest,
    *,
    newlines: str,
    normalization: str | None,
    strict: bool,
    final: bool = False,
) -> tuple[str, Rest]:
    """Return the next symbols of a text, and what is left.

    Parameters
    ----------
    piece
        The next piece. A str cannot come where a character of bytes is not complete.
    rest
        What the pieces before it left; `NOTHING` at the beginning.
    newlines, normalization
        Those of the vocabulary.
    strict
        Whether bytes that are not UTF-8 are a ``ValueError``. Else each is one character that no model knows.
    final
        Whether the text ends with this piece.
    """
    data = b""
    if not isinstance(piece, str) or not piece:
        piece, data = _decoded(rest.data + bytes(piece or b""), strict=strict, final=final)
    elif rest.data:
        raise ValueError(
            f"the text is str after the bytes {rest.data!r}, which are not a whole character: pass the rest "
            "of these bytes first"
        )
    begun, after_return = rest.begun or piece != "", rest.after_return
    if newlines == "universal" and piece:
        ends_with_return = piece.endswith("\r")
        if after_return and piece.startswith("\n"):
            piece = piece[1:]
        after_return = ends_with_return
        if not rest.begun:
            piece = universal_newlines(piece)
        elif "\r" in piece:
            piece = piece.replace("\r\n", "\n").replace("\r", "\n")
    segment = ""
    if normalization is not None:
        normalizer = Normalizer(normalization)
        normalizer.rest = rest.segment
        piece = normalizer.normalize(piece, final=final)
        segment = normalizer.rest
    if begun and not (after_return or data or segment):
        return piece, BEGUN
    return piece, Rest(begun, after_return, data, segment)


def _decoded(data: bytes, *, strict: bool, final: bool) -> tuple[str, bytes]:
    """Decode UTF-8, and return what is not complete."""
    try:
        text, used = codecs.utf_8_decode(data, "strict" if strict else "surrogateescape", final)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"the bytes {data[error.start : error.end]!r} at position {error.start} are not UTF-8: "
            f"{error.reason}"
        ) from error
    return text, data[used:]
