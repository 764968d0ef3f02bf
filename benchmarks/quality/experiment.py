"""One training with settings of your choice: ``python -m benchmarks.quality.experiment TEXT NAME=VALUE …``.

The rule of `fastrnn.training.choice` was found with it. It trains on nine tenths of a text's training part,
for so many floating-point operations or passes, and prints the nats per symbol of that part's last tenth.
So nothing is chosen by the part that the quality benchmark scores. Settings are arguments of `fastrnn.train`
as Python's literals, such as ``dropout=0.5``; a word without quotes is a str.
"""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Sequence
from typing import Any

import fastrnn
from benchmarks.quality.texts import TEXTS
from fastrnn.network.config import OPTIONS, NetworkConfig
from fastrnn.training.choice import operations_of_symbol

T, B = 64, 32


def setting(text: str) -> tuple[str, Any]:
    """The name and the value of a setting."""
    name, _, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.experiment", description=__doc__)
    parser.add_argument("text", choices=list(TEXTS))
    parser.add_argument("settings", nargs="*", type=setting, metavar="NAME=VALUE")
    parser.add_argument("--operations", type=float, help="of the training; the default is by --passes")
    parser.add_argument("--passes", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(arguments)


def updates(text: Any, settings: dict[str, Any], operations: float | None, passes: float) -> int:
    """How many updates there are, by the operations or by the passes."""
    symbols = 0.9 * (sum(map(len, text)) + len(text) if isinstance(text, list) else len(text))
    window = settings["seq_length"] * settings["batch_size"]
    if operations is None:
        return round(passes * symbols / window)
    vocab_size = 256 if isinstance(text, bytes) else len(set("".join(text)))
    network = {name: value for name, value in settings.items() if name in OPTIONS}
    return round(operations / operations_of_symbol(NetworkConfig(vocab_size, **network).shape) / window)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, and print the settings and the result."""
    options = parse(arguments)
    text = TEXTS[options.text]().training
    settings = {"cell": "gru", "seq_length": T, "batch_size": B, **dict(options.settings)}
    steps = updates(text, settings, options.operations, options.passes)
    model = fastrnn.train(
        text, validation=0.1, keep="last", steps=steps, threads=options.threads, rng=options.seed,
        progress=False, **settings,
    )  # fmt: skip
    evaluation, best = model.evaluation, min(record["validation_loss"] for record in model.history)
    assert evaluation is not None
    found = {"updates": steps, "nats": round(evaluation.loss, 4), "lowest_in_training": round(best, 4)}
    print(json.dumps({"text": options.text, **settings, "seed": options.seed, **found}))


if __name__ == "__main__":
    main()
