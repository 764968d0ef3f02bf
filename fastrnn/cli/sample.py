"""``fastrnn sample``: print texts that a model generates."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import fastrnn
from fastrnn.cli.output import as_json
from fastrnn.cli.program import backend_option, seed_option, threads_option, unknown_option, unknown_value
from fastrnn.cli.texts import as_str, as_unit, decoded, unescaped, write_sample
from fastrnn.core.terminal import tell, write

if TYPE_CHECKING:
    from fastrnn.data.vocabulary import Text
    from fastrnn.model.model import Model

#: The fewest symbols of a passage that `Model.verbatim_share` counts, by default.
VERBATIM_LENGTH = 20

#: The options that are arguments of `Model.sample` with the same names.
_DRAWS = [
    click.option(
        "--temperature",
        type=float,
        help="Below 1, probable symbols become more probable; above 1, less; 0 always takes the most "
        "probable one.  [default: 1.0]",
    ),
    click.option("--top-k", type=int, help="Draw only from so many of the most probable symbols."),
    click.option(
        "--top-p",
        type=float,
        help="Draw only from the most probable symbols that together have this probability.",
    ),
    click.option(
        "--min-p",
        type=float,
        help="Draw only from symbols with at least this fraction of the highest probability.",
    ),
    click.option(
        "--repetition-penalty",
        type=float,
        help="Make symbols that came before less probable, if above 1.",
    ),
    click.option("--repetition-window", type=int, help="How far back such symbols are looked for."),
    click.option(
        "--no-repeat-ngram", type=int, help="Never repeat so many symbols that came in this order before."
    ),
    click.option(
        "--stop", multiple=True, help=r"End before this text, in which \n is a line feed; may be given often."
    ),
    click.option("--allowed", help="Draw only from the symbols of this text."),
    click.option("--pattern", metavar="REGEX", help="Draw a text that this regular expression matches."),
    click.option("--valid-utf8", is_flag=True, default=None, help="Draw bytes that are valid UTF-8."),
]

#: Those of them that `Model.beam_search` has too.
_OF_BEAM = {"allowed", "pattern", "valid_utf8", "unknown"}


def _draw_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_DRAWS):
        command = option(command)
    return command


@click.command()
@click.argument("model")
@click.option(
    "-n", "--length", type=click.IntRange(min=0), default=200, show_default=True, help="How many symbols."
)
@click.option("--prime", help="A text to continue; for tokens, their names, separated by spaces.")
@_draw_options
@click.option(
    "--count",
    type=click.IntRange(min=1),
    help="Draw so many texts at once, and write each as a line; with --beam, how many of the best to write.",
)
@click.option("--unique", is_flag=True, help="With --count, draw texts that differ.")
@click.option(
    "--beam",
    type=click.IntRange(min=1),
    metavar="WIDTH",
    help="Search for the most probable text with a beam of this width; write its bits, a tab and the text.",
)
@click.option("-0", "--null", "ends_with_null", is_flag=True, help="End each text with NUL, not a line end.")
@click.option("--json", "to_json", is_flag=True, help="Write a line of JSON for each text.")
@click.option(
    "--verbatim", metavar="FILE", help="Tell on stderr (with --json, there) which share is verbatim in FILE."
)
@click.option(
    "--verbatim-length",
    type=int,
    help="The fewest symbols of a passage that counts as verbatim.  [default: 20]",
)
@unknown_option
@seed_option
@backend_option
@threads_option
def sample(
    *,
    model: str,
    length: int,
    prime: str | None,
    count: int | None,
    unique: bool,
    beam: int | None,
    ends_with_null: bool,
    to_json: bool,
    verbatim: str | None,
    verbatim_length: int | None,
    seed: int | None,
    backend: str,
    threads: int | None,
    **draws: Any,
) -> None:
    """Print a text that MODEL generates; a single text is written while it is drawn."""
    if beam is not None and (count or 1) > beam:
        raise click.UsageError(f"--count {count} must be at most --beam {beam}: so many texts are kept")
    if unique and (count is None or beam is not None):
        raise click.UsageError("--unique is for texts that are drawn with --count")
    if verbatim_length is not None and verbatim is None:
        raise click.UsageError("--verbatim-length is for --verbatim: give FILE")
    loaded = fastrnn.load(model, backend=backend, threads=threads)
    options = _given(loaded, draws)
    begin = as_unit(loaded, prime, "--prime")
    copied = None if verbatim is None else _Verbatim(loaded, Path(verbatim), verbatim_length)
    writer = _Writer(loaded, "\0" if ends_with_null else "\n", to_json, copied)
    if beam is not None:
        _require_beam(options, seed)
        for text, nats in loaded.beam_search(length, begin, width=beam, count=count or 1, **options):
            writer.write(text, bits=-nats / math.log(2))
    elif count is not None:
        for text in loaded.sample_each(count, length, begin, unique=unique, rng=seed, **options):
            writer.write(text)
    elif to_json:
        writer.write(loaded.sample(length, begin, rng=seed, **options))
    else:
        writer.write_pieces(loaded.sample_pieces(length, begin, rng=seed, **options))
    writer.finish()


def _given(model: Model, draws: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `Model.sample` for the options that were given."""
    given = {name: value for name, value in draws.items() if value is not None and value != ()}
    if "unknown" in given:
        given["unknown"] = unknown_value(given["unknown"])
    if "stop" in given:
        given["stop"] = [_stop(model, text) for text in given["stop"]]
    if "allowed" in given:
        given["allowed"] = as_unit(model, given["allowed"], "--allowed")
    if "pattern" in given:
        is_bytes = model.vocabulary.unit == "byte"
        pattern = given["pattern"]
        given["pattern"] = os.fsencode(pattern) if is_bytes else decoded(pattern, "--pattern")
    return given


def _stop(model: Model, text: str) -> Any:
    """A text of --stop, as the model has it."""
    unit = model.vocabulary.unit
    return (
        as_unit(model, text, "--stop")
        if unit == "token"
        else unescaped(text, "--stop", as_bytes=unit == "byte")
    )


def _require_beam(options: dict[str, Any], seed: int | None) -> None:
    """Raise an error of usage if an option does not belong to --beam, which draws nothing."""
    others = [*(options.keys() - _OF_BEAM), *(["seed"] if seed is not None else [])]
    if others:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(others))
        raise click.UsageError(f"--beam draws nothing: leave out {names}")


@dataclass
class _Verbatim:
    """The share of texts that is verbatim in a file, in passages of at least so many symbols."""

    model: Model
    file: Path
    least: int | None
    symbols: int = 0
    copied: float = 0.0

    def share(self, text: Text) -> float:
        """The share of a text, which is added to that of all."""
        given = {} if self.least is None else {"length": self.least}
        share = self.model.verbatim_share(text, self.file, **given) if len(text) else 0.0
        self.symbols += len(text)
        self.copied += share * len(text)
        return share

    def tell(self) -> None:
        """Tell the share of all texts on stderr."""
        share = self.copied / max(1, self.symbols)
        least = VERBATIM_LENGTH if self.least is None else self.least
        tell(
            f"verbatim: {share:.1%} of the symbols are in passages of at least {least} symbols that "
            f"{self.file} has"
        )


@dataclass
class _Writer:
    """Writes texts to stdout, each with this end or as JSON."""

    model: Model
    end: str
    to_json: bool
    verbatim: _Verbatim | None

    def write(self, text: Text, bits: float | None = None) -> None:
        """Write a whole text and, after a search, its bits."""
        if not self.to_json:
            write("" if bits is None else f"{bits:.4f}\t")
            self.write_pieces(iter([text]))
            return
        told: dict[str, Any] = {} if bits is None else {"bits": bits}
        told |= {"symbols": len(text)}
        told |= {} if self.verbatim is None else {"verbatim": self.verbatim.share(text)}
        write(as_json({**told, "text": as_str(self.model, text)}) + "\n")

    def write_pieces(self, pieces: Iterator[Text]) -> None:
        """Write a text while it is drawn."""
        if self.verbatim is None:
            write_sample(self.model, pieces, self.end)
            return
        kept: list[Text] = []
        write_sample(self.model, _keeping(pieces, kept), self.end)
        self.verbatim.share(self.model.vocabulary.joined_pieces(kept))

    def finish(self) -> None:
        """Tell which share is verbatim, if lines of JSON did not."""
        if self.verbatim is not None and not self.to_json:
            self.verbatim.tell()


def _keeping(pieces: Iterator[Text], kept: list[Text]) -> Iterator[Text]:
    """Yield the pieces and keep them."""
    for piece in pieces:
        kept.append(piece)
        yield piece
