"""Lines that come in pieces are scored as whole texts are; an error in one does not harm the others."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn import Model, Network
from fastrnn.data.vocabulary import Vocabulary
from fastrnn.inference.lines import LineScorer
from fastrnn.inference.scoring import Scorer

CHARACTERS = np.array(sorted(map(ord, "\n abé\ufeff\u0301\0")), np.uint32)

WITH_RETURN = np.sort(np.append(CHARACTERS, np.uint32(ord("\r"))))

VOCABULARIES = {
    "text": Vocabulary("character", CHARACTERS, newlines="universal"),
    "kept": Vocabulary("character", WITH_RETURN, newlines="keep"),
    "documents": Vocabulary("character", CHARACTERS, True, newlines="universal"),
    "normalized": Vocabulary(
        "character", CHARACTERS, True, newlines="universal", normalization="nfkc_casefold"
    ),
    "unknown": Vocabulary("character", CHARACTERS[2:], newlines="universal", unknown=True),
    "bytes": Vocabulary.of([], unit="byte"),
    "documents of bytes": Vocabulary.of([], unit="byte", boundary=True),
}

PIECES = [*(piece.encode() for piece in ("\n", "\r", "\r\n", *"abéx\0\ufeff", "e\u0301")), b"\xff"]


def model_of(name: str, backend: str = "auto") -> Model:
    vocabulary = VOCABULARIES[name]
    network = Network(vocabulary.size, 5, rng=0, backend=backend, initialization="normal")
    return Model(network, vocabulary, np.arange(vocabulary.size))


def scorer_of(model: Model, unknown: Any, carry: bool, **options: Any) -> LineScorer:
    end = model.vocabulary.boundary and not carry
    scorer = Scorer.checked(
        model.network, model.vocabulary, model.counts, end=end, unknown=unknown, bits=True
    )
    return LineScorer(scorer, carry=carry, **options)


def in_pieces(scorer: LineScorer, chunks: list[bytes]) -> list[tuple[bytes, list[float] | str]]:
    """Each line, and its bits or its error."""
    found: list[tuple[bytes, list[float] | str]] = []
    line, bits = b"", []
    for piece in [*(piece for chunk in chunks for piece in scorer.feed(chunk)), *scorer.finish()]:
        line, bits = line + piece.line, bits + piece.bits.tolist()
        if piece.is_end:
            found.append((line, piece.error or bits))
            line, bits = b"", []
    return found


def expected_lines(model: Model, data: bytes, unknown: Any, carry: bool) -> list[tuple[bytes, Any]]:
    """The lines of whole data, and the bits that `Model.surprisal` gives each, or None if it has an error."""
    is_text = model.vocabulary.unit == "character"
    returns = not carry or (is_text and model.vocabulary.newlines == "universal")
    *lines, last = re.split(rb"\r\n|\r|\n" if returns else rb"\n", data)
    ends = [b"\n"] * len(lines) + [b""] * bool(last)
    lines += [last] * bool(last)
    found: list[tuple[bytes, Any]] = []
    mark: Any = "\ufeff" if is_text and model.vocabulary.newlines == "universal" else "" if is_text else b""
    before: Any = "" if is_text else b""
    for line, end in zip(lines, ends, strict=True):
        try:
            text: Any = line + (end if carry else b"")
            is_strict = unknown == "error" or (unknown is None and not model.vocabulary.unknown)
            text = text.decode(errors="strict" if is_strict else "surrogateescape") if is_text else text
            if carry:
                text = text.removeprefix(mark) if not found else text
                skipped = len(model.surprisal(mark + before, unknown=unknown))
                bits = model.surprisal(mark + before + text, unknown=unknown)[skipped:]
                before += text
            else:
                bits = model.surprisal(text, end=model.vocabulary.boundary, unknown=unknown)
        except ValueError:
            found.append((line, None))
        else:
            found.append((line, bits.tolist()))
    return found


@pytest.mark.parametrize("name", VOCABULARIES)
@pytest.mark.parametrize("carry", [False, True])
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_lines_in_any_pieces_are_scored_as_whole_texts(name: str, carry: bool, data: st.DataObject):
    model = model_of(name)
    pieces = data.draw(st.lists(st.sampled_from(PIECES), max_size=30))
    content = b"".join(pieces)
    unknown = data.draw(st.sampled_from([None, "error", "skip", 0.25]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=8)))
    chunks = [content[a:b] for a, b in itertools.pairwise([0, *cuts, len(content)]) if b > a]
    expected = expected_lines(model, content, unknown, carry)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastrnn.data.lines.LONG", data.draw(st.sampled_from([0, 1, 5, 1000])))
        actual = in_pieces(scorer_of(model, unknown, carry), chunks)
    assert [line for line, _ in actual] == [line for line, _ in expected]
    for (_, found), (line, bits) in zip(actual, expected, strict=True):
        assert found == bits if bits is not None else isinstance(found, str), line


@pytest.mark.parametrize("carry", [False, True])
def test_only_one_byte_order_mark_is_left_out(carry: bool, monkeypatch: pytest.MonkeyPatch):
    model, content = model_of("text"), "\ufeff\ufeff\n\ufeffa\n".encode()
    expected = in_pieces(scorer_of(model, None, carry), [content])
    assert [len(bits) for _, bits in expected] == ([2, 3] if carry else [1, 1])
    monkeypatch.setattr("fastrnn.data.lines.LONG", 0)
    chunks = [content[at : at + 1] for at in range(len(content))]
    assert in_pieces(scorer_of(model, None, carry), chunks) == expected


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=300), carry=st.booleans(), long=st.sampled_from([0, 3, 1000]))
def test_any_bytes_are_lines(content: bytes, carry: bool, long: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastrnn.data.lines.LONG", long)
        for name in ("documents", "bytes", "unknown"):
            model = model_of(name)
            found = in_pieces(scorer_of(model, None, carry), [content] if content else [])
            expected = expected_lines(model, content, None, carry)
            assert [line for line, _ in found] == [line for line, _ in expected]
            assert [isinstance(bits, str) for _, bits in found] == [bits is None for _, bits in expected]


@pytest.mark.parametrize("carry", [False, True])
def test_compiled_backends_give_the_same_bits(carry: bool, compiled: str):
    chunks = [b"ab\nx\nab ", b"\xc3", b"\xa9a\n\n", b"a" * 300 + b"\nb"]
    expected = in_pieces(scorer_of(model_of("text"), None, carry), chunks)
    assert in_pieces(scorer_of(model_of("text", compiled), None, carry), chunks) == expected
    assert expected[1] == (
        b"x",
        "the text has 'x' at position 0, which is not among the 8 characters that the model was trained on",
    )


def test_an_error_in_a_long_line_leaves_the_state_as_it_was(monkeypatch: pytest.MonkeyPatch):
    model = model_of("text")
    expected = [bits for _, bits in in_pieces(scorer_of(model, None, True), ["ab\nbé\n".encode()])]
    monkeypatch.setattr("fastrnn.data.lines.LONG", 2)
    for bad, error in (
        (b"aaaaaaaaaaxa", "the text has 'x' at position 10"),
        (b"aaaa\xe9aaaaaa", "the line is not UTF-8: byte 0xe9 at offset"),
        (b"aaaaaaaaaaaa\xc3", "the line is not UTF-8: byte 0xc3 at offset"),
    ):
        chunks = [b"ab\n", *(bad[at : at + 3] for at in range(0, len(bad), 3)), b"\nb\xc3", b"\xa9\n"]
        (_, first), (line, found), (_, last) = in_pieces(scorer_of(model, None, True), chunks)
        assert [first, last] == expected
        assert line == bad
        assert str(found).startswith(error)


def test_a_line_end_must_be_a_byte_of_the_encoding():
    model = model_of("text")
    for encoding, line in (("latin-1", b"\xe9a"), ("utf_8", "éa".encode()), ("cp1252", b"\xe9a")):
        found = in_pieces(scorer_of(model, None, False, encoding=encoding), [line + b"\n"])
        assert found == [(line, model.surprisal("éa").tolist())]
    for encoding in ("utf-16", "utf-16-le", "utf-32", "cp037"):
        with pytest.raises(ValueError, match=f"encoding='{encoding}' does not write a line end as one byte"):
            scorer_of(model, None, False, encoding=encoding)
    with pytest.raises(ValueError, match="encoding='none' is not a text encoding of Python"):
        scorer_of(model, None, False, encoding="none")
    assert in_pieces(scorer_of(model_of("bytes"), None, False, encoding="none"), [b"\xff\n"])


def test_a_model_that_is_out_of_range_is_an_error():
    model = model_of("documents")
    model.network.parameters["head.bias"][0] = np.nan
    for carry in (False, True):
        with pytest.raises(ValueError, match="out of range"):
            scorer_of(model, None, carry).feed(b"ab\nb\n")
