"""``fastrnn eval``: print how well a model predicts a text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

import fastrnn
from fastrnn.cli.output import as_json
from fastrnn.cli.program import backend_option, threads_option, unknown_option, unknown_value
from fastrnn.cli.texts import opened_file
from fastrnn.core.terminal import write

if TYPE_CHECKING:
    from fastrnn.model.model import Model


@click.command("eval")
@click.argument("model")
@click.argument("file")
@click.option("--json", "to_json", is_flag=True, help="Print JSON.")
@click.option(
    "--encoding", default="utf-8", show_default=True, help="The file's encoding, for a model of characters."
)
@unknown_option
@backend_option
@threads_option
def evaluate(
    *, model: str, file: str, to_json: bool, encoding: str, unknown: str, backend: str, threads: int | None
) -> None:
    """Print how well MODEL predicts FILE (- is stdin).

    For a model of documents, each line is a document, and the end of each line counts as a symbol.
    """
    loaded = fastrnn.load(model, backend=backend, threads=threads)
    if loaded.vocabulary.unit == "token":
        raise ValueError(
            f"{model} is a model of tokens, and a file is a text; score tokens in Python, with "
            "fastrnn.load and Model.surprisal"
        )
    from fastrnn.data.text_file import iter_pieces

    vocabulary = loaded.vocabulary
    with opened_file(file) as (source, name):
        pieces = iter_pieces(source, name, vocabulary.unit, encoding, vocabulary.newlines)
        result = _score(loaded, pieces, name, unknown_value(unknown))
    lines = [f"{key:16} {_number(value)}" for key, value in result.items()]
    write((as_json(result) if to_json else "\n".join(lines)) + "\n")


def _number(value: float) -> str:
    return f"{value:,.4f}" if isinstance(value, float) else f"{value:,}"


def _score(model: Model, pieces: Iterator[Any], name: str, unknown: str | float) -> dict[str, float]:
    """The scores of a file, with the ends of documents. The sum of the bits is exact for any pieces."""
    from fastrnn.inference.scoring import perplexity

    symbols = n_bytes = 0

    def told() -> Iterator[tuple[Any, bool]]:
        nonlocal n_bytes
        for text, is_end in _texts(model, pieces):
            n_bytes += model.vocabulary.count_bytes(text, unknown=unknown) + is_end
            yield text, is_end

    def counted() -> Iterator[list[float]]:
        nonlocal symbols
        for bits in model.score_pieces(told(), _names(model, name), unknown=unknown):
            symbols += len(bits)
            yield bits.tolist()

    try:
        total = math.fsum(itertools.chain.from_iterable(counted()))
    except OverflowError as error:
        raise ValueError(f"{name} has too many bits: the model's parameters are out of range") from error
    if not symbols:
        raise ValueError(
            f"{name} has nothing to score: "
            + ("the file is empty" if unknown != "skip" else "it has no symbol that the model knows")
        )
    mean = total / symbols
    return {
        "symbols": symbols,
        "bytes": n_bytes,
        "bits": total,
        "bits_per_symbol": mean,
        "bits_per_byte": total / n_bytes,
        "nats_per_symbol": mean * math.log(2),
        "perplexity": perplexity(mean),
    }


def _texts(model: Model, pieces: Iterator[Any]) -> Iterator[tuple[Any, bool]]:
    """Each line of documents, or each piece of a running text, and whether a document ends with it."""
    from fastrnn.data.text_file import iter_lines

    return iter_lines(pieces) if model.vocabulary.boundary else ((piece, False) for piece in pieces)


def _names(model: Model, name: str) -> Callable[[int], str]:
    """The names of texts in errors."""
    return lambda place: f"{name}, line {place + 1}: " if model.vocabulary.boundary else f"{name}: "
