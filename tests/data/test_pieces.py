"""However a text is cut into pieces, they are read as the whole."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.data.normalization import NORMALIZATIONS, normalized, universal_newlines
from fastrnn.data.pieces import BEGUN, NOTHING, Rest, read_piece

#: Characters that newlines, a byte order mark, normalization and UTF-8 treat in their own ways.
ODD = "a\r\n\ufeffé\u0301\u0323ßﬁ가\u11a8\ud800\udcff\U0001f600\0"


def read(pieces: list[Any], newlines: str, normalization: str | None, *, strict: bool = False) -> str:
    """The symbols of a text in pieces; the last one is an empty str."""
    found, rest = [], NOTHING
    for place, piece in enumerate([*pieces, ""]):
        some, rest = read_piece(
            piece, rest, newlines=newlines, normalization=normalization, strict=strict,
            final=place == len(pieces),
        )  # fmt: skip
        found.append(some)
    assert rest in (NOTHING, BEGUN, Rest(begun=True, after_return=True))
    return "".join(found)


def whole(text: str, newlines: str, normalization: str | None) -> str:
    text = universal_newlines(text) if newlines == "universal" else text
    return text if normalization is None else normalized(text, normalization)


def cut(text: Any, places: list[int]) -> list[Any]:
    ends = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:stop] for start, stop in pairwise(ends)]


odd = st.text(st.sampled_from(ODD))
rules = given(
    text=st.one_of(odd, st.text()),
    data=st.one_of(st.binary(), odd.map(lambda text: text.encode("utf-8", "surrogatepass"))),
    places=st.lists(st.integers(0, 99)),
    newlines=st.sampled_from(["universal", "keep"]),
    normalization=st.sampled_from([None, *NORMALIZATIONS]),
)  # fmt: skip


@rules
def test_pieces_are_read_as_the_whole(
    text: str, data: bytes, places: list[int], newlines: str, normalization: str | None
):
    assert read(cut(text, places), newlines, normalization) == whole(text, newlines, normalization)
    decoded = data.decode("utf-8", "surrogateescape")
    assert read(cut(data, places), newlines, normalization) == whole(decoded, newlines, normalization)


def each_cut(text: Any) -> Iterator[list[Any]]:
    for place in range(len(text) + 1):
        yield [text[:place], text[place:]]
    yield [text[place : place + 1] for place in range(len(text))]


@pytest.mark.parametrize(
    "text", ["\ufeffa\r\nb\rc\n\r", "\ufeff", "\r\n", "\n\ufeff", "\r", "e\u0301\u0323x"]
)
def test_a_cut_may_be_anywhere(text: str):
    for pieces in (*each_cut(text), *each_cut(text.encode())):
        assert read(pieces, "universal", "nfc", strict=True) == whole(text, "universal", "nfc")
        assert read(pieces, "keep", None, strict=True) == text


def test_cr_is_read_at_once_and_an_lf_after_it_belongs_to_it():
    rules: dict[str, Any] = {"newlines": "universal", "normalization": None, "strict": True}
    text, rest = read_piece("a\r", NOTHING, **rules)
    assert text == "a\n"
    assert read_piece("\nb", rest, **rules) == ("b", BEGUN)
    assert read_piece("b", rest, **rules) == ("b", BEGUN)


def test_errors_say_what_is_wrong():
    rules: dict[str, Any] = {"newlines": "keep", "normalization": None, "strict": True}
    with pytest.raises(
        ValueError, match=r"the bytes b'\\xff' at position 1 are not UTF-8: invalid start byte"
    ):
        read_piece(b"a\xff", NOTHING, **rules)
    _, rest = read_piece("é".encode()[:1], NOTHING, **rules)
    with pytest.raises(ValueError, match=r"the text is str after the bytes b'\\xc3', which are not a whole"):
        read_piece("a", rest, **rules)
    assert read_piece("", rest, **rules) == ("", rest)
    with pytest.raises(ValueError, match="unexpected end of data"):
        read_piece(b"", rest, **rules, final=True)
