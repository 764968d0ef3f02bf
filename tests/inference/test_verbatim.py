"""The share of a sample that is verbatim in the training text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrnn
from fastrnn import Model
from fastrnn.data.vocabulary import Vocabulary
from fastrnn.inference import verbatim
from fastrnn.inference.verbatim import verbatim_share, window_hashes

VOCABULARY = Vocabulary.of_alphabet("abc\n")


def share(sample: str, texts: list[str], length: int) -> float:
    """By the definition: of each symbol, whether a passage around it is in a text."""
    n = len(sample)
    passages = {
        (i, j) for i in range(n) for j in range(i + length, n + 1) if any(sample[i:j] in t for t in texts)
    }
    return sum(any(i <= k < j for i, j in passages) for k in range(n)) / n if n else 0.0


texts = st.text("ab", max_size=30)


@given(
    sample=texts, training=st.lists(texts, max_size=3), length=st.integers(1, 9), at_once=st.integers(1, 40)
)
@settings(max_examples=200, deadline=None)
def test_the_share_is_that_of_the_definition(sample: str, training: list[str], length: int, at_once: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verbatim, "SEARCHED_AT_ONCE", at_once)
        assert verbatim_share(VOCABULARY, sample, training, length) == share(sample, training, length)
        if training:
            assert verbatim_share(VOCABULARY, sample, training[0], length) == share(
                sample, training[:1], length
            )


@given(sample=texts, training=texts, length=st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_equal_hashes_of_different_passages_do_no_harm(sample: str, training: str, length: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verbatim, "BASE", 1)  # then all passages of the same symbols have the same hash
        assert verbatim_share(VOCABULARY, sample, training, length) == share(sample, [training], length)


@given(codes=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40), length=st.integers(1, 40))
@settings(deadline=None)
def test_a_hash_is_that_of_its_window(codes: list[int], length: int):
    length = min(length, len(codes))
    expected = [
        sum(
            (code + 1) * verbatim.BASE ** (length - 1 - i)
            for i, code in enumerate(codes[start : start + length])
        )
        % 2**64
        for start in range(len(codes) - length + 1)
    ]
    assert window_hashes(np.array(codes, np.uint64), length).tolist() == expected


@pytest.fixture(scope="module")
def model() -> Model:
    return fastrnn.train("aé€b\nab\n" * 9, hidden_size=4, steps=1, backend="numpy", rng=0)


def test_a_file_is_read_as_the_model_reads_texts(model: Model, tmp_path: Path):
    path = tmp_path / "text.txt"
    path.write_bytes("\ufeff".encode() + "é€b\r\nab\r\n".encode() * 99_999)
    assert model.verbatim_share("é€b\nab\n" * 4 + "zz", path, length=20) == 28 / 30
    assert model.verbatim_share("é€b\r\nab\r\n" * 4, path, length=20) == 1
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="UTF-8"):
        model.verbatim_share("é€b\nab\n" * 4, path)


def test_a_long_text_of_one_symbol(model: Model):
    assert model.verbatim_share("a" * 5000 + "b", "a" * 600_000, length=1000) == 5000 / 5001


def test_bytes_and_tokens():
    of_bytes = fastrnn.train(b"\x00\xff" * 30, hidden_size=4, steps=1, backend="numpy", rng=0)
    assert of_bytes.verbatim_share(b"\x00\xff\x01", b"\xff\x00\xff", length=2) == 2 / 3
    tokens = fastrnn.train([0, 1, 2] * 20, vocabulary=3, hidden_size=4, steps=1, backend="numpy", rng=0)
    for training in ([0, 1, 2], np.array([0, 1, 2]), [[2], [0, 1, 2]]):
        assert tokens.verbatim_share(np.array([0, 1, 2, 0]), training, length=3) == 3 / 4
    with pytest.raises(TypeError, match="a file has no tokens"):
        tokens.verbatim_share([0, 1, 2], Path("x"), length=1)


def test_odd_texts(model: Model):
    assert model.verbatim_share("", "abc", length=1) == model.verbatim_share("abc", "", length=1) == 0
    assert model.verbatim_share("abc", "abc", length=10**18) == 0
    assert model.verbatim_share("\0\ud800" * 9, "x\0\ud800" * 9, length=2) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *(
            (("abc", "abc", 0), "length=0"),
            (("abc", "abc", 1.5), "length=1.5"),
            ((b"abc", "abc", 1), "sample: "),
        ),
        *((("abc", b"abc", 1), "training_text: "), (("abc", 5, 1), "training_text is int")),
        *((("abc", ["abc", 5], 1), "training_text: "), ((5, "abc", 1), "sample: ")),
    ],
)
def test_wrong_arguments_are_refused(model: Model, arguments: tuple[Any, Any, Any], message: str):
    sample, training, length = arguments
    with pytest.raises((ValueError, TypeError), match=message):
        model.verbatim_share(sample, training, length=length)
