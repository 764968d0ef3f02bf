"""The command line. Data goes to stdout, everything else to stderr.

What is not needed to parse the arguments is imported inside the commands, so that ``--help`` is quick.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import fastrnn

if TYPE_CHECKING:
    from fastrnn.model import Model

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

#: The exit status of a program that Ctrl-C ended, by custom.
INTERRUPTED = 130


@contextmanager
def _errors_for_people() -> Iterator[None]:
    """Turn the library's errors into one line on stderr and exit status 1."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # whoever read stdout has had enough; click ends the program
        raise
    except (ValueError, TypeError, OSError, MemoryError, fastrnn.FastrnnError) as error:
        raise click.ClickException(str(error) or type(error).__name__) from error


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


@contextmanager
def _log_on_stderr(level: int) -> Iterator[None]:
    """Show the library's log on stderr, above the progress bar where there is one."""
    from tqdm.contrib.logging import logging_redirect_tqdm

    logger = logging.getLogger("fastrnn")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        with logging_redirect_tqdm([logger]):
            yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


@click.group(context_settings=CONTEXT)
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
    click.option("--steps", type=int, help="Updates.  [default: 200 and 32 passes, at most 5000]"),
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
@click.option("--sample", "n_sample", type=int, default=0, help="Print so many symbols when trained.")
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
        given["vocabulary"] = _decoded(vocabulary)
    with _errors_for_people(), _log_on_stderr(logging.ERROR if quiet else logging.INFO):
        from fastrnn.atomic import require_place
        from fastrnn.presets import random_generator

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
                _save(interruption.model, output, f"{interruption}; the model so far is in")
            else:
                click.echo(f"{interruption}; nothing was written", err=True)
            sys.exit(INTERRUPTED)
        except fastrnn.DivergenceError as error:
            if error.model is not None:
                _save(error.model, output, "the model before training diverged is in")
            raise
        is_where_asked = _save(model, output, "" if quiet else "wrote")
        if n_sample:
            _write_sample(model, model.sample(n_sample, _as_unit(model, prime), rng=rng))
        if not is_where_asked:
            sys.exit(1)


def _source(file: str | None, text: str | None) -> Any:
    """What is trained on: a file, stdin, or a text of the command line."""
    import io
    import os

    from fastrnn.files import OpenFile

    if text is not None:
        return OpenFile(io.BytesIO(os.fsencode(text)), "--text")
    if file is not None and file != "-":
        return Path(file)
    if sys.stdin is None:
        raise OSError("stdin is closed: there is nothing to read")
    return OpenFile(sys.stdin.buffer, "stdin")


def _require_no_input(output: str, file: str | None) -> None:
    """Refuse an output that is the input, under any name: the model would replace the text."""
    import os

    if file is None or not Path(output).exists():
        return
    try:
        read = os.fstat(0) if file == "-" else Path(file).stat()
    except OSError:  # there is no such file, which is told when it is opened
        return
    if os.path.samestat(read, Path(output).stat()):
        raise ValueError(f"--output {output} is the file that is trained on: the model would replace it")


def _save(model: Model, output: str, told: str) -> bool:
    """Write a model in spite of one Ctrl-C; see `_write`."""
    try:
        return _write(model, output, told)
    except KeyboardInterrupt:
        return _write(model, output, told)


def _write(model: Model, output: str, told: str) -> bool:
    """Write a model, if need be to another place; return whether it is where it was asked for.

    Another place is asked for on a terminal; else the folder for temporary files and the user's own are
    tried. It is said where the model is, after the words ``told``, if there are any or it is another place.
    """
    place: str | None = output
    others = _other_places(output)
    while place is not None:
        try:
            model.save(place)
        except (OSError, MemoryError) as error:
            click.echo(f"{place} cannot be written: {error}", err=True)
            place = next(others, None)
        else:
            if told or place != output:
                click.echo(f"{told or 'wrote'} {place}: {model!r}", err=True)
            return place == output
    raise click.ClickException("the model could not be written anywhere, and is lost")


def _other_places(output: str) -> Iterator[str]:
    """Where a model could go that cannot be written where it should."""
    import tempfile

    if sys.stdin is not None and sys.stdin.isatty() and sys.stderr is not None and sys.stderr.isatty():
        try:
            while place := click.prompt("another --output (nothing gives up)", default="", err=True):
                yield place
        except click.Abort:
            click.echo("", err=True)
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


def _decoded(text: str) -> str:
    """A text of the command line, which is UTF-8 whatever the locale is."""
    import os

    from fastrnn.files import decode_utf8

    return decode_utf8(os.fsencode(text))


def _as_unit(model: Model, text: str | None) -> Any:
    """A text of the command line in the type that the model speaks."""
    if text is None or model.vocabulary.unit == "character":
        return None if text is None else _decoded(text)
    if model.vocabulary.unit == "token":
        return _tokens_of_words(_names(model), text.split())
    return text.encode(errors="surrogateescape")


def _names(model: Model) -> Sequence[str]:
    """What a model's tokens are called: by their names, or else their ids."""
    from fastrnn.vocabulary import TokenVocabulary

    vocabulary = model.vocabulary
    names = vocabulary.tokens if isinstance(vocabulary, TokenVocabulary) else None
    return names or [str(token) for token in vocabulary.symbols]


def _tokens_of_words(names: Sequence[str], words: list[str]) -> list[int]:
    """The ids of some names."""
    tokens = {name: token for token, name in enumerate(names)}
    for word in words:
        if word not in tokens:
            raise ValueError(f"{word!r} is not among the model's {len(names)} tokens")
    return [tokens[word] for word in words]


def _write_sample(model: Model, sampled: Any) -> None:
    """Write a sample to stdout, and a line end after it; of tokens the names, or else the ids."""
    if sys.stdout is None:
        raise OSError("stdout is closed")
    if model.vocabulary.unit == "token":
        names = _names(model)
        sampled = " ".join(names[token] for token in sampled)
    data = sampled.encode(errors="replace") if isinstance(sampled, str) else sampled
    sys.stdout.buffer.write(data + b"\n")
    sys.stdout.buffer.flush()


# ---- sample, eval, info ------------------------------------------------------------------------------


@main.command()
@click.argument("model")
@click.option("-n", "--length", type=int, default=200, show_default=True, help="How many symbols.")
@click.option("--prime", help="What the text continues; of tokens, their names with spaces between.")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="0 takes the likeliest.")
@_seed_option
@_backend_option
def sample(
    model: str, length: int, prime: str | None, temperature: float, seed: int | None, backend: str
) -> None:
    """Print a text that MODEL generates."""
    with _errors_for_people():
        loaded = fastrnn.load(model, backend=backend)
        prime_of_unit = _as_unit(loaded, prime)
        _write_sample(loaded, loaded.sample(length, prime_of_unit, temperature=temperature, rng=seed))


@main.command("eval")
@click.argument("model")
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_backend_option
def evaluate(model: str, file: str, as_json: bool, backend: str) -> None:
    """Print how well MODEL predicts FILE (- is stdin).

    For a model of documents each line is one; the ends of the lines are then counted as symbols.
    """
    import json
    import math

    with _errors_for_people():
        loaded = fastrnn.load(model, backend=backend)
        if loaded.vocabulary.unit == "token":
            raise ValueError(
                f"{model} is a model of tokens, and a file is a text; score tokens in Python, with "
                "fastrnn.load and Model.surprisal"
            )
        documents = loaded.vocabulary.boundary
        as_bytes = loaded.vocabulary.unit == "byte"
        from fastrnn.files import Lines, open_text

        unit = "byte" if as_bytes else "character"
        content = open_text(_source(file, None), unit, newlines=loaded.vocabulary.newlines)
        result = _score(loaded, Lines(content) if documents else [content[:]])
        if as_json:
            finite = {name: value if math.isfinite(value) else None for name, value in result.items()}
            click.echo(json.dumps(finite))
        else:
            for name, value in result.items():
                click.echo(f"{name:16} {value:,.4f}" if isinstance(value, float) else f"{name:16} {value:,}")


def _score(model: Model, texts: Sequence[Any]) -> dict[str, float]:
    """The bits of all texts together, with the ends of documents."""
    import math

    from fastrnn.scoring import perplexity

    end = model.vocabulary.boundary
    bits = [model.surprisal(text, end=end) for text in texts]
    symbols = sum(len(one) for one in bits)
    if not symbols:
        raise ValueError("the file is empty: there is nothing to score")
    total = float(sum(one.sum() for one in bits))
    mean = total / symbols
    if not math.isfinite(mean):
        raise ValueError(f"the model gives the file {total} bits: its parameters are out of range")
    return {
        "symbols": symbols,
        "bits": total,
        "bits_per_symbol": mean,
        "nats_per_symbol": mean * math.log(2),
        "perplexity": perplexity(mean),
    }


@main.command()
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(model: str | None, as_json: bool) -> None:
    """Print what MODEL is; without one, what fastrnn runs on here."""
    import json

    with _errors_for_people():
        description = _describe_model(model) if model is not None else _describe_system()
        if model is None and not as_json:
            description["auto"] += f" ({description.pop('auto_reason')})"
        click.echo(json.dumps(description, indent=2) if as_json else _as_lines(description))


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

    from fastrnn.backends import AUTO_REASONS, BACKENDS, Backend, find_backend
    from fastrnn.threads import usable_cores

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


def _printable(text: str) -> str:
    """A text of a file that someone else may have made, without what a terminal would obey."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _as_lines(description: dict[str, Any], indent: str = "") -> str:
    """A description as aligned lines."""
    width = max(map(len, description), default=0)
    lines = []
    for name, value in description.items():
        if isinstance(value, dict):
            lines += [f"{indent}{_printable(name)}", _as_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name:{width}}  {_printable(str(value))}")
    return "\n".join(lines)


# ---- demo --------------------------------------------------------------------------------------------


@main.command()
@click.option("--seconds", type=float, default=20.0, show_default=True, help="How long to train.")
@click.option(
    "-o", "--output", default="demo.safetensors", show_default=True, help="Where to write the model."
)
@_backend_option
def demo(seconds: float, output: str, backend: str) -> None:
    """Train on the source of Python's standard library, and show what comes of it."""
    from fastrnn.atomic import require_place
    from fastrnn.demo import run

    with _errors_for_people(), _log_on_stderr(logging.INFO):
        require_place(output)  # before the training, not after it
        run(seconds, Path(output), backend)
