"""A recurrent model beside KenLM: ``python -m benchmarks.ngrams``, with ``kenlm`` and ``FASTRNN_DATA``.

Both learn the first nine tenths of the lines of tinyshakespeare, and score each line of the last tenth with
its end, in one thread. KenLM reads an ARPA file of order 6 over characters, which this script estimates with
interpolated Witten-Bell smoothing (Witten & Bell 1991). It prints bits for each symbol, and symbols per
second.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import fastrnn

Ngram = tuple[str, ...]

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"

#: The logarithm that an ARPA file gives what is never predicted.
NEVER = -99.0


def words_of(line: str) -> list[str]:
    """A line as words of one character; white space has a name, because KenLM separates words by it."""
    return [f"<{ord(c):x}>" if c.isspace() else c for c in line]


def counted(lines: Sequence[str], order: int) -> list[Counter[Ngram]]:
    """How often each n-gram occurs that ends with a character or with the end of a line, by its length."""
    counts: list[Counter[Ngram]] = [Counter() for _ in range(order)]
    for line in lines:
        words = [BEGIN, *words_of(line), END]
        for end in range(2, len(words) + 1):
            for n in range(1, min(order, end) + 1):
                counts[n - 1][tuple(words[end - n : end])] += 1
    return counts


def witten_bell(counts: list[Counter[Ngram]]) -> tuple[list[dict[Ngram, float]], dict[Ngram, float]]:
    """The probability of the last word of each n-gram after the others, by its length; and backoff weights.

    With c the count, t(h) the number of different words after h, and h' as h without its first word:
    p(w | h) = (c(hw) + t(h) p(w | h')) / (c(h) + t(h)), and the weight of h is t(h) / (c(h) + t(h)).
    Below the empty history, all words and the unknown one are equally probable.
    """
    probabilities: list[dict[Ngram, float]] = []
    weights: dict[Ngram, float] = {}
    equal = 1 / (len(counts[0]) + 1)
    for own in counts:
        totals: Counter[Ngram] = Counter()
        for gram, count in own.items():
            totals[gram[:-1]] += count
        types = Counter(gram[:-1] for gram in own)
        weights |= {h: types[h] / (totals[h] + types[h]) for h in totals}
        shorter = probabilities[-1] if probabilities else {}
        probabilities.append(
            {
                gram: count / (totals[gram[:-1]] + types[gram[:-1]])
                + weights[gram[:-1]] * shorter.get(gram[1:], equal)
                for gram, count in own.items()
            }
        )
    probabilities[0] = {(UNKNOWN,): weights[()] * equal, (BEGIN,): 0.0, **probabilities[0]}
    return probabilities, weights


def arpa(probabilities: list[dict[Ngram, float]], weights: dict[Ngram, float]) -> Iterator[str]:
    """The lines of an ARPA file."""
    yield "\\data\\\n"
    for n, own in enumerate(probabilities, 1):
        yield f"ngram {n}={len(own)}\n"
    for n, own in enumerate(probabilities, 1):
        yield f"\n\\{n}-grams:\n"
        for gram, p in own.items():
            weight = f"\t{math.log10(weights[gram]):.7f}" if gram in weights else ""
            yield f"{math.log10(p) if p else NEVER:.7f}\t{' '.join(gram)}{weight}\n"
    yield "\n\\end\\\n"


def median_seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """The median seconds of a call."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ngrams", description=__doc__)
    parser.add_argument("--order", type=int, default=6)
    parser.add_argument("--steps", type=int, default=4000, help="updates of the recurrent model")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    import kenlm

    text = Path(os.environ["FASTRNN_DATA"], "tinyshakespeare.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line]
    known, new = lines[: len(lines) * 9 // 10], lines[len(lines) * 9 // 10 :]
    symbols = sum(map(len, new)) + len(new)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "characters.arpa")
        with path.open("w", encoding="utf-8") as file:
            file.writelines(arpa(*witten_bell(counted(known, options.order))))
        estimated, size = time.perf_counter() - began, path.stat().st_size
        ngrams = kenlm.Model(str(path))
    sentences = [" ".join(words_of(line)) for line in new]

    def by_kenlm() -> float:
        return -sum(ngrams.score(sentence) for sentence in sentences) * math.log2(10)

    began = time.perf_counter()
    model = fastrnn.train(
        known, cell="rnn", hidden_size=128, dropout=0.0, steps=options.steps, threads=1, rng=0, progress=False
    )
    trained = time.perf_counter() - began

    def by_fastrnn() -> float:
        return float(sum(bits.sum() for bits in model.score_many(new, end=True)))

    print(json.dumps({
        "lines": len(new), "symbols": symbols,
        "kenlm": {
            "bits_per_symbol": by_kenlm() / symbols, "symbols_per_second": symbols / median_seconds(by_kenlm),
            "bytes": size, "seconds_to_estimate": estimated,
        },
        "fastrnn": {
            "bits_per_symbol": by_fastrnn() / symbols,
            "symbols_per_second": symbols / median_seconds(by_fastrnn),
            "bytes": len(model.to_bytes()), "seconds_to_train": trained,
            "network": repr(model.network),
        },
    }, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
