"""The script that estimates n-grams for KenLM."""

from __future__ import annotations

import itertools
import math

import pytest

from benchmarks.ngrams import arpa, counted, witten_bell

LINES = ["abba", "a b", "", "bab"]


def probability(gram: tuple[str, ...], probabilities: list, weights: dict) -> float:
    """What a reader of the ARPA file computes (Katz's backoff)."""
    if gram in probabilities[len(gram) - 1]:
        return probabilities[len(gram) - 1][gram]
    return weights.get(gram[:-1], 1.0) * probability(gram[1:], probabilities, weights)


def test_probabilities_after_every_history_add_up_to_one():
    probabilities, weights = witten_bell(counted(LINES, 3))
    words = [word for (word,) in probabilities[0] if word != "<s>"]
    assert sorted(words) == ["</s>", "<20>", "<unk>", "a", "b"]
    histories = [
        *itertools.product(words, repeat=2),
        *((word,) for word in words),
        (),
        ("<s>",),
        ("<s>", "a"),
    ]
    for history in histories:
        total = sum(probability((*history, word), probabilities, weights) for word in words)
        assert total == pytest.approx(1, abs=1e-12)


def test_one_probability_by_hand():
    probabilities, _ = witten_bell(counted(["ab", "aa"], 2))
    unigram = (3 + 3 * 1 / 4) / (6 + 3)  # a: 3 of 6 symbols, of 3 kinds
    assert probabilities[0]["a",] == pytest.approx(unigram)
    assert probabilities[1]["a", "a"] == pytest.approx((1 + 3 * unigram) / (3 + 3))


def test_the_file_has_every_ngram_and_its_suffixes():
    probabilities, weights = witten_bell(counted(LINES, 3))
    lines = "".join(arpa(probabilities, weights)).splitlines()
    assert lines[:4] == ["\\data\\", *(f"ngram {n}={len(own)}" for n, own in enumerate(probabilities, 1))]
    assert lines[-1] == "\\end\\"
    entries = [line.split("\t") for line in lines if "\t" in line]
    grams = {tuple(entry[1].split(" ")): entry for entry in entries}
    assert len(grams) == sum(map(len, probabilities))
    assert all(gram[1:] in grams for gram in grams if len(gram) > 1)
    assert all(history in grams for history in weights if history)
    assert math.isclose(10 ** float(grams["a", "b"][0]), probabilities[1]["a", "b"], rel_tol=1e-6)
