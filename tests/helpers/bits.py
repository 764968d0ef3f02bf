"""Digests of trainings, scores and samples, which every compiled backend must give on every machine.

``python tests/helpers/bits.py BACKEND THREADS UPDATES`` prints them; ``python tests/helpers/bits.py write``
writes those of the C backend to ``tests/files/bits.json``. Do this only in a separate commit that says why
the bits change.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import fastrnn
from fastrnn.network import execution

WRITTEN = Path(__file__).parents[1] / "files" / "bits.json"

#: The updates of each training: few, such as for a build with fma in software, and many.
FEW, MANY = 100, 1000

#: Settings of all trainings with `fastrnn.train`, so that the digests do not depend on what it chooses.
PINNED: dict[str, Any] = {
    "cell": "rnn",
    "embedding_size": None,
    "dropout": 0.0,
    "learning_rate": 0.008,
    "clip_norm": 1.0,
}

#: Trainings with `fastrnn.train` on one text, by name.
TEXT_RUNS: dict[str, dict[str, Any]] = {
    "plain": {"hidden_size": 37, "seq_length": 21, "batch_size": 7},
    "one row": {
        "hidden_size": 40,
        "seq_length": 9,
        "batch_size": 1,
        "optimizer": "adagrad",
        "clip_value": 1.0,
    },
    "one step": {
        "hidden_size": 5,
        "seq_length": 1,
        "batch_size": 13,
        "optimizer": "sgd",
        "learning_rate": 0.1,
    },
    "wide": {"hidden_size": 72, "seq_length": 20, "batch_size": 25},
    "char-rnn": {
        "cell": "lstm",
        "num_layers": 2,
        "hidden_size": 33,
        "seq_length": 5,
        "batch_size": 6,
        "optimizer": "rmsprop",
        "reduction": "batchmean",
        "learning_rate": 2e-3,
        "schedule": fastrnn.schedules.Exponential(after=3),
    },
    "momentum": {
        "hidden_size": 9,
        "seq_length": 4,
        "batch_size": 5,
        "learning_rate": 0.05,
        "schedule": "cosine",
        "optimizer": fastrnn.optimizers.SGD(momentum=0.9, nesterov=True),
    },
    "decay": {
        "hidden_size": 11,
        "seq_length": 4,
        "batch_size": 3,
        "optimizer": "adamw",
        "schedule": fastrnn.schedules.Plateau(patience=1, factor=0.5),
    },
    "dropped inputs": {
        "cell": "gru",
        "hidden_size": 15,
        "embedding_size": 7,
        "input_dropout": 0.2,
        "seq_length": 6,
        "batch_size": 5,
    },
    "groups": {
        "cell": "gru",
        "hidden_size": 13,
        "seq_length": 5,
        "batch_size": 3,
        "optimizer": "adamw",
        "averaging": 0.99,
        "freeze": ["weight_hh_l0", "head.bias"],
        "learning_rate_factors": {"head.*": 0.3, "bias_l0": 2.0},
        "weight_decay_factors": {"bias*": 0.0},
    },
}

#: Trainings with `fastrnn.train` on documents.
DOCUMENT_RUNS: dict[str, dict[str, Any]] = {
    "documents, rnn": {"hidden_size": 21, "seq_length": 11, "batch_size": 6},
    "documents, gru": {"cell": "gru", "hidden_size": 19, "seq_length": 13, "batch_size": 4, "num_layers": 2},
    "documents, lstm": {
        "cell": "lstm",
        "hidden_size": 17,
        "seq_length": 8,
        "batch_size": 5,
        "embedding_size": 12,
        "dropout": 0.3,
    },
}

#: Networks that a `fastrnn.Trainer` trains, with an average of the parameters, on 50 symbols.
NETWORKS: dict[str, dict[str, Any]] = {
    "relu": {"activation": "relu", "num_layers": 2},
    "rnn, one-hot": {},
    "gru, one-hot": {"cell": "gru"},
    "lstm, one-hot": {"cell": "lstm"},
    "rnn, tied": {"embedding_size": 37, "tied": True},
    "gru": {"cell": "gru", "num_layers": 2, "embedding_size": 19, "dropout": 0.2},
    "lstm": {"cell": "lstm", "num_layers": 3, "embedding_size": 37, "tied": True, "dropout": 0.2},
}

WORDS = (
    *(
        "the",
        "sea",
        "was",
        "grey",
        "and",
        "a",
        "small",
        "boat",
        "went",
        "out",
        "before",
        "dawn",
        "with",
        "two",
    ),
    *(
        "men",
        "who",
        "did",
        "not",
        "speak",
        "of",
        "what",
        "they",
        "had",
        "seen",
        "é",
        "naïve",
        "λόγος",
        "水",
        "—",
    ),
)


def made_up_text(n: int) -> str:
    """A text of n characters, the same on every machine: lines of words that a hash chooses."""
    pieces: list[str] = []
    length = 0
    while length < n:
        chosen = hashlib.sha256(str(len(pieces)).encode()).digest()
        words = [WORDS[byte % len(WORDS)] for byte in chosen[: 3 + chosen[-1] % 9]]
        pieces.append(" ".join(words).capitalize() + ".\n")
        length += len(pieces[-1])
    return "".join(pieces)[:n]


#: Options of `fastrnn.Model.sample` of which each has samples of its own.
SAMPLING: tuple[dict[str, Any], ...] = (
    {"temperature": 0.6},
    {"top_k": 7, "temperature": 1.3},
    {"top_p": 0.8, "min_p": 0.02},
    {"repetition_penalty": 1.3, "repetition_window": 9},
    {"no_repeat_ngram": 3, "stop": ["the", "sea."]},
    {"pattern": "[a-z ]+[.]?", "prime": "the "},
)


def digest(*parts: Any) -> str:
    """One digest of arrays, and of the repr of other objects, in their order."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
    return found.hexdigest()


def of_model(model: fastrnn.Model, texts: list[str]) -> dict[str, str]:
    """The digests of a trained model and of its results."""
    return {
        "parameters": digest(model.network.flat),
        "history": digest(list(model.history)),
        "scores": digest(*model.score_many(texts)),
        "sample": digest(model.sample(200, rng=1), model.sample(50, "the ", temperature=0.7, rng=2)),
        "samples": digest(*(model.sample_many(5, 30, rng=3, **options) for options in SAMPLING)),
        "beams": digest(model.beam_search(12, "the ", width=4)),
        "distribution": digest(model.next_probabilities(["the ", "a", ""])),
    }


def of_network(made: fastrnn.Network, updates: int) -> dict[str, str]:
    """The digests of a network after training, and of its results."""
    drawn = hashlib.shake_256(b"ids").digest(8 * (updates // 2 + 1))
    streams = np.frombuffer(drawn, np.uint8).reshape(-1, 8) % 50
    trainer = fastrnn.Trainer(made, averaging=0.99, clip_norm=1.0, reduction="mean", dropout_seed=2**40 + 1)
    losses = trainer.steps(streams, 13, passes=26)
    window = streams[:31]
    loss, gradients, _ = made.loss_and_gradients(window[:-1], window[1:], trainer.state, dropout_seed=3)
    logits, state = made.forward(window)
    start = np.zeros((made.shape.Z, made.num_layers, 1, made.hidden_size), made.dtype)
    return {
        "losses": digest(losses),
        "parameters": digest(made.flat, trainer.averaged_network.flat),
        "gradients": digest(loss, *gradients.values()),
        "logits": digest(logits, np.asarray(state)),
        "sample": digest(made.sample(50, 1, start, temperature=0.9, rng=np.random.default_rng(1))),
    }


def of_counts(backend: str, dtype: str, updates: int) -> dict[str, str]:
    """The digests of counts, gates and scores of a text of a thousand symbols for each update."""
    text, others = made_up_text(1000 * updates), made_up_text(70 * updates)[::-1]
    chosen = {**PINNED, "backend": backend, "threads": 1, "dtype": dtype, "rng": 0, "progress": False}
    sizes = {"hidden_size": 16, "steps": 20, "count_order": 7, "count_memory": 2_000_000}
    mixture = (model := fastrnn.train(text, **chosen, **sizes)).mixture
    assert mixture is not None
    lines = others.splitlines()[:50]
    return {
        "counts": digest(*mixture.tensors().values()),
        "scores": digest(model.surprisal(others), *model.score_many(lines)),
        "adapted": digest(model.surprisal(others, adapt="counts"), *model.score_many(lines, adapt="counts")),
    }


def digests(backend: str, threads: int, updates: int, shared: str = "rows") -> dict[str, dict[str, str]]:
    """All digests, by training and precision, and by name. Threads share batch rows or ``"columns"``."""
    execution.MIN_WORK = execution.MIN_ROWS = 1  # so that small windows use several threads
    by_columns = shared == "columns"
    if by_columns:
        execution.MIN_ROWS, execution.MIN_STEP_WORK, execution.MIN_COLUMNS = 1000, 1, 1
    text = made_up_text(60_000)
    lines = text.splitlines()
    found = {}
    for dtype in ("float32", "float64"):
        common: dict[str, Any] = {"backend": backend, "threads": threads, "dtype": dtype, "rng": 0}
        for source, runs in ((text, TEXT_RUNS), (lines[:900], DOCUMENT_RUNS)):
            for name, settings in runs.items():
                chosen = {**PINNED, **common, **settings}
                model = fastrnn.train(source, steps=updates, log_every=50, progress=False, **chosen)
                split = model.network.split(settings["seq_length"], settings["batch_size"])
                parts = threads if by_columns else min(threads, settings["batch_size"])
                assert split == (parts, by_columns)
                found[f"{name}, {dtype}"] = of_model(model, lines[-9:])
        for name, settings in NETWORKS.items():
            made = fastrnn.Network(50, 37, **common, **settings)
            assert made.split(13, 8) == (threads, by_columns)
            found[f"network, {name}, {dtype}"] = of_network(made, updates)
        found[f"counts, {dtype}"] = of_counts(backend, dtype, updates)
    return found


def written(updates: int) -> dict[str, dict[str, str]]:
    """The digests in the file."""
    found: dict[str, dict[str, str]] = json.loads(WRITTEN.read_text(encoding="utf-8"))[str(updates)]
    return found


def main() -> None:
    """Print the digests, or write them to the file."""
    if sys.argv[1:] == ["write"]:
        every = {str(updates): digests("c", 1, updates) for updates in (FEW, MANY)}
        WRITTEN.write_text(json.dumps(every, indent=1) + "\n", encoding="utf-8")
    else:
        backend, threads, updates, shared = sys.argv[1:]
        print(json.dumps(digests(backend, int(threads), int(updates), shared)))


if __name__ == "__main__":
    main()
