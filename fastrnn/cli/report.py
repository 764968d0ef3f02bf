"""``fastrnn report``: write a page with what a model sees in a text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import fastrnn
from fastrnn.cli.program import backend_option, threads_option, unknown_option, unknown_value
from fastrnn.cli.texts import opened_file, token_names
from fastrnn.core.terminal import escaped, tell

if TYPE_CHECKING:
    from fastrnn.model.model import Model

#: The most characters or bytes of a text that are read, enough for the longest report.
LONGEST_READ = 1 << 21


@click.command()
@click.argument("model")
@click.argument("file", metavar="TEXT")
@click.option("-o", "--output", default="report.html", show_default=True, help="Where to write the page.")
@click.option(
    "--lines", is_flag=True, help="Each line is a text of its own.  [always so for a model of documents]"
)
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
    encoding: str,
    unknown: str | None,
    backend: str,
    threads: int | None,
) -> None:
    """Write one page of HTML with what MODEL sees in the file TEXT (- is stdin).

    The page has the text, coloured by surprisal, and the most probable symbols at each place; hidden units
    as heat maps; the loss of the training; the calibration; and the strangest passages. It shows the first
    20,000 symbols. For a model of tokens, TEXT has their names, separated by white space.
    """
    from fastrnn.core.atomic import require_place

    place = Path(output)
    require_place(place)
    loaded = fastrnn.load(model, backend=backend, threads=threads)
    from fastrnn.data.text_file import iter_pieces
    from fastrnn.report.excerpt import Excerpt
    from fastrnn.report.page import Names
    from fastrnn.report.show import Report

    vocabulary, policy = loaded.vocabulary, unknown_value(unknown)
    unit = "byte" if vocabulary.unit == "byte" else "character"
    with opened_file(file) as (source, name):
        pieces = iter_pieces(source, name, unit, encoding, vocabulary.newlines, vocabulary.normalization)
        texts = _texts(loaded, pieces, name, policy, by_lines=lines or vocabulary.boundary)
        excerpt = Excerpt.of_read(vocabulary, texts)
    names = Names(escaped(Path(model).name), escaped(Path(name).name))
    Report.of(loaded, excerpt, policy, names).save(place)
    tell(f"wrote {place}")


def _texts(
    model: Model, pieces: Iterator[Any], name: str, unknown: str | float | None, *, by_lines: bool
) -> Iterator[tuple[Any, bool]]:
    """The texts of a file that comes in pieces, each with whether it is whole."""
    import numpy as np

    from fastrnn.data.lines import iter_lines

    texts = _joined(iter_lines(pieces) if by_lines else ((piece, False) for piece in pieces))
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
