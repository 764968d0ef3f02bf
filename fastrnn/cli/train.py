"""``fastrnn train``: train a model and write it."""

from __future__ import annotations

import io
import logging
import math
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

import click
from click.core import ParameterSource

import fastrnn
from fastrnn.cli.program import SIGNALLED, backend_option, log_on_stderr, seed_option, threads_option
from fastrnn.cli.saving import require_no_input, save
from fastrnn.cli.texts import as_unit, decoded, expanded, unescaped, write_sample
from fastrnn.core.cells import ACTIVATIONS, CELLS, listed
from fastrnn.core.terminal import tell

#: Words that some options take beside numbers: nothing, what is chosen for the text, and a search.
NONE, AUTO, SEARCH = "none", "auto", "search"


class NumberOr(click.ParamType):  # type: ignore[type-arg]  # it has none in older versions
    """A number, or one of some words."""

    name = "number"

    def __init__(self, kind: type[int | float], *words: str) -> None:
        self._kind, self._words = kind, words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number or the word."""
        if value in self._words:
            return value
        try:
            return self._kind(value)
        except ValueError:
            wanted = "a whole number" if self._kind is int else "a number"
            self.fail(f"{value!r} is neither {wanted} nor {' or '.join(self._words)}", param, ctx)


def _names(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> list[str] | None:
    """The values of an option that may be given several times; ``None`` if it was not given."""
    return list(values) or None


def _factors(
    _context: click.Context, option: click.Parameter, values: tuple[str, ...]
) -> dict[str, float] | None:
    """The values NAME=FACTOR of an option as a dict; ``None`` if it was not given."""
    found: dict[str, float] = {}
    for value in values:
        name, _, factor = value.rpartition("=")
        try:
            number = float(factor)
        except ValueError:
            number = math.nan
        if not name or math.isnan(number) or name in found:
            raise click.BadParameter(f"{value!r} must be NAME=FACTOR, with each NAME once", param=option)
        found[name] = number
    return found or None


#: Options of `train` that are arguments of `fastrnn.train`.
_TRAINING_OPTIONS = [
    click.option("--preset", help="A program to reproduce: scratch, min-char-rnn or char-rnn."),
    click.option(
        "--init", help="A model with whose weights training begins; its symbols and sizes are kept."
    ),
    click.option(
        "--init-scale",
        type=float,
        help="What the weights of --init are multiplied by; 1 keeps them.  [default: 0.5]",
    ),
    click.option("--cell", help=f"The recurrent cell: {listed(CELLS)}.  [default: gru]"),
    click.option(
        "--activation", help=f"The activation of a vanilla RNN: {listed(ACTIVATIONS)}.  [default: tanh]"
    ),
    click.option("--hidden-size", type=int, help="Hidden units.  [default: chosen for the text]"),
    click.option("--num-layers", type=int, help="Recurrent layers.  [default: 1]"),
    click.option(
        "--embedding-size",
        type=NumberOr(int, AUTO, NONE),
        help="The size of an embedding of symbols; none: a one-hot input.  [default: chosen for the text]",
    ),
    click.option(
        "--tied", is_flag=True, default=None, help="Use the embedding as the weight of the output layer."
    ),
    click.option(
        "--dropout",
        type=float,
        help="Probability of dropping an output of a layer.  [default: chosen for the text]",
    ),
    click.option(
        "--input-dropout",
        type=float,
        help="Probability of hiding an input symbol from the network in training.  [default: 0]",
    ),
    click.option("--dtype", help="float32 or float64.  [default: float32]"),
    click.option(
        "--initialization",
        help="How weights are drawn: orthogonal, identity, uniform, normal, or for example uniform(0.08)."
        "  [default: orthogonal] (with relu: identity)",
    ),
    click.option("--seq-length", type=int, help="Steps of a window.  [default: 64]"),
    click.option("--batch-size", type=int, help="Rows of a window.  [default: 32]"),
    click.option("--optimizer", help="sgd, adagrad, rmsprop, adam or adamw.  [default: adam]"),
    click.option(
        "--learning-rate",
        type=NumberOr(float, AUTO, SEARCH),
        help="The highest learning rate, or search: take the best of five.  [default: chosen for the text]",
    ),
    click.option(
        "--schedule",
        help="linear or cosine (warm-up, then decay to zero), constant, step, exponential or plateau."
        "  [default: linear]",
    ),
    click.option(
        "--clip-value",
        type=NumberOr(float, NONE),
        help="Largest absolute value of an element of the gradient.",
    ),
    click.option(
        "--clip-norm",
        type=NumberOr(float, NONE),
        help="Largest norm of the gradient, or none.  [default: 0.25]",
    ),
    click.option("--reduction", help="Of a window's losses: mean, sum or batchmean.  [default: mean]"),
    click.option(
        "--averaging",
        type=float,
        help="Decay of a moving average of the weights, such as 0.999.  [default: none]",
    ),
    click.option(
        "--freeze",
        multiple=True,
        callback=_names,
        metavar="NAME",
        help="A parameter that is not trained, or a pattern such as 'embedding.*'; may be given often.",
    ),
    click.option(
        "--learning-rate-factor",
        "learning_rate_factors",
        multiple=True,
        callback=_factors,
        metavar="NAME=FACTOR",
        help="What the learning rate of a parameter or a pattern is multiplied by; may be given often.",
    ),
    click.option(
        "--weight-decay-factor",
        "weight_decay_factors",
        multiple=True,
        callback=_factors,
        metavar="NAME=FACTOR",
        help="The same for the weight decay of adamw.",
    ),
    click.option(
        "--steps",
        type=NumberOr(int, AUTO, NONE),
        help="Updates, or none beside --time-limit.  [default: as many as take about half a minute, but no "
        "more than 200 and those of 20 passes]",
    ),
    click.option("--epochs", type=int, help="Passes over the text, instead of --steps."),
    click.option(
        "--time-limit",
        help="Seconds, or such as 10m; training ends earlier after 200 updates and 20 passes, unless --steps "
        "says something else.  [default: none]",
    ),
    click.option(
        "--validation", type=float, help="Fraction of the text to hold out; 0: none.  [default: 0.1]"
    ),
    click.option(
        "--split",
        help="Hold out the end of the text (end), the end of each row (rows), or documents at even distances "
        "(every).  [default: end]",
    ),
    click.option(
        "--shuffle/--no-shuffle",
        default=None,
        help="Whether documents are put in an order that the seed draws.  [default: shuffle]",
    ),
    click.option(
        "--min-count",
        type=int,
        help="Characters that occur fewer times are unknown, and the model learns what unknown ones are like."
        "  [default: none are unknown]",
    ),
    click.option(
        "--unknown-share",
        type=float,
        help="With --min-count, the share of the others that are shown as unknown.  [default: 0.002]",
    ),
    click.option("--keep", help="Which weights to keep: best (by validation) or last.  [default: best]"),
    click.option(
        "--refit",
        is_flag=True,
        default=None,
        help="Go on over the whole text in the end, with what was held out.",
    ),
    click.option("--patience", type=int, help="End after so many records in a row that are no better."),
    click.option("--count-order", type=int, help="Count contexts of up to so many symbols.  [default: 0]"),
    click.option("--count-memory", type=int, help="The most bytes of the counts.  [default: 64000000]"),
    click.option(
        "--retries",
        type=int,
        help="How often to go back with a lower learning rate if training diverges.  [default: 3]",
    ),
    click.option("--checkpoint", help="A file that holds the training, so that --resume can go on with it."),
    click.option(
        "--checkpoint-every",
        help="Updates, or a time such as 30s, from one checkpoint to the next.  [default: 5m]",
    ),
    click.option(
        "--resume", is_flag=True, default=None, help="Go on with --checkpoint, if the file is there."
    ),
    click.option("--log-every", type=int, help="Updates between two lines of the log.  [default: 16 lines]"),
    threads_option,
]


def _training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_TRAINING_OPTIONS):
        command = option(command)
    return command


@click.command()
@click.argument("files", nargs=-1)
@click.option("--text", help="Train on this text instead of a file.")
@click.option("-o", "--output", required=True, help="Where to write the model.")
@click.option(
    "--config", help="A TOML file of settings; those of the command line come before them.  [default: none]"
)
@click.option(
    "--bytes", "as_bytes", is_flag=True, default=None, help="Read the file as bytes instead of characters."
)
@click.option("--encoding", help="The file's encoding, such as latin-1 or utf-16.  [default: utf-8]")
@click.option(
    "--newlines",
    help="universal: leave out a byte order mark, read CR LF and CR as LF; keep: change nothing."
    "  [default: universal]",
)
@click.option(
    "--normalization",
    help="How the model normalizes texts: nfc, nfkc, nfc_casefold or nfkc_casefold.  [default: not at all]",
)
@click.option("--lines", is_flag=True, default=None, help="Each line is a document of its own.")
@click.option(
    "--separator",
    help=r"The text between two documents; \n, \t, \0 and \\ are line feed, tab, NUL and backslash.",
)
@click.option(
    "--vocabulary", help="The characters that the model should know, or ascii.  [default: those of the text]"
)
@click.option(
    "--validation-file",
    help="Validate on this file (- is stdin), instead of a part of FILE; it is read as FILE is.",
)
@click.option(
    "--sample",
    "n_sample",
    type=click.IntRange(0, (1 << 63) - 1),
    default=0,
    help="Print a sample of this many symbols after training.",
)
@click.option("--metrics", help="A file to which each record is written as a line of JSON.")
@click.option("--tensorboard", help="A directory to which TensorBoard's event files are written.")
@click.option(
    "--mlflow", help="An experiment of MLflow to log to; MLFLOW_TRACKING_URI says where MLflow keeps it."
)
@click.option(
    "--sample-every", type=int, help="Updates from one sample on stderr to the next, during training."
)
@click.option("--prime", help="A text that the sample continues.")
@click.option("--quiet", is_flag=True, help="No log and no progress bar.")
@seed_option
@backend_option
@_training_options
def train(
    *,
    files: tuple[str, ...],
    text: str | None,
    output: str,
    config: str | None,
    validation_file: str | None,
    n_sample: int,
    metrics: str | None,
    tensorboard: str | None,
    mlflow: str | None,
    sample_every: int | None,
    prime: str | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Train a model on FILES (- is stdin) and write it to OUTPUT.

    Several files, and those that a pattern such as '*.txt' matches, are one text in this order.
    """
    if bool(files) == (text is not None):
        raise click.UsageError("give FILES, or --text")
    if prime is not None and not n_sample:
        raise click.UsageError("--prime is what --sample continues: give both")
    settings = _settings(config, options) | _own_text(validation_file, files, options["validation"])
    if quiet:
        settings["progress"] = False
    with log_on_stderr(logging.ERROR if quiet else logging.INFO):
        from fastrnn.core.atomic import require_place
        from fastrnn.training.presets import random_generator

        names = expanded(files)
        rng = random_generator(settings.get("preset"), settings.get("rng"))  # the sample takes its next draws
        if settings.get("rng") is not None:
            settings["rng"] = rng  # without a seed, a checkpoint has the generator that training began with
        checkpoint = settings.get("checkpoint")
        require_place(output)  # so that this fails before training, not after it
        outputs = {"--output": output, "--checkpoint": checkpoint, "--metrics": metrics}
        inputs = {
            "validated on": validation_file,
            "read as settings": config,
            "begun with": settings.get("init"),
        }
        others = {use: [str(path)] for use, path in inputs.items() if path is not None}
        _require_own_files(outputs, {"trained on": names, **others})
        settings["callbacks"] = _callbacks(metrics, tensorboard, mlflow, sample_every)
        source: Any = _source(text) if text is not None else [_opened(file) for file in names]
        try:
            model = fastrnn.train(source, **settings)
        except fastrnn.TrainingInterrupted as interruption:
            _end_early(interruption, output, names, checkpoint)
        except fastrnn.DivergenceError as error:
            if error.model is not None:
                # the existing file may be a better model
                place = f"{output}.diverged" if Path(output).exists() else output
                save(error.model, place, names, "the model before training diverged is in")
            raise
        is_where_asked = save(model, output, names, "" if quiet else "wrote")
        if n_sample:
            write_sample(model, model.sample_pieces(n_sample, as_unit(model, prime, "--prime"), rng=rng))
        if not is_where_asked:
            sys.exit(1)


def _settings(config: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `fastrnn.train`: those of options and, where they say nothing, those of a file.

    An option that ends training replaces all ends of the file.
    """
    from fastrnn.training.presets import ENDS, SETTING_CHECKS

    given: dict[str, Any] = {
        name: None if value == NONE and name in SETTING_CHECKS else value
        for name, value in options.items()
        if value is not None
    }
    if click.get_current_context().get_parameter_source("backend") is ParameterSource.DEFAULT:
        del given["backend"]
    as_bytes = given.pop("as_bytes", False)
    if as_bytes:
        given["unit"] = "byte"
    if "seed" in given:
        given["rng"] = given.pop("seed")
    if "vocabulary" in given:
        given["vocabulary"] = decoded(given["vocabulary"], "--vocabulary")
    if "separator" in given:
        given["separator"] = unescaped(given["separator"], "--separator", as_bytes=as_bytes)
    settings = {} if config is None else fastrnn.read_settings(config)
    replaced = ENDS if ENDS & given.keys() else set()
    kept = {name: value for name, value in settings.items() if name not in replaced}
    return {**kept, **given}


def _callbacks(
    metrics: str | None, tensorboard: str | None, mlflow: str | None, sample_every: int | None
) -> list[fastrnn.Callback]:
    """The callbacks that options ask for."""
    found: list[fastrnn.Callback] = []
    if metrics is not None:
        found.append(fastrnn.callbacks.JsonLines(metrics))
    if tensorboard is not None:
        found.append(fastrnn.callbacks.TensorBoard(tensorboard))
    if mlflow is not None:
        found.append(fastrnn.callbacks.MLflow(mlflow))
    if sample_every is not None:
        found.append(fastrnn.callbacks.Samples(sample_every))
    return found


def _require_own_files(outputs: dict[str, str | None], inputs: dict[str, list[str]]) -> None:
    """Raise a ``ValueError`` if two of the files to write are one, or one is read; ``inputs`` are by use."""
    seen: dict[str, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        for use, files in inputs.items():
            require_no_input(option, path, files, use)
        real = os.path.realpath(path)
        if real in seen:
            raise ValueError(f"{seen[real]} and {option} are one file, {path}")
        seen[real] = option


def _end_early(
    interruption: fastrnn.TrainingInterrupted, output: str, files: Iterable[str], checkpoint: str | None
) -> NoReturn:
    """Say how to go on or, if no checkpoint has it, write the model so far; exit as after the signal."""
    if checkpoint is not None and interruption.checkpoint == interruption.updates:
        tell(f"{interruption}; to go on: the same command with --resume, and {checkpoint}")
    elif interruption.updates:
        save(interruption.model, output, files, f"{interruption}; the model so far is in")
    else:
        tell(f"{interruption}; nothing was written")
    sys.exit(SIGNALLED + interruption.signal)


def _own_text(name: str | None, files: Iterable[str], fraction: float | None) -> dict[str, Any]:
    """The argument of `fastrnn.train` for --validation-file."""
    if name is None:
        return {}
    if fraction is not None:
        raise click.UsageError("give --validation or --validation-file, not both")
    if name == "-" and "-" in files:
        raise click.UsageError("FILES and --validation-file are both stdin: name a file for one of them")
    return {"validation": _opened(name)}


def _source(text: str) -> Any:
    """A text of the command line to train on."""
    from fastrnn.data.text_file import OpenFile

    if "\0" not in text and os.path.isfile(text):  # noqa: PTH113  (a long text is no error)
        tell(f"--text {text} is the name of a file: the name is trained on, not its content")
    return OpenFile(io.BytesIO(os.fsencode(text)), "--text")


def _opened(file: str) -> Any:
    """A file to train on, or stdin for -."""
    from fastrnn.data.text_file import OpenFile

    if file != "-":
        return Path(file)
    if sys.stdin is None:
        raise OSError("stdin is closed: there is nothing to read")
    return OpenFile(sys.stdin.buffer, "stdin")
