"""Measure streams beside the kernels, on one core: ``python -m benchmarks.streams --backend c``.

An RNN of H 128 over 65 symbols in float32, or another network. The repeats are interleaved, and each figure
is a median. ``FASTRNN_ISA=v3`` holds the kernels to AVX2.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np

import fastrnn
from fastrnn.data.vocabulary import Vocabulary

#: The symbols of the vocabulary, as in the other benchmarks.
V, FIRST = 65, 33

#: The rows of the batched kernels.
ROWS = 64


def model(options: argparse.Namespace) -> fastrnn.Model:
    """A model of one running text, which was not trained."""
    network = fastrnn.Network(
        V, options.hidden_size, cell=options.cell, backend=options.backend, threads=1, rng=0
    )
    symbols = np.arange(FIRST, FIRST + V, dtype=np.uint32)
    return fastrnn.Model(network, Vocabulary("character", symbols, newlines="universal"), np.ones(V, int))


def seconds_of(run: Callable[[], object]) -> float:
    """The processor time of a call, which waits for nothing."""
    began = time.thread_time()
    run()
    return time.thread_time() - began


def batched(scored: fastrnn.Model, rows: int, steps: int) -> Callable[[], object]:
    """The kernels that score ``rows`` rows side by side."""
    network, rng = scored.network, np.random.default_rng(0)
    ids = rng.integers(0, V, (steps, rows)).astype(np.int32)
    losses, starts, state = (
        np.empty(ids.shape),
        np.zeros(ids.shape, np.uint8),
        network.checked_state(None, rows),
    )
    return lambda: network.run_losses(losses, state, ids, ids, starts)


def jobs(
    scored: fastrnn.Model, options: argparse.Namespace
) -> Iterator[tuple[str, int, Callable[[], object]]]:
    """The jobs: a name, how many symbols a call reads, and the call."""
    n, count = options.symbols, options.streams
    drawn = np.random.default_rng(1).integers(FIRST, FIRST + V, n)
    text = "".join(map(chr, drawn.tolist()))
    one, some, long = scored.stream(), scored.stream(), scored.stream()
    pieces = [text[place : place + 64] for place in range(0, n, 64)]
    singles = text[: n // 50]
    many = fastrnn.Streams(scored)
    for key in range(count):
        many.add(key)
    fed = [dict(enumerate(text[place : place + count])) for place in range(0, 10 * count, count)]
    yield "feed of one symbol", len(singles), lambda: [one.feed(symbol) for symbol in singles]
    yield "feeds of 64 symbols", n, lambda: [some.feed(piece) for piece in pieces]
    yield "one feed", n, lambda: long.feed(text)
    yield "surprisal", n, lambda: scored.surprisal(text)
    yield f"{count:,} streams, one symbol each", 10 * count, lambda: [many.feed(texts) for texts in fed]
    yield f"kernels, {ROWS} rows", 100 * ROWS, batched(scored, ROWS, 100)
    yield f"kernels, {count:,} rows", 10 * count, batched(scored, count, 10)


def main() -> None:
    """Print microseconds of a symbol, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="c")
    parser.add_argument("--cell", default="rnn")
    parser.add_argument("--hidden-size", type=int, default=128)
    parser.add_argument("--symbols", type=int, default=100_000)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    measured: dict[str, list[float]] = {}
    every = list(jobs(model(options), options))
    for _, _, run in every:
        run()  # compiles, and fills the caches
    for _ in range(options.repeats):
        for name, n, run in every:
            measured.setdefault(name, []).append(1e6 * seconds_of(run) / n)
    found = {name: statistics.median(times) for name, times in measured.items()}
    print(f"microseconds of a symbol: {options.cell}, H {options.hidden_size}, {options.backend}")
    for name, microseconds in found.items():
        print(f"  {name:32} {microseconds:7.3f}")
    one, chunks, whole, surprisal, many, kernels, wide = found.values()
    print(f"a feed of one symbol takes {one:.1f} microseconds")
    for name, other in ("one feed", whole), ("surprisal", surprisal):
        print(f"feeds of 64 symbols take {chunks / other - 1:.1%} longer than {name}")
    for rows, other in (ROWS, kernels), (options.streams, wide):
        print(f"the streams reach {other / many:.0%} of the rate of the kernels with {rows:,} rows")


if __name__ == "__main__":
    main()
