"""Symbols are converted to ids and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.data.vocabulary import Vocabulary, count_symbols


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_comes_back(text: str):
    vocabulary = Vocabulary.of([text], unit="character")
    ids = vocabulary.encode(text)
    assert vocabulary.decode(ids) == text
    assert len(ids) == len(text)
    assert vocabulary.size == len(set(text))
    assert [chr(symbol) for symbol in vocabulary.symbols] == sorted(set(text))


@given(st.binary())
def test_any_bytes_come_back(data: bytes):
    vocabulary = Vocabulary.of([data], unit="byte")
    assert vocabulary.size == 256
    assert vocabulary.decode(vocabulary.encode(data)) == data


def test_the_boundary_is_one_more_id_the_last():
    vocabulary = Vocabulary.of(["ba", "c"], unit="character", boundary=True)
    assert vocabulary.size == 4
    assert vocabulary.boundary_id == 3
    np.testing.assert_array_equal(vocabulary.encode("cab"), [2, 0, 1])
    assert Vocabulary.of(["a"], unit="character").boundary_id is None


@pytest.mark.parametrize("unknown", [*"c`\0", *(chr(99 + 98 + i) for i in range(3)), "\U0010ffff"])
def test_an_unknown_character_is_named_with_its_place(unknown: str):
    vocabulary = Vocabulary.of(["ab"], unit="character")
    with pytest.raises(ValueError, match="at position 2, which is not among the 2 characters"):
        vocabulary.encode("ab" + unknown)


def test_a_lone_surrogate_is_refused():
    with pytest.raises(ValueError, match=r"lone surrogate, '\\ud800', at position 1"):
        Vocabulary.of(["a\ud800"], unit="character")


@pytest.mark.parametrize(
    ("unit", "text", "message"),
    [
        ("character", b"a", "the text is bytes, .* pass str"),
        ("byte", "a", "the text is str, .* pass bytes"),
        ("byte", 7, "must be str or bytes, and this is int"),
    ],
)
def test_the_wrong_kind_of_text_is_refused(unit: str, text: object, message: str):
    vocabulary = Vocabulary.of([], unit=unit)
    with pytest.raises(TypeError, match=message):
        vocabulary.encode(text)  # type: ignore[arg-type]


@given(text=st.text(max_size=30))
def test_bytes_are_those_of_utf_8(text: str):
    n = len(text.encode())
    known = Vocabulary("character", np.unique([ord(c) for c in text]).astype(np.uint32))
    assert known.count_bytes(text) == known.count_bytes(text, unknown="skip") == n
    lengths = known.byte_lengths(
        lambda: np.zeros(1, np.int64)
    )  # no counts are needed without an unknown symbol
    assert lengths is not None
    assert lengths[known.encode(text)].sum() == n
    some = Vocabulary.of_alphabet("aé\u20ac\U0001f600", boundary=True)
    assert some.byte_lengths(lambda: np.zeros(1, np.int64)).tolist() == [1, 2, 3, 4, 1]
    assert some.count_bytes(text, unknown="skip") == sum(
        len(c.encode()) for c in text if c in "aé\u20ac\U0001f600"
    )


def test_the_unknown_symbol_has_the_mean_bytes_of_what_it_stands_for():
    some = replace(Vocabulary.of_alphabet("ab"), unknown=True)
    lengths = some.byte_lengths(lambda: count_symbols(["aabé\u20ac\u20ac\u20ac"]))
    assert lengths is not None
    assert lengths.tolist() == [1, 1, 11 / 4]
    nothing = some.byte_lengths(lambda: count_symbols(["ab"]))
    assert nothing is not None
    assert nothing.tolist() == [1, 1, 1]
