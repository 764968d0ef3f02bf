"""What `refit` brings: ``python -m benchmarks.refit FILE --characters 200000``, some minutes.

The last tenth of a text is a test part, which no training sees. Of the rest, fastrnn holds out a tenth and
trains. Then its model is compared with two that have seen the whole rest:
- *refit*: training goes on from the best weights over the whole rest, `fastrnn.train(…, refit=True)`;
- *anew*: a training from the beginning, on the whole rest, as many passes as the best weights took, with the
  schedule fitted to this length.
It prints the bits per symbol of the test part, with the worst of some seeds, and the updates that each takes
in all. ``--steps`` sets the updates of training. ``--budget`` compares at equal updates: three quarters of
them for training before a refit, half of them before a training anew.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

import fastrnn

#: A model, and the updates that it took in all.
Result = tuple[fastrnn.Model, int]


def updates_of(model: fastrnn.Model) -> int:
    """How many updates a training did."""
    return int(model.history[-1]["step"]) + 1


def best_of(model: fastrnn.Model) -> int:
    """The number of updates of the weights that a model has."""
    assert model.kept_record is not None
    return int(model.kept_record["step"]) + 1


def anew(train: Callable[..., fastrnn.Model], steps: int | None, at_most: int | None) -> Result:
    """Train on all for as many passes as the best length has."""
    first = train(**({} if steps is None else {"steps": steps}))
    wanted = round(best_of(first) / 0.9)
    second = train(validation=0, steps=wanted if at_most is None else min(wanted, at_most))
    return second, updates_of(first) + updates_of(second)


def measured(source: Any, seed: int, steps: int | None, *, budget: bool) -> dict[str, Result]:
    """The models to compare."""

    def train(**options: Any) -> fastrnn.Model:
        return fastrnn.train(source, rng=seed, progress=False, threads=1, **options)

    some = {} if steps is None else {"steps": steps * 3 // 4 if budget else steps}
    none = train(**({} if steps is None else {"steps": steps}))
    refit = train(refit=True, **some)
    half = steps // 2 if steps is not None and budget else None
    return {
        "no refit": (none, updates_of(none)),
        "anew": anew(train, half or steps, half),
        "refit": (refit, updates_of(refit)),
    }


def bits_of(model: fastrnn.Model, test: Any) -> float:
    """The bits per symbol of the test part."""
    if isinstance(test, str):
        return model.bits_per_symbol(test, unknown="skip")
    return float(np.concatenate(model.score_many(test, end=True, unknown="skip")).mean())


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", help="a file of FASTRNN_DATA")
    parser.add_argument("--characters", type=int, default=200_000)
    parser.add_argument("--lines", action="store_true", help="lines are documents, in a random order")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--budget", action="store_true")
    options = parser.parse_args()
    text = (Path(os.environ["FASTRNN_DATA"]) / options.file).read_text()[: options.characters]
    all_of_it: Any = text
    if options.lines:
        lines = text.split("\n")[:-1]
        all_of_it = [lines[place] for place in np.random.default_rng(42).permutation(len(lines))]
    n = len(all_of_it) * 9 // 10
    found: dict[str, list[tuple[float, int]]] = {}
    for seed in range(options.seeds):
        results = measured(all_of_it[:n], seed, options.steps, budget=options.budget)
        for name, (model, updates) in results.items():
            found.setdefault(name, []).append((bits_of(model, all_of_it[n:]), updates))
    for name, both in found.items():
        bits, updates = zip(*both, strict=True)
        print(f"{name:10} {fmean(bits):.3f} bits (worst {max(bits):.3f}) after {fmean(updates):,.0f} updates")


if __name__ == "__main__":
    main()
