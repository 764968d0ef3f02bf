"""How much a model of another text helps a short one: ``make claim-fine-tuning``, three to five minutes.

A model of War and Peace is continued on the first nine tenths of alice29. On the last tenth it must need
fewer bits than a model of the same size that was trained on the nine tenths alone in the same time. This is
checked for bytes, and for characters: War and Peace has not all of those of alice29, so the vocabulary grows.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fastrnn

#: The seconds of the training on War and Peace, and of each training on alice29.
FIRST_SECONDS, SECONDS = 60.0, 20.0

#: The size of all three networks, so that they do as many updates.
HIDDEN_SIZE = 128


def texts(folder: Path, unit: str) -> tuple[Any, Any]:
    """War and Peace and alice29, as bytes or as characters."""
    found = [(folder / name).read_bytes() for name in ("warpeace_input.txt", "alice29.txt")]
    return tuple(found) if unit == "byte" else tuple(text.decode() for text in found)  # type: ignore[return-value]


def holds(unit: str, folder: Path, first_seconds: float, seconds: float) -> bool:
    """Train the three models, print their bits, and return whether the continued one needs fewer."""
    first, text = texts(folder, unit)
    middle = len(text) * 9 // 10
    common: dict[str, Any] = {"rng": 0, "progress": False, "hidden_size": HIDDEN_SIZE}
    model = fastrnn.train(first, time_limit=first_seconds, **common)
    models = {
        "alone": fastrnn.train(text[:middle], time_limit=seconds, **common),
        "continued": fastrnn.train(text[:middle], time_limit=seconds, init=model, **common),
    }
    bits = {}
    for name, trained in models.items():
        bits[name] = trained.bits_per_symbol(text[middle:], unknown="skip")
        steps = int(trained.history[-1]["step"]) + 1
        symbols = f"{trained.vocabulary.size} symbols (War and Peace: {model.vocabulary.size})"
        print(
            f"{name}: {bits[name]:.4f} bits per {unit} of the last tenth after {steps:,} updates; {symbols}"
        )
    return bits["continued"] < bits["alone"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Check both units."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.claims fine-tuning", description=__doc__)
    parser.add_argument("--first-seconds", type=float, default=FIRST_SECONDS, help="of War and Peace")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each training on alice29")
    options = parser.parse_args(arguments)
    folder = Path(os.environ["FASTRNN_DATA"])
    found = [holds(unit, folder, options.first_seconds, options.seconds) for unit in ("byte", "character")]
    sys.exit(not all(found))


if __name__ == "__main__":
    main()
