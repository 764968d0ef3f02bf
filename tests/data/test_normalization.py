"""Texts are normalized as `unicodedata` does it, in any pieces, and each symbol's span is known."""

from __future__ import annotations

import io
import itertools
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import fastrnn
from fastrnn.data import normalization, streams, text_file
from fastrnn.data.lines import iter_lines
from fastrnn.data.normalization import NORMALIZATIONS, Normalizer, normalized, offsets
from fastrnn.data.text_file import iter_pieces, open_text

forms = st.sampled_from(sorted(NORMALIZATIONS))

#: Letters and marks that compose, reorder, expand and fold: of Latin, Greek, Hangul, Bengali and Tamil.
CHARACTERS = (
    "aAeqI\u017fßİΐΣςǅ\u0301\u0308\u0323\u0327\u0345\u0344\u0390각가ᄀ깍ᆩ"
    "\u09c7\u09be\u09d7\u0bc6\u0bbeﬁ①Å½¨\u212b"
)

texts = st.text(
    st.one_of(st.sampled_from(CHARACTERS + "\n"), st.characters(exclude_categories=["Cs"])), max_size=30
)

in_a_folder = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def by_definition(text: str, form: str) -> str:
    """A text in a form: the formulas of the standard, with composition at the end."""

    def nf(form: str, text: str) -> str:
        return unicodedata.normalize(form, text)

    return {
        "nfc": lambda: nf("NFC", text),
        "nfkc": lambda: nf("NFKC", text),
        "nfc_casefold": lambda: nf("NFC", nf("NFD", text).casefold()),
        "nfkc_casefold": lambda: nf("NFKC", nf("NFKD", nf("NFD", text).casefold()).casefold()),
    }[form]()


@given(text=texts, form=forms)
@settings(max_examples=300)
def test_a_text_is_in_its_form_and_stays_as_it_is(text: str, form: str):
    found = normalized(text, form)
    assert found == by_definition(text, form)
    assert normalized(found, form) == found


@given(pieces=st.lists(texts, max_size=6), form=forms, longest=st.sampled_from([1 << 10, 3, 1]))
@example(pieces=["e", "\u0301", "x"], form="nfc", longest=1 << 10)
@example(pieces=["\u1100", "\u1161", "\u11a8"], form="nfc", longest=1 << 10)
@example(pieces=["\u09c7", "\u09be"], form="nfkc", longest=1 << 10)
@example(pieces=["a\u0301", "\u0323" * 5], form="nfc", longest=3)
@settings(max_examples=300)
def test_a_text_in_pieces_is_as_the_whole(pieces: list[str], form: str, longest: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(normalization, "LONGEST_SEGMENT", longest)
        patch.setattr(normalization, "NORMALIZED_AT_ONCE", 4)
        normalizer = Normalizer(form)
        found = [normalizer.normalize(piece) for piece in pieces]
        assert "".join([*found, normalizer.normalize("", final=True)]) == normalized("".join(pieces), form)


@given(a=texts, b=texts, form=forms)
def test_only_the_last_segment_waits_for_the_next_piece(a: str, b: str, form: str):
    normalizer = Normalizer(form)
    begun = normalizer.normalize(a)
    assert normalized(a + b, form).startswith(begun)
    assert a.endswith(normalizer.rest)
    assert len(normalizer.normalize("x" * (len(a) > 0))) + len(begun) >= len(normalized(a, form)) * (
        len(a) > 0
    )


@pytest.mark.parametrize("form", sorted(NORMALIZATIONS))
def test_every_character_that_may_begin_a_segment_does(form: str):
    """Nothing before such a character changes what becomes of it."""
    befores = [*CHARACTERS, "\u0938", "\u11131", "\u0dd9", "\u0f71"]
    codes = [code for code in range(0x300, 0x30000) if not 0xD800 <= code < 0xE000]
    starts = normalization._may_begin(np.array(codes[::7], np.uint32), form)
    assert 0.9 < starts.mean() < 1
    for code in np.array(codes[::7])[starts][::17]:
        for before in befores:
            text = before + chr(code)
            assert normalized(text, form) == normalized(before, form) + normalized(chr(code), form)


def test_a_segment_that_never_ends_takes_no_quadratic_time():
    marks = "\u0301\u0323" * 100_000  # `unicodedata.normalize` alone takes a minute
    assert len(normalized("a" + marks, "nfc")) == 200_000


# ---- Files -------------------------------------------------------------------------------------------


@given(text=texts, form=forms, newlines=st.sampled_from(["universal", "keep"]), data=st.data())
@in_a_folder
def test_any_slice_of_a_file_is_the_normalized_text_s(
    tmp_path: Path, text: str, form: str, newlines: str, data: st.DataObject
):
    path = tmp_path / "text"
    path.write_bytes(("\ufeff" * data.draw(st.booleans()) + text + "\r\nA").encode())
    read = path.read_text() if newlines == "universal" else path.read_bytes().decode()
    expected = normalized(read.removeprefix("\ufeff") if newlines == "universal" else read, form)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "IN_MEMORY", 0)
        patch.setattr(text_file, "BYTES_PER_ENTRY", 5)
        opened = open_text(path, "character", newlines=newlines, normalization=form)
        assert len(opened) == len(expected)
        for _ in range(3):
            start, stop = (data.draw(st.integers(0, len(expected))) for _ in range(2))
            assert opened[start:stop] == expected[start:stop]
        opened.close()
        patch.setattr(text_file, "CHUNK", data.draw(st.integers(1, 9)))
        arguments = (str(path), "character", "utf-8", newlines, form)
        assert "".join(iter_pieces(io.BytesIO(path.read_bytes()), *arguments)) == expected
        pieces = iter_pieces(io.BytesIO(path.read_bytes()), *arguments)
        assert [line for line, _ in iter_lines(pieces)] == expected.replace("\r\n", "\n").replace(
            "\r", "\n"
        ).split("\n")


# ---- Offsets -----------------------------------------------------------------------------------------


@given(text=texts, form=st.one_of(st.none(), forms), universal=st.booleans(), data=st.data())
@settings(max_examples=300)
def test_spans_cover_the_text_and_give_its_symbols(
    text: str, form: str | None, universal: bool, data: st.DataObject
):
    text = "".join(data.draw(st.lists(st.sampled_from(["\r", "\r\n", "\ufeff", text]), max_size=5)))
    newlines = "universal" if universal else "keep"

    def read(text: str) -> str:
        text = normalization.universal_newlines(text) if universal else text
        return text if form is None else normalized(text, form)

    spans, symbols = offsets(text, newlines, form), read(text)
    assert spans.shape == (len(symbols), 2)
    assert spans.dtype == np.int64
    place = int(universal and text.startswith("\ufeff"))
    for (start, stop), group in itertools.groupby(range(len(symbols)), lambda i: tuple(spans[i])):
        assert start == place < stop
        # a byte order mark that is not at the beginning of the text is a character of it
        part = text[start:stop]
        found = part if part.startswith("\ufeff") and start and universal and form is None else read(part)
        if part.startswith("\ufeff") and universal:
            found = "\ufeff" + read(part[1:])
        assert found == "".join(symbols[i] for i in group)
        place = stop
    assert place == len(text)


@pytest.mark.parametrize(
    ("text", "form", "expected"),
    [
        ("e\u0301a", "nfc", [(0, 2), (2, 3)]),
        ("ﬁa", "nfkc", [(0, 1), (0, 1), (1, 2)]),
        ("ﬁa", "nfc", [(0, 1), (1, 2)]),
        ("Straße", "nfc_casefold", [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (4, 5), (5, 6)]),
        ("q\u0308", "nfc", [(0, 1), (1, 2)]),  # it has no composite, so nothing changes
        ("q\u0323\u0301", "nfc", [(0, 1), (1, 2), (2, 3)]),
        ("q\u0301\u0323", "nfc", [(0, 3), (0, 3), (0, 3)]),  # the marks change places
        ("\u1112\u1161\u11ab\u1100", "nfc", [(0, 3), (3, 4)]),
        ("\ufeffa\r\nb\r", None, [(1, 2), (2, 4), (4, 5), (5, 6)]),
        ("", "nfc", []),
        ("\ufeff", "nfc", []),
    ],
)
def test_spans_of_known_texts(text: str, form: str | None, expected: list[tuple[int, int]]):
    assert [tuple(span) for span in offsets(text, "universal", form)] == expected


# ---- Models ------------------------------------------------------------------------------------------


def train(text: Any, **changes: Any) -> fastrnn.Model:
    options = {"hidden_size": 8, "steps": 9, "rng": 0, "progress": False, "backend": "auto", **changes}
    return fastrnn.train(text, **options)


DECOMPOSED = "Cafe\u0301 ﬁn, CAFE\u0301!\r\n" * 20


@pytest.mark.parametrize("form", sorted(NORMALIZATIONS))
@pytest.mark.parametrize("documents", [False, True])
def test_a_model_reads_texts_in_its_form(form: str, documents: bool, tmp_path: Path):
    path = tmp_path / "text"
    path.write_bytes(DECOMPOSED.encode())
    plain = normalized(DECOMPOSED.replace("\r\n", "\n"), form)
    same = {"normalization": form}
    if documents:
        expected = train(plain.splitlines(), **same)
        models = [train(DECOMPOSED.splitlines(), **same), train(path, lines=True, **same)]
        with path.open(newline="") as file:
            models.append(train(file, **same))
    else:
        expected = train(plain, **same)
        models = [train(DECOMPOSED, **same), train(path, **same)]
    for model in models:
        assert model.to_bytes() == expected.to_bytes()
    again = fastrnn.Model.from_bytes(expected.to_bytes())
    assert again.vocabulary.normalization == form
    text, read = "CAFE\u0301 ﬁn", normalized("CAFE\u0301 ﬁn", form)
    for model in (expected, again):
        bits = model.surprisal(text)
        assert len(bits) == len(read) == len(model.offsets(text))
        np.testing.assert_array_equal(model.surprisal(read), bits)
        (one,) = model.score_many(iter([text]))
        np.testing.assert_array_equal(one, bits)
        assert model.sample(9, prime=text, rng=0) == model.sample(9, prime=read, rng=0)
    assert train("hello" * 9).vocabulary.normalization is None


def test_offsets_are_there_for_every_model():
    tokens = train([1, 2, 3, 4] * 9, vocabulary=9)
    assert tokens.offsets([3, 4]).tolist() == [[0, 1], [1, 2]]
    as_bytes = train(b"\r\nabc" * 9)
    assert as_bytes.offsets(b"\r\n").tolist() == [[0, 1], [1, 2]]
    text = train("a\r\nb" * 9)
    assert text.offsets("a\r\nx").tolist() == [[0, 1], [1, 3], [3, 4]]
    for model, wrong in ((tokens, "a"), (as_bytes, "a"), (text, b"a"), (text, 7)):
        with pytest.raises(TypeError):
            model.offsets(wrong)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (b"hello", {}, "normalization='nfc' is for characters, and the text is bytes"),
        ([b"hello"], {}, "normalization='nfc' is for characters, and the text is bytes"),
        ([1, 2, 3], {"vocabulary": 4}, "normalization='nfc' is for characters, and the text is tokens"),
        (Path(__file__), {"unit": "byte"}, "normalization='nfc' is for characters, and the text is bytes"),
        ("hello", {"normalization": "NFC"}, "normalization='NFC' is not known; it is one of 'nfc', 'nfkc',"),
        ("hello", {"normalization": True}, "normalization=True is not known"),
    ],
)
def test_normalization_is_for_characters(source: Any, options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        train(source, **{"normalization": "nfc", **options})
