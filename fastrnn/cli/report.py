"""``fastrnn report``: write a page with what a model sees in a text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import fastrnn
from fastrnn.cli.program import backend_option, threads_option, unknown_option, unknown_value
from fastrnn.cli.saving import require_no_input
from fastrnn.cli.texts import documents_of_file, opened_file, separator_of_file, token_names
from fastrnn.core.terminal import escaped, tell, write

if TYPE_CHECKING:
    from fastrnn.model.model import Model

#: The most characters or bytes of a text that are read, enough for the longest report.
LONGEST_READ = 1 << 21


@click.command()
@click.argument("model")
@click.argument("file", metavar="TEXT")
@click.option(
    "-o", "--output", default="report.html", show_default=True, help="Where to write the page; - is stdout."
)
@click.option("--lines", is_flag=True, help="Each line is a text of its own.")
@click.option("--separator", help="The text between two texts, as for train.")
@click.option("--encoding", default="utf-8", show_default=True, help="The encoding of TEXT; not for bytes.")
@unknown_option
@backend_option
@threads_option
def report(
    *,
    model: str,
    file: str,
    output: str,
    lines: bool,
    separator: str | None,
    encoding: str,
    unknown: str | None,
    backend: str,
    threads: int | None,
) -> None:
    """Write one page of HTML with what MODEL sees in the file TEXT (- is stdin).

    The page has the text, coloured by surprisal, and the most probable symbols at each place; hidden units
    as heat maps; the loss of the training; the calibration; and the strangest passages. It shows the first
    20,000 symbols. For a model of tokens, TEXT has their names, separated by white space. Without --lines or
    --separator, TEXT has the parts that the training had: one, or lines, or what is between a separator.
    """
    from fastrnn.core.atomic import require_place

    if output != "-":
        require_place(output, "page")
        require_no_input("--output", output, [model, file], "read")
    loaded = fastrnn.load(model, backend=backend, threads=threads)
    from fastrnn.data.text_file import iter_pieces
    from fastrnn.report.excerpt import Excerpt
    from fastrnn.report.page import Names
    from fastrnn.report.show import Report

    vocabulary, policy = loaded.vocabulary, unknown_value(unknown)
    between = separator_of_file(loaded, separator, lines=lines)
    unit = "byte" if vocabulary.unit == "byte" else "character"
    with opened_file(file) as (source, name):
        pieces = iter_pieces(source, name, unit, encoding, vocabulary.newlines, vocabulary.normalization)
        is_one = not (lines or vocabulary.boundary or between is not None)
        parts = documents_of_file(pieces, between, is_one=is_one)
        excerpt = Excerpt.of_read(vocabulary, _texts(loaded, _joined(parts), name, policy))
    names = Names(escaped(Path(model).name), escaped(Path(name).name))
    page = Report.of(loaded, excerpt, policy, names)
    if output == "-":
        write(page.html.encode())
        return
    page.save(output)
    tell(f"wrote {output}")


def _texts(
    model: Model, texts: Iterator[tuple[Any, bool]], name: str, unknown: str | float | None
) -> Iterator[tuple[Any, bool]]:
    """The texts of a file as those of a model, each with whether it is whole."""
    import numpy as np

    if model.vocabulary.unit != "token":
        return texts
    ids = {token: place for place, token in enumerate(token_names(model))}

    def read(word: str) -> int:
        if word not in ids and unknown in {None, "error"}:
            raise ValueError(f"{name} has {word!r}, which is not among the model's {len(ids)} tokens")
        return ids.get(word, -1)

    def tokens_of(text: str, *, is_whole: bool) -> Any:
        words = text.split() if is_whole else text.split()[:-1]  # the last word may be cut
        return np.array([*map(read, words)], np.int64)

    return ((tokens_of(text, is_whole=is_whole), is_whole) for text, is_whole in texts)


def _joined(pieces: Iterable[tuple[Any, bool]]) -> Iterator[tuple[Any, bool]]:
    """Join pieces to texts, each with whether it is whole; the flag of a piece says whether its text ends.

    A text that is longer than any report shows is cut, and is the last one.
    """
    begun: list[Any] = []
    for piece, is_end in pieces:
        begun.append(piece)
        if is_end or sum(map(len, begun)) > LONGEST_READ:
            yield begun[0][:0].join(begun), is_end
            begun = []
            if not is_end:
                return
    if begun:
        yield begun[0][:0].join(begun), True
