"""The statistics of a corpus are those of the text as training reads it, however it comes in pieces."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fastrnn.data import text_file
from fastrnn.data.corpus import Documents
from fastrnn.data.lines import iter_lines
from fastrnn.data.sources import read_corpus
from fastrnn.data.statistics import Statistics
from fastrnn.data.text_file import iter_pieces

texts = st.lists(st.sampled_from(["a", "b\n", "\r\n", "\r", "\ufeff", "e\u0301", "é", "ß", "\0", "\u0301"]))


def of_texts(given: list[bytes], unit: str = "character", **options) -> Statistics:
    statistics = Statistics(unit, **options)
    for data in given:
        statistics.add(iter_pieces(io.BytesIO(data), "text", unit, "utf-8", "keep"))
    return statistics


@given(
    pieces=texts,
    unit=st.sampled_from(["character", "byte"]),
    newlines=st.sampled_from(["universal", "keep"]),
    form=st.sampled_from([None, "nfc", "nfc_casefold"]),
    lines=st.booleans(),
    chunk=st.integers(1, 9),
)
@example(pieces=["a", "\r\n"], unit="character", newlines="universal", form=None, lines=True, chunk=2)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_counts_and_documents_are_those_of_training(
    tmp_path: Path, pieces: list[str], unit: str, newlines: str, form: str | None, lines: bool, chunk: int
):
    path = tmp_path / "text"
    path.write_bytes("".join(pieces).encode())
    form = form if unit == "character" else None
    split = iter_lines if lines else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_file, "CHUNK", chunk)
        found = of_texts([path.read_bytes()], unit, newlines=newlines, normalization=form, split=split)
    with read_corpus(path, unit, newlines=newlines, normalization=form, lines=lines) as corpus:
        np.testing.assert_array_equal(np.flatnonzero(found.counts), np.flatnonzero(corpus.counts()))
        assert found.counts.sum() == corpus.counts().sum() == corpus.size
        if isinstance(corpus, Documents):
            assert found.documents == len(corpus)
            assert found.longest == corpus.lengths.max(initial=0)


def test_what_may_surprise_is_counted():
    found = of_texts([b"\xef\xbb\xbfa\r\nb\rc\r\n", "\ufeffe\u0301".encode()])
    assert (found.marks, found.pairs, found.returns, found.is_nfc) == (2, 2, 1, False)
    assert found.documents == 4
    assert found.counts.sum() == 8
    assert of_texts(["é\u0323".encode()]).is_nfc is False  # the marks must change places
    assert of_texts(["q\u0323\u0301é한".encode()]).is_nfc


def test_documents_do_not_cross_files():
    found = of_texts([b"ab", b"", b"c\nd"], split=iter_lines)
    assert (found.documents, found.longest) == (3, 2)
    assert of_texts([b"ab\n", b"", b"c\nd"]).documents == 3
    assert of_texts([]).counts.sum() == 0
