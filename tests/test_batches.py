"""Texts to streams: nothing left out, rows in step, documents kept apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.batches import fit_window, make_streams, read_corpus


@given(n=st.integers(2, 300), batch_size=st.integers(1, 40))
def test_streams_cover_every_transition_in_order(n: int, batch_size: int):
    batch_size = min(batch_size, n - 1)
    streams = make_streams(np.arange(n, dtype=np.int32), batch_size)
    assert streams.inputs.shape == (-(-(n - 1) // batch_size), batch_size)
    np.testing.assert_array_equal(streams.targets, streams.inputs + 1)
    np.testing.assert_array_equal(streams.inputs[1:], streams.targets[:-1])
    assert set(streams.inputs.ravel().tolist()) == set(range(n - 1))
    repeated = streams.inputs.size - (n - 1)
    assert 0 <= repeated < batch_size


def test_rows_start_at_their_first_step_unless_the_state_is_carried():
    ids = np.arange(9, dtype=np.int32)
    np.testing.assert_array_equal(make_streams(ids, 2).starts, [[1, 1], [0, 0], [0, 0], [0, 0]])
    assert not make_streams(ids, 2, carry_state=True).starts.any()


def test_documents_are_one_sequence_with_boundaries_that_start_rows():
    corpus = read_corpus(["ab", "", "b"])
    vocabulary = corpus.vocabulary()
    ids = corpus.sequence(vocabulary)
    np.testing.assert_array_equal(ids, [2, 0, 1, 2, 2, 1, 2])
    streams = make_streams(ids, 1, boundary_id=2)
    np.testing.assert_array_equal(streams.starts[:, 0], [1, 0, 0, 1, 1, 0])


def test_the_end_of_a_text_is_split_off():
    training, held_out = read_corpus("abcdefghij").split(0.3)
    assert (training.texts, held_out.texts) == (["abcdefg"], ["hij"])
    training, held_out = read_corpus(["a", "b", "c", "d"]).split(0.25)
    assert (training.texts, held_out.texts) == (["a", "b", "c"], ["d"])


@pytest.mark.parametrize(
    ("transitions", "T", "B", "expected"),
    [
        (10_000, 64, 32, (64, 32)),
        (2048, 64, 32, (64, 32)),
        (2047, 64, 32, (64, 31)),
        (64, 64, 32, (64, 1)),
        (63, 64, 32, (63, 1)),
        (1, 64, 32, (1, 1)),
        (9, None, 32, (9, 1)),
    ],
)
def test_windows_shrink_to_fit(transitions: int, T: int | None, B: int, expected: tuple[int, int]):
    assert fit_window(transitions, T, B) == expected


def test_files_keep_their_line_ends_and_bytes(tmp_path: Path):
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n")
    assert read_corpus(path).texts == ["\ufeffa\r\nb\rc\n"]
    assert read_corpus(path, "byte").texts == [b"\xef\xbb\xbfa\r\nb\rc\n"]


@pytest.mark.parametrize(
    ("source", "unit", "error", "message"),
    [
        (7, None, TypeError, "text is int; it must be a str, bytes, a path or an iterable"),
        (["a", 7], None, TypeError, "a text must be str or bytes, and this is int"),
        (["a", b"a"], None, TypeError, "all str or all bytes"),
        ("a", "byte", ValueError, "unit='byte' is for a file"),
        (Path("x"), "word", ValueError, "unit='word' is not known"),
    ],
)
def test_refuses_what_is_no_text(source: object, unit: str | None, error: type, message: str):
    with pytest.raises(error, match=message):
        read_corpus(source, unit)  # type: ignore[arg-type]


def test_a_file_that_is_not_utf_8_is_named_with_the_place(tmp_path: Path):
    path = tmp_path / "latin"
    path.write_bytes(b"caf\xe9 au lait")
    with pytest.raises(ValueError, match=r"latin is not UTF-8: byte 0xe9 at offset 3; unit='byte'"):
        read_corpus(path)
    assert read_corpus(path, "byte").size == 12


def test_a_directory_and_a_missing_file_are_os_errors(tmp_path: Path):
    with pytest.raises(IsADirectoryError):
        read_corpus(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_corpus(tmp_path / "none")
