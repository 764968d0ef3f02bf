"""``fastrnn eval``: print how well a model predicts a text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

import fastrnn
from fastrnn.cli.output import as_json
from fastrnn.cli.program import adapt_option, backend_option, threads_option, unknown_option, unknown_value
from fastrnn.cli.texts import documents_of_file, opened_file, require_texts, separator_of_file
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
@click.option(
    "--separator",
    help="For a model of documents, the text between two, as for train.  [default: that of its training]",
)
@unknown_option
@adapt_option
@backend_option
@threads_option
def evaluate(
    *,
    model: str,
    file: str,
    to_json: bool,
    encoding: str,
    separator: str | None,
    unknown: str | None,
    adapt: str | None,
    backend: str,
    threads: int | None,
) -> None:
    """Print how well MODEL predicts FILE (- is stdin).

    For a model of documents, the parts between a separator or the lines are documents, as in its training,
    and the end of each document counts as a symbol.
    """
    loaded = fastrnn.load(model, backend=backend, threads=threads)
    require_texts(loaded, model)
    from fastrnn.data.text_file import iter_pieces

    vocabulary = loaded.vocabulary
    if separator is not None and not vocabulary.boundary:
        raise ValueError("--separator is for a model of documents, and this one learnt one running text")
    between = separator_of_file(loaded, separator)
    with opened_file(file) as (source, name):
        pieces = iter_pieces(
            source, name, vocabulary.unit, encoding, vocabulary.newlines, vocabulary.normalization
        )
        documents = documents_of_file(pieces, between, is_one=not vocabulary.boundary)
        result = _score(loaded, documents, name, _names(loaded, name, between), unknown_value(unknown), adapt)
    lines = [f"{key:16} {_number(value)}" for key, value in result.items()]
    write((as_json(result) if to_json else "\n".join(lines)) + "\n")


def _number(value: float) -> str:
    return f"{value:,.4f}" if isinstance(value, float) else f"{value:,}"


def _score(
    model: Model,
    documents: Iterator[tuple[Any, bool]],
    name: str,
    named: Callable[[int], str],
    unknown: str | float | None,
    adapt: str | None,
) -> dict[str, float]:
    """The scores of a file, with the ends of documents. The sum of the bits is exact for any pieces."""
    from fastrnn.inference.sums import perplexity

    symbols = n_bytes = 0

    def told() -> Iterator[tuple[Any, bool]]:
        nonlocal n_bytes
        for text, is_end in documents:
            n_bytes += model.vocabulary.count_bytes(text, unknown=unknown) + is_end
            yield text, is_end

    def counted() -> Iterator[list[float]]:
        nonlocal symbols
        for bits in model.score_pieces(told(), named, unknown=unknown, adapt=adapt):
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


def _names(model: Model, name: str, separator: Any) -> Callable[[int], str]:
    """The names of texts in errors."""
    if not model.vocabulary.boundary:
        return lambda _: f"{name}: "
    kind = "line" if separator is None else "document"
    return lambda place: f"{name}, {kind} {place + 1}: "
