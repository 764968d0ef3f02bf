"""The time of many samples side by side, beside one by one: ``python -m benchmarks.sampling``.

An RNN of H 128 in float32, or another network, after a short training on made-up text. A row has the
microseconds of a symbol one by one (`Model.sample`) and side by side (`Model.sample_many`), and how many
times faster that is. The figures of one thread are processor times, which depend less on what else the
machine does; those of several are wall times.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import fastrnn

#: The options of each row.
ROWS: dict[str, dict[str, Any]] = {
    "plain": {},
    "top_k=10": {"top_k": 10},
    "top_p=0.9": {"top_p": 0.9},
    "min_p=0.05": {"min_p": 0.05},
    "repetition_penalty=1.2": {"repetition_penalty": 1.2},
    "no_repeat_ngram=8": {"no_repeat_ngram": 8},
    "pattern": {"pattern": "[a-z ]+"},
}

REPEATS = 9


def fastest(call: Callable[[], Any], clock: Callable[[], float]) -> float:
    """The seconds of the fastest of some calls."""
    found = []
    for _ in range(REPEATS):
        start = clock()
        call()
        found.append(clock() - start)
    return min(found)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=200, help="symbols of a sample")
    parser.add_argument("--count", type=int, nargs="+", default=[16, 64, 256], help="samples side by side")
    parser.add_argument("--cell", default="rnn")
    parser.add_argument("--hidden-size", type=int, default=128)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    text = "".join(f"{i * i} words of the line {i} in a text of {i % 7} lines.\n" for i in range(3000))
    model = fastrnn.train(
        text, hidden_size=options.hidden_size, cell=options.cell, embedding_size=None, steps=300, rng=0,
        progress=False, backend=options.backend, threads=options.threads,
    )  # fmt: skip
    clock = time.thread_time if options.threads == 1 else time.perf_counter
    print(f"{model.network!r}, {options.n} symbols, {options.threads} threads; µs a symbol")
    for name, rules in ROWS.items():
        alone = fastest(lambda rules=rules: model.sample(options.n, "the ", rng=0, **rules), clock)
        line = f"{name:24}{alone / options.n * 1e6:8.2f}"
        for count in options.count:
            many = fastest(
                lambda rules=rules, count=count: model.sample_many(count, options.n, "the ", rng=0, **rules),
                clock,
            )
            line += f"   {count}: {many / count / options.n * 1e6:6.2f} ({count * alone / many:.1f} times)"
        print(line, flush=True)


if __name__ == "__main__":
    main()
