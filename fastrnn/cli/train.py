"""``fastrnn train``: train a model and write it."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click
from click.core import ParameterSource

import fastrnn
from fastrnn.cli.program import SIGNALLED, backend_option, log_on_stderr, seed_option, threads_option
from fastrnn.cli.saving import require_no_input, save
from fastrnn.cli.texts import as_unit, decoded, write_sample
from fastrnn.core.cells import ACTIVATIONS, CELLS, listed
from fastrnn.core.terminal import tell

#: Options of `train` that are arguments of `fastrnn.train`.
_TRAINING_OPTIONS = [
    click.option("--preset", help="A program to reproduce: scratch, min-char-rnn or char-rnn."),
    click.option("--cell", help=f"The recurrent cell: {listed(CELLS)}.  [default: gru]"),
    click.option(
        "--activation", help=f"The activation of a vanilla RNN: {listed(ACTIVATIONS)}.  [default: tanh]"
    ),
    click.option("--hidden-size", type=int, help="Hidden units.  [default: 128]"),
    click.option("--num-layers", type=int, help="Recurrent layers.  [default: 1]"),
    click.option(
        "--embedding-size", type=int, help="The size of an embedding of symbols.  [default: none, one-hot]"
    ),
    click.option(
        "--tied", is_flag=True, default=None, help="Use the embedding as the weight of the output layer."
    ),
    click.option("--dropout", type=float, help="Probability of dropping an output of a layer.  [default: 0]"),
    click.option("--dtype", help="float32 or float64.  [default: float32]"),
    click.option(
        "--initialization",
        help="How weights are drawn: orthogonal, identity, uniform, normal, or for example uniform(0.08)."
        "  [default: orthogonal] (with relu: identity)",
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
    click.option("--clip-value", type=float, help="Largest absolute value of an element of the gradient."),
    click.option("--clip-norm", type=float, help="Largest norm of the gradient.  [default: 1]"),
    click.option("--reduction", help="Of a window's losses: mean, sum or batchmean.  [default: mean]"),
    click.option(
        "--averaging",
        type=float,
        help="Decay of a moving average of the weights, such as 0.999.  [default: none]",
    ),
    click.option("--steps", type=int, help="Updates.  [default: 200 and those of 32 passes, at most 5000]"),
    click.option("--epochs", type=int, help="Passes over the text, instead of --steps."),
    click.option(
        "--time-limit",
        help="Seconds, or such as 10m, instead of --steps or together with it.  [default: none]",
    ),
    click.option(
        "--validation", type=float, help="Fraction of the text to hold out; 0: none.  [default: 0.1]"
    ),
    click.option("--split", help="Hold out the end of the text (end) or of each row (rows).  [default: end]"),
    click.option(
        "--shuffle/--no-shuffle",
        default=None,
        help="Whether documents are put in an order that the seed draws.  [default: shuffle]",
    ),
    click.option("--keep", help="Which weights to keep: best (by validation) or last.  [default: best]"),
    click.option(
        "--patience",
        type=int,
        help="End after so many records without a better validation loss.  [default: none]",
    ),
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
@click.argument("file", required=False)
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
@click.option("--lines", is_flag=True, default=None, help="Each line is a document of its own.")
@click.option(
    "--vocabulary", help="The characters that the model should know, or ascii.  [default: those of the text]"
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
    file: str | None,
    text: str | None,
    output: str,
    config: str | None,
    n_sample: int,
    metrics: str | None,
    tensorboard: str | None,
    mlflow: str | None,
    sample_every: int | None,
    prime: str | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Train a model on FILE (- is stdin) and write it to OUTPUT."""
    if (file is None) == (text is None):
        raise click.UsageError("give a FILE, or --text")
    if prime is not None and not n_sample:
        raise click.UsageError("--prime is what --sample continues: give both")
    settings = _settings(config, options)
    if quiet:
        settings["progress"] = False
    with log_on_stderr(logging.ERROR if quiet else logging.INFO):
        from fastrnn.core.atomic import require_place
        from fastrnn.training.presets import random_generator

        # the sample takes its next draws
        settings["rng"] = rng = random_generator(settings.get("preset"), settings.get("rng"))
        checkpoint = settings.get("checkpoint")
        require_place(output)  # so that this fails before training, not after it
        _require_own_files({"--output": output, "--checkpoint": checkpoint, "--metrics": metrics}, file)
        settings["callbacks"] = _callbacks(metrics, tensorboard, mlflow, sample_every)
        source: Any = _source(file, text)
        try:
            model = fastrnn.train(source, **settings)
        except fastrnn.TrainingInterrupted as interruption:
            _end_early(interruption, output, file, checkpoint)
        except fastrnn.DivergenceError as error:
            if error.model is not None:
                # the existing file may be a better model
                place = f"{output}.diverged" if Path(output).exists() else output
                save(error.model, place, file, "the model before training diverged is in")
            raise
        is_where_asked = save(model, output, file, "" if quiet else "wrote")
        if n_sample:
            write_sample(model, model.sample_pieces(n_sample, as_unit(model, prime), rng=rng))
        if not is_where_asked:
            sys.exit(1)


def _settings(config: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `fastrnn.train`: those of options and, where they say nothing, those of a file.

    An option that ends training replaces all ends of the file.
    """
    from fastrnn.training.presets import ENDS

    given = {name: value for name, value in options.items() if value is not None}
    if click.get_current_context().get_parameter_source("backend") is ParameterSource.DEFAULT:
        del given["backend"]
    if given.pop("as_bytes", False):
        given["unit"] = "byte"
    if "seed" in given:
        given["rng"] = given.pop("seed")
    if "vocabulary" in given:
        given["vocabulary"] = decoded(given["vocabulary"], "--vocabulary")
    settings = {} if config is None else fastrnn.read_settings(config)
    replaced = ENDS if ENDS & given.keys() else set()
    kept = {name: value for name, value in settings.items() if name not in replaced}
    return {"unit": "character", **kept, **given}


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


def _require_own_files(outputs: dict[str, str | None], file: str | None) -> None:
    """Raise a ``ValueError`` if two of the files to write are one, or one is the file that is read."""
    seen: dict[str, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        require_no_input(option, path, file)
        real = os.path.realpath(path)
        if real in seen:
            raise ValueError(f"{seen[real]} and {option} are one file, {path}")
        seen[real] = option


def _end_early(
    interruption: fastrnn.TrainingInterrupted, output: str, file: str | None, checkpoint: str | None
) -> NoReturn:
    """Say how to go on or, if no checkpoint has it, write the model so far; exit as after the signal."""
    if checkpoint is not None and interruption.checkpoint == interruption.updates:
        tell(f"{interruption}; to go on: the same command with --resume, and {checkpoint}")
    elif interruption.updates:
        save(interruption.model, output, file, f"{interruption}; the model so far is in")
    else:
        tell(f"{interruption}; nothing was written")
    sys.exit(SIGNALLED + interruption.signal)


def _source(file: str | None, text: str | None) -> Any:
    """The text to train on: a file, stdin, or a text of the command line."""
    from fastrnn.data.text_file import OpenFile

    if text is not None:
        if "\0" not in text and os.path.isfile(text):  # noqa: PTH113  (a long text is no error)
            tell(f"--text {text} is the name of a file: the name is trained on, not its content")
        return OpenFile(io.BytesIO(os.fsencode(text)), "--text")
    if file is not None and file != "-":
        return Path(file)
    if sys.stdin is None:
        raise OSError("stdin is closed: there is nothing to read")
    return OpenFile(sys.stdin.buffer, "stdin")
