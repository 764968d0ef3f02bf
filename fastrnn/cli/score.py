"""``fastrnn score``: print the bits of each line of a file or a pipe."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

import fastrnn
from fastrnn.cli.program import (
    adapt_option,
    backend_option,
    errors_for_people,
    threads_option,
    unknown_option,
    unknown_value,
)
from fastrnn.cli.scored_lines import FAILED, Columns, Form, Json, LinesWriter
from fastrnn.cli.texts import opened_file, require_texts

if TYPE_CHECKING:
    from fastrnn.inference.lines import LineScorer
    from fastrnn.model.model import Model

#: The most bytes that are read at a time.
CHUNK = 1 << 18


@click.command()
@click.argument("model")
@click.argument("file", default="-")
@click.option(
    "--lines/--carry",
    default=None,
    help="lines: each line is scored as if there were no other; carry: each is scored by what MODEL expects "
    "after all lines before it, and its end counts as a symbol.  [default: lines for a model of documents, "
    "else carry]",
)
@click.option(
    "--bits-per-symbol", "is_mean", is_flag=True, help="A line's score is the mean of its bits, not the sum."
)
@click.option("--threshold", type=float, metavar="BITS", help="Write only lines with a higher score.")
@click.option("--per-symbol", is_flag=True, help="Write the bits of each symbol too.")
@click.option("--json", "to_json", is_flag=True, help="Write a line of JSON for each line.")
@click.option(
    "--encoding", default="utf-8", show_default=True, help="The file's encoding, for a model of characters."
)
@unknown_option
@adapt_option
@backend_option
@threads_option
def score(
    *,
    model: str,
    file: str,
    lines: bool | None,
    is_mean: bool,
    threshold: float | None,
    per_symbol: bool,
    to_json: bool,
    encoding: str,
    unknown: str | None,
    adapt: str | None,
    backend: str,
    threads: int | None,
) -> None:
    """Print how many bits MODEL gives each line of FILE (- is stdin), as soon as the line is there.

    A line of the output has the score, a tab and the line. With --per-symbol, the bits of the symbols and a
    tab are before the line; those of a document's end, or of a line's end with --carry, are the last.

    A line that is not in its encoding, or has an unknown symbol, has the score nan (null in JSON, with the
    error). It is written with --threshold too. With --carry, MODEL reads on without it. With --unknown, such
    a byte is an unknown symbol too. With --adapt, what is learnt from a line is carried on to those after it.

    \b
    The exit status is that of grep:
      0    all lines were scored and, with --threshold, one was above it
      1    all lines were scored, and none was above the --threshold
      2    a line could not be scored, or there was another error
      141  the reader of stdout ended
    """  # noqa: D301  (this escape keeps the lines of the table)
    if threshold is not None and math.isnan(threshold):
        raise click.UsageError("--threshold is nan; it must be a number of bits")
    with errors_for_people(FAILED):
        loaded = fastrnn.load(model, backend=backend, threads=threads)
        require_texts(loaded, model)
        vocabulary = loaded.vocabulary
        carry = not vocabulary.boundary if lines is None else not lines
        scorer = _scorer(loaded, unknown_value(unknown), encoding, adapt, carry=carry)
        is_bytes = vocabulary.unit == "byte"
        read_as = "utf-8" if is_bytes else encoding
        form: Form = Columns(per_symbol, read_as, is_mean)
        if to_json:
            form = Json(per_symbol, read_as, "surrogateescape" if is_bytes else "backslashreplace")
        with opened_file(file) as (source, name):
            writer = LinesWriter(form, threshold, is_mean=is_mean, name=name)
            for data in _read(source):
                writer.write(scorer.feed(data))
            writer.write(scorer.finish())
    sys.exit(writer.finish())


def _scorer(
    model: Model, unknown: str | float | None, encoding: str, adapt: str | None, *, carry: bool
) -> LineScorer:
    """The scorer of lines. For a model of documents, lines that are one text are one endless document."""
    from fastrnn.inference.lines import LineScorer
    from fastrnn.inference.mixture import adapting
    from fastrnn.inference.scoring import Scorer

    vocabulary = model.vocabulary
    scorer = Scorer.checked(
        model.network,
        vocabulary,
        model.counts,
        end=vocabulary.boundary and not carry,
        unknown=unknown,
        bits=True,
        mixture=adapting(model.mixture, adapt, carry=adapt is not None),
    )
    if carry and scorer.unknown == "error" and ord("\n") not in vocabulary.symbols:
        raise ValueError(
            "--carry scores the ends of lines, and the model does not know the line feed; give --lines, or "
            "--unknown"
        )
    return LineScorer(scorer, encoding=encoding, carry=carry)


def _read(source: Any) -> Iterator[bytes]:
    """Yield the bytes of a file in chunks; those of a pipe as soon as they are there."""
    while data := source.read1(CHUNK):
        yield data
