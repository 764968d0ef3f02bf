"""The command line. Data goes to stdout, everything else to stderr, and what is shown is escaped.

What is not needed to parse the arguments is imported inside the commands, so that ``--help`` is quick.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

import fastrnn
from fastrnn.core.terminal import Sample, escaped, open_streams, settle_streams, tell, write

if TYPE_CHECKING:
    from fastrnn.model.model import Model

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

#: The exit statuses of a program that Ctrl-C ended and of one whose stdout is read no more, by custom.
INTERRUPTED, BROKEN_PIPE = 130, 141

#: Errors that say what is wrong without their name.
PLAIN = (ValueError, TypeError, OSError, MemoryError, fastrnn.FastrnnError)


@contextmanager
def _errors_for_people() -> Iterator[None]:
    """Turn errors into one line on stderr and an exit status."""
    try:
        yield
    except (click.exceptions.Exit, click.Abort):  # click ends the program
        raise
    except KeyboardInterrupt:
        tell("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(BROKEN_PIPE)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        for line in shown.getvalue().rstrip("\n").split("\n"):
            tell(line)
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001  (a traceback helps nobody who did not write the program)
        text, name = str(error), type(error).__name__
        tell(f"Error: {text if text and isinstance(error, PLAIN) else f'{name}: {text}'.removesuffix(': ')}")
        sys.exit(1)


class Program(click.Group):
    """Commands that end with an exit status, whatever happens, and say why where it is not 0."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run the program; arguments as for `click.Command.main`."""
        open_streams()
        try:
            return super().main(*arguments, **options)
        finally:
            settle_streams()

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Parse the arguments."""
        with _errors_for_people():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        with _errors_for_people():
            return super().invoke(ctx)


def _backend_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--backend",
        default="auto",
        show_default=True,
        help="c, numba, numpy, or auto: the first that is there.",
    )(command)


def _seed_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--seed", type=click.IntRange(min=0), help="Makes the random draws repeatable.")(
        command
    )


def _threads_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--threads", type=int, help="Threads; the result is the same.  [default: all cores]")(
        command
    )


def _unknown_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--unknown",
        default="error",
        show_default=True,
        help="What becomes of symbols that MODEL does not know: error, skip, or their probability.",
    )(command)


def _unknown(value: str) -> str | float:
    """A word, or a probability."""
    try:
        return float(value)
    except ValueError:
        return value


class _Teller(logging.Handler):
    """Tells the log."""

    def emit(self, record: logging.LogRecord) -> None:
        tell(self.format(record))


@contextmanager
def _log_on_stderr(level: int) -> Iterator[None]:
    """Show the library's log on stderr, above the progress bar where there is one."""
    logger, handler = logging.getLogger("fastrnn"), _Teller()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


@click.group(cls=Program, context_settings=CONTEXT)
@click.version_option(fastrnn.__version__, prog_name="fastrnn")
def main() -> None:
    """Train, score and sample small recurrent language models on a CPU."""


# ---- train -------------------------------------------------------------------------------------------

#: Options of `train` that go to `fastrnn.train` as they are, where they are given.
_TRAINING_OPTIONS = [
    click.option("--preset", help="A system to reproduce: scratch, min-char-rnn or char-rnn."),
    click.option("--cell", help="The recurrent cell: rnn, gru or lstm.  [default: rnn]"),
    click.option("--activation", help="Of the rnn: tanh or relu.  [default: tanh]"),
    click.option("--hidden-size", type=int, help="Hidden units.  [default: 128]"),
    click.option("--num-layers", type=int, help="Layers, one above the other.  [default: 1]"),
    click.option("--embedding-size", type=int, help="Of the symbols.  [default: none, one-hot]"),
    click.option("--tied", is_flag=True, default=None, help="The head's weight is the embedding's."),
    click.option("--dropout", type=float, help="Part of a layer's outputs to drop.  [default: 0]"),
    click.option("--dtype", help="float32 or float64.  [default: float32]"),
    click.option(
        "--initialization",
        help="How weights are drawn: orthogonal, identity, uniform or normal, or such as uniform(0.08)."
        "  [default: orthogonal] (of relu: identity)",
    ),
    click.option("--seq-length", type=int, help="Steps of a window.  [default: 64]"),
    click.option("--batch-size", type=int, help="Rows of a window.  [default: 32]"),
    click.option("--optimizer", help="sgd, adagrad, rmsprop, adam or adamw.  [default: adam]"),
    click.option("--learning-rate", type=float, help="[default: 0.008]"),
    click.option(
        "--schedule",
        help="linear or cosine (warm-up, then decay to zero), constant, step, exponential or plateau."
        "  [default: linear]",
    ),
    click.option("--clip-value", type=float, help="Largest size of an element of the gradient."),
    click.option("--clip-norm", type=float, help="Largest norm of the gradient.  [default: 1]"),
    click.option("--reduction", help="mean, sum or batchmean: of a window's losses.  [default: mean]"),
    click.option(
        "--averaging", type=float, help="Keep a mean of the weights, such as 0.999.  [default: none]"
    ),
    click.option("--steps", type=int, help="Updates.  [default: 200 and those of 32 passes, at most 5000]"),
    click.option("--epochs", type=int, help="Passes over the text, instead of --steps."),
    click.option("--time-limit", type=float, help="Seconds, instead of --steps or beside it."),
    click.option("--validation", type=float, help="Part of the text to hold out; 0: none.  [default: 0.1]"),
    click.option("--split", help="Hold out the end of the text or of the rows: end or rows.  [default: end]"),
    click.option(
        "--shuffle/--no-shuffle",
        default=None,
        help="Whether documents are trained on in an order that the seed draws.  [default: shuffle]",
    ),
    click.option("--keep", help="Which weights to keep: best (by validation) or last.  [default: best]"),
    click.option("--log-every", type=int, help="Updates between two lines of the log.  [default: 16 lines]"),
    click.option("--threads", type=int, help="Threads; the result is the same.  [default: all cores]"),
]


def _training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_TRAINING_OPTIONS):
        command = option(command)
    return command


@main.command()
@click.argument("file", required=False)
@click.option("--text", help="Train on this text instead of a file.")
@click.option("-o", "--output", required=True, help="Where to write the model.")
@click.option("--bytes", "as_bytes", is_flag=True, help="Read the file as bytes instead of characters.")
@click.option("--encoding", help="The file's encoding, such as latin-1 or utf-16.  [default: utf-8]")
@click.option(
    "--newlines",
    help="universal: leave out a byte order mark, read CR LF and CR as LF; keep: the text as it is."
    "  [default: universal]",
)
@click.option("--lines", is_flag=True, help="Each line is a document of its own.")
@click.option(
    "--vocabulary", help="The characters that the model is to know, or ascii.  [default: those of the text]"
)
@click.option(
    "--sample",
    "n_sample",
    type=click.IntRange(0, (1 << 63) - 1),
    default=0,
    help="Print so many symbols when trained.",
)
@click.option("--prime", help="What the sample continues.")
@click.option("--quiet", is_flag=True, help="No log and no progress bar.")
@_seed_option
@_backend_option
@_training_options
def train(
    file: str | None,
    text: str | None,
    output: str,
    as_bytes: bool,
    vocabulary: str | None,
    n_sample: int,
    prime: str | None,
    quiet: bool,
    seed: int | None,
    backend: str,
    **options: Any,
) -> None:
    """Train a model on FILE (- is stdin) and write it to OUTPUT."""
    if (file is None) == (text is None):
        raise click.UsageError("give a FILE, or --text")
    if prime is not None and not n_sample:
        raise click.UsageError("--prime is what --sample continues: give both")
    given = {name: value for name, value in options.items() if value is not None}
    if vocabulary is not None:
        given["vocabulary"] = _decoded(vocabulary, "--vocabulary")
    with _log_on_stderr(logging.ERROR if quiet else logging.INFO):
        from fastrnn.core.atomic import require_place
        from fastrnn.training.presets import random_generator

        rng = random_generator(options["preset"], seed)  # the sample goes on with its draws
        require_place(output)  # before the training, not after it
        _require_no_input(output, file)
        source: Any = _source(file, text)
        try:
            model = fastrnn.train(
                source,
                unit="byte" if as_bytes else "character",
                backend=backend,
                rng=rng,
                progress=not quiet,
                **given,
            )
        except fastrnn.TrainingInterrupted as interruption:
            if interruption.updates:
                _save(interruption.model, output, file, f"{interruption}; the model so far is in")
            else:
                tell(f"{interruption}; nothing was written")
            sys.exit(INTERRUPTED)
        except fastrnn.DivergenceError as error:
            if error.model is not None:
                # what is there may be better
                place = f"{output}.diverged" if Path(output).exists() else output
                _save(error.model, place, file, "the model before training diverged is in")
            raise
        is_where_asked = _save(model, output, file, "" if quiet else "wrote")
        if n_sample:
            _write_sample(model, model.sample_pieces(n_sample, _as_unit(model, prime), rng=rng))
        if not is_where_asked:
            sys.exit(1)


def _source(file: str | None, text: str | None) -> Any:
    """What is trained on: a file, stdin, or a text of the command line."""
    from fastrnn.data.text_file import OpenFile

    if text is not None:
        if "\0" not in text and os.path.isfile(text):  # noqa: PTH113  (a long text is no error)
            tell(f"--text {text} is the name of a file: its letters are trained on, not what the file has")
        return OpenFile(io.BytesIO(os.fsencode(text)), "--text")
    if file is not None and file != "-":
        return Path(file)
    if sys.stdin is None:
        raise OSError("stdin is closed: there is nothing to read")
    return OpenFile(sys.stdin.buffer, "stdin")


def _require_no_input(output: str, file: str | None) -> None:
    """Refuse an output that is the input, under any name: the model would replace the text."""
    if file is None or not Path(output).exists():
        return
    try:
        read = os.fstat(0) if file == "-" else Path(file).stat()
    except OSError:  # there is no such file, which is told when it is opened
        return
    if os.path.samestat(read, Path(output).stat()):
        raise ValueError(f"--output {output} is the file that is trained on: the model would replace it")


def _save(model: Model, output: str, file: str | None, told: str) -> bool:
    """Write a model in spite of one Ctrl-C; see `_write`."""
    try:
        return _write(model, output, file, told)
    except KeyboardInterrupt:
        return _write(model, output, file, told)


def _write(model: Model, output: str, file: str | None, told: str) -> bool:
    """Write a model, if need be to another place; return whether it is where it was asked for.

    Another place is asked for on a terminal; else the folder for temporary files and the user's own are
    tried. It is said where the model is, after the words ``told``, if there are any or it is another place.
    """
    place: str | None = output
    others = _other_places(output)
    while place is not None:
        try:
            _require_no_input(place, file)
            model.save(place)
        except (OSError, MemoryError, ValueError) as error:
            tell(f"{place} cannot be written: {error}")
            place = next(others, None)
        else:
            if told or place != output:
                tell(f"{told or 'wrote'} {place}: {model!r}")
            return place == output
    raise click.ClickException("the model could not be written anywhere, and is lost")


def _other_places(output: str) -> Iterator[str]:
    """Where a model could go that cannot be written where it should."""
    import tempfile

    if sys.stdin is not None and sys.stdin.isatty() and sys.stderr is not None and sys.stderr.isatty():
        try:
            while place := click.prompt("another --output", default="", show_default=False, err=True):
                yield place
        except click.Abort:
            tell("")
    stem = Path(output).stem or "model"
    for folder in (tempfile.gettempdir(), Path.home(), Path.cwd()):
        try:
            with tempfile.NamedTemporaryFile(
                prefix=f"{stem}-", suffix=".safetensors", dir=folder, delete=False
            ) as file:
                pass
        except OSError:
            continue
        yield file.name
        Path(file.name).unlink(missing_ok=True)  # it was not written


@contextmanager
def _opened(file: str) -> Iterator[tuple[BinaryIO, str]]:
    """A file, or stdin for -, open for reading bytes, and what errors call it."""
    if file != "-":
        with Path(file).open("rb") as opened:
            yield opened, file
    elif sys.stdin is None:
        raise OSError("stdin is closed: there is nothing to read")
    else:
        yield sys.stdin.buffer, "stdin"


def _decoded(text: str, name: str) -> str:
    """A text of the command line, which is UTF-8 whatever the locale is; errors call it by its name."""
    from fastrnn.data.text_file import decode_utf8

    return decode_utf8(os.fsencode(text), name)


def _as_unit(model: Model, text: str | None) -> Any:
    """A text of the command line in the type that the model speaks."""
    if text is None or model.vocabulary.unit == "byte":
        return None if text is None else os.fsencode(text)
    decoded = _decoded(text, "--prime")
    return decoded if model.vocabulary.unit == "character" else _tokens_of_words(model, decoded.split())


def _names(model: Model) -> Sequence[str]:
    """What a model's tokens are called: by their names, or else their ids."""
    from fastrnn.data.vocabulary import TokenVocabulary

    vocabulary = model.vocabulary
    names = vocabulary.tokens if isinstance(vocabulary, TokenVocabulary) else None
    return names or [str(token) for token in vocabulary.symbols]


def _tokens_of_words(model: Model, words: list[str]) -> list[int]:
    """The ids of some names."""
    tokens = {name: token for token, name in enumerate(_names(model))}
    for word in words:
        if word not in tokens:
            raise ValueError(f"{word!r} is not among the model's {len(tokens)} tokens")
    return [tokens[word] for word in words]


def _write_sample(model: Model, pieces: Iterator[Any]) -> None:
    """Write a sample to stdout while it is drawn, and a line end; of tokens the names, or else the ids."""
    sample = Sample()
    if model.vocabulary.unit == "token":
        names = _names(model)
        words = (" ".join(names[token] for token in piece) for piece in pieces if len(piece))
        pieces = (f"{' ' * (place > 0)}{some}" for place, some in enumerate(words))
    for piece in pieces:
        sample.write(piece)
    sample.write("\n", final=True)


# ---- sample, eval, info ------------------------------------------------------------------------------


@main.command()
@click.argument("model")
@click.option("-n", "--length", type=int, default=200, show_default=True, help="How many symbols.")
@click.option("--prime", help="What the text continues; of tokens, their names with spaces between.")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="0 takes the likeliest.")
@_unknown_option
@_seed_option
@_backend_option
@_threads_option
def sample(
    model: str,
    length: int,
    prime: str | None,
    temperature: float,
    unknown: str,
    seed: int | None,
    backend: str,
    threads: int | None,
) -> None:
    """Print a text that MODEL generates."""
    loaded = fastrnn.load(model, backend=backend, threads=threads)
    pieces = loaded.sample_pieces(
        length, _as_unit(loaded, prime), temperature=temperature, rng=seed, unknown=_unknown(unknown)
    )
    _write_sample(loaded, pieces)


@main.command("eval")
@click.argument("model")
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--encoding", default="utf-8", show_default=True, help="The file's, if MODEL reads characters.")
@_unknown_option
@_backend_option
@_threads_option
def evaluate(
    model: str, file: str, as_json: bool, encoding: str, unknown: str, backend: str, threads: int | None
) -> None:
    """Print how well MODEL predicts FILE (- is stdin).

    For a model of documents each line is one; the ends of the lines are then counted as symbols.
    """
    loaded = fastrnn.load(model, backend=backend, threads=threads)
    if loaded.vocabulary.unit == "token":
        raise ValueError(
            f"{model} is a model of tokens, and a file is a text; score tokens in Python, with "
            "fastrnn.load and Model.surprisal"
        )
    from fastrnn.data.text_file import iter_pieces

    vocabulary = loaded.vocabulary
    with _opened(file) as (source, name):
        pieces = iter_pieces(source, name, vocabulary.unit, encoding, vocabulary.newlines)
        result = _score(loaded, pieces, name, _unknown(unknown))
    lines = [f"{key:16} {_number(value)}" for key, value in result.items()]
    write((_as_json(result) if as_json else "\n".join(lines)) + "\n")


def _number(value: float) -> str:
    return f"{value:,.4f}" if isinstance(value, float) else f"{value:,}"


def _score(model: Model, pieces: Iterator[Any], name: str, unknown: str | float) -> dict[str, float]:
    """The bits of a file, of documents with their ends, exactly summed: they do not depend on its pieces."""
    import itertools
    import math

    from fastrnn.inference.scoring import perplexity

    symbols = 0

    def counted() -> Iterator[list[float]]:
        nonlocal symbols
        for bits in _scored(model, pieces, name, unknown):
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
        "bits": total,
        "bits_per_symbol": mean,
        "nats_per_symbol": mean * math.log(2),
        "perplexity": perplexity(mean),
    }


def _scored(model: Model, pieces: Iterator[Any], name: str, unknown: str | float) -> Iterator[Any]:
    """The bits of each line, or of each piece of a running text."""
    from fastrnn.data.text_file import iter_lines

    if model.vocabulary.boundary:
        lines = iter_lines(pieces)
        return model.score_pieces(lines, lambda place: f"{name}, line {place + 1}: ", unknown=unknown)
    return model.score_pieces(((piece, False) for piece in pieces), lambda _: f"{name}: ", unknown=unknown)


@main.command()
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(model: str | None, as_json: bool) -> None:
    """Print what MODEL is; without one, what fastrnn runs on here."""
    description = _describe_model(model) if model is not None else _describe_system()
    if model is None and not as_json:
        description["auto"] += f" ({description.pop('auto_reason')})"
    write((_as_json(description, indent=2) if as_json else _as_lines(description)) + "\n")


def _describe_model(path: str) -> dict[str, Any]:
    model = fastrnn.load(path, backend="numpy")
    network = model.network
    return {
        "cell": network.cell,
        "hidden_size": network.hidden_size,
        "dtype": network.dtype.name,
        "parameters": int(network.flat.size),
        "vocabulary": f"{model.vocabulary.size} {model.vocabulary.unit}s"
        + (", one of them the boundary of documents" if model.vocabulary.boundary else ""),
        "trained_on": f"{int(model.counts.sum()):,} symbols",
        "last_record": model.history[-1] if model.history else {},
        "kept_record": model.kept_record or {},
        "settings": model.settings,
    }


def _describe_system() -> dict[str, Any]:
    import platform

    import cffi
    import numpy as np

    from fastrnn.backends.backend import Backend
    from fastrnn.backends.registry import AUTO_REASONS, BACKENDS, find_backend
    from fastrnn.core.thread_team import usable_cores

    backends = {}
    for name in BACKENDS:
        found = find_backend(name)
        if isinstance(found, Backend):
            about = found.description
            backends[name] = f"{about.version}" + (
                f", {about.vector_bits}-bit vectors, fma: {'yes' if about.fma else 'no'}"
                if about.vector_bits
                else ""
            )
        else:
            backends[name] = f"missing: {found}"
    auto = fastrnn.get_backend("auto").name
    return {
        "fastrnn": fastrnn.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cffi": cffi.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "backends": backends,
        "auto": auto,
        "auto_reason": AUTO_REASONS[auto],
        "threads": usable_cores(),
    }


def _as_lines(description: dict[str, Any], indent: str = "") -> str:
    """A description as aligned lines, escaped: others may have written what it says."""
    width = max((len(escaped(name)) for name in description), default=0)
    lines = []
    for name, value in description.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{escaped(name)}", _as_lines(dict(value), indent + "  ")]
        else:
            lines.append(f"{indent}{escaped(name):{width}}  {escaped(str(value))}")
    return "\n".join(lines)


def _as_json(description: dict[str, Any], indent: int | None = None) -> str:
    """A description in the printable characters of ASCII; null where a number is not finite."""
    import json

    said = json.dumps(_finite(description), indent=indent, allow_nan=False)
    return said.replace("\x7f", "\\u007f")


def _finite(value: Any) -> Any:
    """What JSON can say of a value."""
    import math

    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ---- demo --------------------------------------------------------------------------------------------


@main.command()
@click.option("--seconds", type=float, default=20.0, show_default=True, help="How long to train.")
@click.option(
    "-o", "--output", default="demo.safetensors", show_default=True, help="Where to write the model."
)
@_backend_option
def demo(seconds: float, output: str, backend: str) -> None:
    """Train on the source of Python's standard library, and show what comes of it."""
    from fastrnn.cli.demo import run
    from fastrnn.core.atomic import require_place

    with _log_on_stderr(logging.INFO):
        require_place(output)  # before the training, not after it
        run(seconds, Path(output), backend)
