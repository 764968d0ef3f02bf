"""From a text to a model: `train`, its loop and what it records. It prints nothing but a progress bar."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastrnn import checks, memory, scoring
from fastrnn.backends import get_backend
from fastrnn.batches import Blocks, Rows, Streams, fit_window
from fastrnn.corpus import Corpus, Documents, Source, read_corpus
from fastrnn.errors import DivergenceError, TrainingInterrupted
from fastrnn.layout import parameter_layout, window_plan
from fastrnn.model import Model, Record
from fastrnn.network import Network
from fastrnn.optimizers import Optimizer
from fastrnn.presets import CHECKS, LEAST_TO_HOLD_OUT, Recipe, get_recipe, random_generator
from fastrnn.schedules import Progress, Schedule
from fastrnn.terminal import STDERR
from fastrnn.threads import usable_cores
from fastrnn.trainer import Pace, Trainer
from fastrnn.vocabulary import TokenVocabulary, Vocabulary

logger = logging.getLogger("fastrnn")

#: Symbols of the held-out part that a validation during training reads, at most: a few hundredths of what
#: is trained on between two by default, so that training on a long text costs what it does on a short one.
VALIDATION_SYMBOLS = 1 << 15


class _Preset:
    """Stands for an argument that was not given: the preset's value holds."""

    def __repr__(self) -> str:
        return "<as the preset>"


PRESET: Any = _Preset()


def train(
    text: Source,
    *,
    preset: str | None = None,
    backend: str = "auto",
    unit: str | None = None,
    vocabulary: int | Iterable[str] | None = None,
    cell: str = PRESET,
    activation: str = PRESET,
    hidden_size: int = PRESET,
    num_layers: int = PRESET,
    embedding_size: int | None = PRESET,
    tied: bool = PRESET,
    dropout: float = PRESET,
    dtype: DTypeLike = PRESET,
    initialization: str | None = PRESET,
    seq_length: int | None = PRESET,
    batch_size: int = PRESET,
    optimizer: str | Optimizer = PRESET,
    learning_rate: float = PRESET,
    schedule: str | Schedule = PRESET,
    clip_value: float | None = PRESET,
    clip_norm: float | None = PRESET,
    reduction: str = PRESET,
    averaging: float | None = PRESET,
    steps: int | None = PRESET,
    epochs: int | None = PRESET,
    time_limit: float | None = PRESET,
    validation: float | None = PRESET,
    split: str = PRESET,
    log_every: int = PRESET,
    threads: int | None = None,
    rng: Any = None,
    progress: bool = True,
) -> Model:
    """Train a model on a text, or on any sequence of whole numbers.

    Without a preset, the defaults are those of `fastrnn.presets.Recipe`: 128 hidden units, windows of 64
    steps and 32 rows, Adam at 0.008 with the linear schedule, the gradient's norm clipped at 1, 5,000
    updates, float32.

    Parameters
    ----------
    text
        A str (characters), bytes, an ``os.PathLike`` (a file), or any other iterable of texts
        (documents). With ``vocabulary``, tokens: one running sequence of whole numbers (an array (n), a
        list, …) or an iterable of them (documents; the rows of an array are). At least two symbols; batch
        and window shrink to fit a short text. A file is read in parts, however long it is, and must stay
        as it is until training ends; what is no file on a disk, such as a pipe, is read whole. An array
        is not copied, and a ``np.memmap`` is read in parts; it too must stay as it is.
    preset
        A system to reproduce, ``"scratch"``, ``"min-char-rnn"`` or ``"char-rnn"``; ``None`` is fastrnn's own
        recipe.
        Arguments given beside it override it.
    backend
        ``"auto"`` (numba, else c, else numpy) or one of these names.
    unit
        For a file: ``"character"`` (UTF-8, the default) or ``"byte"``.
    vocabulary
        For tokens: their names, distinct str, in the order of their ids; or how many there are. Ids run
        from 0; the boundary of documents is one more, and is not in the text.
    cell, activation, hidden_size, num_layers, embedding_size, tied, dropout, dtype, initialization
        The network's; see `Network`.
    seq_length, batch_size
        Steps and rows of a window; ``seq_length=None`` is the whole text in one window.
    optimizer, learning_rate, clip_value, clip_norm, reduction
        The update's; see `Trainer`.
    schedule
        How the learning rate changes: ``"linear"`` (warm-up over a hundred updates, then decay to zero),
        ``"cosine"`` (the same, along a cosine), ``"constant"``, ``"step"``, ``"exponential"``,
        ``"plateau"`` (less where the recorded losses fall no more), or one of `fastrnn.schedules` with its
        own settings.
    averaging
        From 0 to below 1, such as 0.999: the model has the exponential mean of the parameters, of which each
        update keeps so much. ``None`` is none.
    steps, epochs, time_limit
        When to end: after so many updates, passes over the text, or seconds (after the first update,
        which may have to compile), whichever comes first; not both steps and epochs. Any of them
        replaces the preset's steps.
    validation
        The part of the text, its end, that is held out; 0 is none. By default a tenth of a text of at
        least 10,000 symbols. Of it, the first 32,768 symbols are measured.
    split
        Where that part is: ``"end"``, of the text, or ``"rows"``, of each row of a batch in whole windows,
        all of which is measured.
    log_every
        Updates between the records of `Model.history`.
    threads
        The most threads to train with; ``None`` is as many cores as the process may use. The model does
        not depend on it; see `Network`.
    rng
        An int, a NumPy ``Generator`` or ``RandomState``, or ``None`` for fresh draws; for the preset
        ``"scratch"``, an int is a ``RandomState``, and ``None`` is its 42.
    progress
        Show a progress bar on stderr, if that is a terminal.

    Returns
    -------
    Model

    Raises
    ------
    ValueError, TypeError
        An argument, or the text, is not what it must be; the message names it.
    OSError
        A file cannot be read.
    MemoryError
        What training needs cannot fit.
    fastrnn.BackendUnavailableError
        The backend cannot run here.
    fastrnn.DivergenceError
        The loss became infinite or NaN; the error's ``model`` is the one before that update.
    fastrnn.TrainingInterrupted
        Ctrl-C, a ``KeyboardInterrupt``; the error's ``model`` is what training had reached.

    Examples
    --------
    >>> model = train("hello", preset="scratch")
    >>> [round(record["loss"], 4) for record in model.history[:3]]
    [5.5459, 0.0132, 0.0057]
    """
    given = {name: value for name, value in locals().items() if name in CHECKS}
    recipe = get_recipe(preset, **{name: value for name, value in given.items() if value is not PRESET})
    get_backend(backend)
    generator = random_generator(preset, rng)
    workers = None if threads is None else checks.whole_number("threads", threads)
    tokens = None if vocabulary is None else TokenVocabulary.of_tokens(vocabulary)
    with read_corpus(text, unit, tokens) as corpus:
        run = _prepare(corpus, tokens, recipe, backend, workers, generator)
        with _progress_bar(progress) as bar:
            _fit(run, bar)
    return run.model


# ---- Before the first update -------------------------------------------------------------------------


@dataclass
class _Run:
    """One training run: what it works on, and when it ends."""

    recipe: Recipe
    trainer: Trainer
    model: Model
    blocks: Blocks
    held_out: Streams | None
    #: When the first update was done, from which the time limit counts.
    began: float | None = None

    @property
    def steps(self) -> int | None:
        """How many updates, or ``None`` where only the time limits them."""
        if self.recipe.epochs is not None:
            return self.recipe.epochs * self.blocks.windows
        return self.recipe.steps

    def part_done(self, updates: Any) -> Any:
        """The part of training that is done after so many updates, from 0 to 1."""
        part = updates / self.steps if self.steps else np.zeros_like(updates)
        if self.recipe.time_limit and self.began is not None:
            part = np.maximum(part, (time.monotonic() - self.began) / self.recipe.time_limit)
        return np.minimum(part, 1.0)


def _prepare(
    corpus: Corpus,
    tokens: TokenVocabulary | None,
    recipe: Recipe,
    backend: str,
    threads: int | None,
    rng: Any,
) -> _Run:
    """Split the text, count its symbols, lay it out, and make the network."""
    part = _held_out_part(recipe, corpus)
    training, held_out = corpus.split(part if recipe.split == "end" else 0.0)
    vocabulary, counts = _vocabulary_and_counts(training, held_out, tokens)
    ids = training.sequence(vocabulary)
    if len(ids) < 2 or not training.size:
        raise ValueError(
            f"the text to train on has {training.size} symbols; it must have at least 2"
            + (f", beside the {held_out.size} that are held out" if held_out.size else "")
        )
    transitions = len(ids) - 1
    if recipe.drop_last:
        transitions = _whole_windows(transitions, recipe.seq_length)
    T, B = fit_window(transitions, recipe.seq_length, recipe.batch_size)
    _tell_what_shrank(len(ids), {"seq_length": (recipe.seq_length, T), "batch_size": (recipe.batch_size, B)})
    if recipe.split == "rows":
        transitions = transitions // (T * B) * T * B
    rows = Rows(ids, transitions, B, boundary_id=vocabulary.boundary_id, carry_state=recipe.carry_state)
    if recipe.split == "rows":
        rows, validation = _split_rows(rows, T, part)
    else:
        validation = _validation_streams(held_out, vocabulary, B)
    blocks = Blocks(rows, T)
    _require_memory(recipe, vocabulary.size, blocks, threads or usable_cores())
    network = Network(
        vocabulary.size,
        recipe.hidden_size,
        cell=recipe.cell,
        activation=recipe.activation,
        num_layers=recipe.num_layers,
        embedding_size=recipe.embedding_size,
        tied=recipe.tied,
        dropout=recipe.dropout,
        dtype=recipe.dtype,
        backend=backend,
        initialization=recipe.initialization,
        threads=threads,
        rng=rng,
    )
    trainer = Trainer(
        network,
        optimizer=recipe.optimizer,
        learning_rate=recipe.learning_rate,
        clip_value=recipe.clip_value,
        clip_norm=recipe.clip_norm,
        reduction=recipe.reduction,
        averaging=recipe.averaging,
        dropout_key=int(rng.random() * 2**53) if recipe.dropout else 0,
    )
    settings = {**recipe.describe(), "seq_length": T, "batch_size": B}
    learnt = network if recipe.averaging is None else trainer.averaged_network
    return _Run(recipe, trainer, Model(learnt, vocabulary, counts, settings), blocks, validation)


def _vocabulary_and_counts(
    training: Corpus, held_out: Corpus, tokens: TokenVocabulary | None
) -> tuple[Vocabulary, NDArray[np.int64]]:
    """The vocabulary of both parts, or of given tokens, and how often each id occurs in the training part."""
    counts = [training.counts(), held_out.counts()]  # tokens are found right or wrong
    boundary = isinstance(training, Documents)
    if tokens is not None:
        vocabulary: Vocabulary = replace(tokens, boundary=boundary)
    else:
        vocabulary = Vocabulary.of_counts(counts, unit=training.unit, boundary=boundary)
    by_id = vocabulary.by_id(counts[0])
    if isinstance(training, Documents):
        by_id[vocabulary.boundary_id] = len(training.boundaries)
    return vocabulary, by_id


def _held_out_part(recipe: Recipe, corpus: Corpus) -> float:
    """The part of the text to hold out."""
    if recipe.validation is not None:
        return recipe.validation
    if corpus.size < LEAST_TO_HOLD_OUT:
        logger.info("the text has %d symbols: none are held out for validation", corpus.size)
        return 0.0
    if isinstance(corpus, Documents) and len(corpus.texts) < 2:
        logger.info("there is one document: it is not held out for validation")
        return 0.0
    return 0.1


def _tell_what_shrank(n: int, sizes: dict[str, tuple[int | None, int]]) -> None:
    """Log the sizes, (wanted, had), that a text of n symbols is too short for."""
    shrunk = [
        f"{name} is {had} instead of {wanted}"
        for name, (wanted, had) in sizes.items()
        if wanted is not None and had < wanted
    ]
    if shrunk:
        logger.warning("the text has %d symbols: %s", n, ", ".join(shrunk))


def _whole_windows(transitions: int, seq_length: int | None) -> int:
    """How much of a pass min-char-rnn trains on: windows with a symbol to spare, at least one."""
    T = min(seq_length or transitions, transitions)
    return max(1, (transitions - 1) // T) * T


def _validation_streams(held_out: Corpus, vocabulary: Vocabulary, B: int) -> Streams | None:
    """The held-out part as rows, or ``None`` where there is too little of it."""
    if not held_out.size:
        return None
    ids = held_out.sequence(vocabulary)
    transitions = min(len(ids) - 1, VALIDATION_SYMBOLS)
    if not transitions:
        return None
    rows = Rows(ids, transitions, min(B, transitions), boundary_id=vocabulary.boundary_id)
    return rows.read(0, rows.n_steps)


def _split_rows(rows: Rows, T: int, part: float) -> tuple[Rows, Streams | None]:
    """The first windows of each row, and the last ones, to hold out; at least one is trained on."""
    windows = rows.n_steps // T
    kept = max(1, int(windows * (1 - part)))
    held_out = rows.read(kept * T, windows * T) if kept < windows else None
    if part and held_out is None:
        logger.info("a row has %d windows: none are held out for validation", windows)
    return rows.first(kept * T), held_out


def _require_memory(recipe: Recipe, V: int, blocks: Blocks, threads: int) -> None:
    """Refuse what cannot fit, before it is allocated."""
    T, B = blocks.seq_length, blocks.rows.batch_size
    shape, itemsize = recipe.shape(V), np.dtype(recipe.dtype).itemsize
    vectors = 2 + recipe.optimizer.moments + (recipe.averaging is not None)
    plan = window_plan(shape, T, B, threads, dropout=recipe.dropout > 0)
    memory.require(
        (vectors * parameter_layout(shape).size + plan.size) * itemsize + blocks.n_bytes,
        f"training with num_layers={shape.L}, hidden_size={shape.H}, seq_length={T}, batch_size={B} "
        f"and {V} symbols",
    )


# ---- The loop ----------------------------------------------------------------------------------------


def _fit(run: _Run, bar: Any) -> None:
    """Do the updates; the history and the bar follow them."""
    trainer, recorder, pace = run.trainer, _Recorder(run), Pace()
    bar.set_description_str("compiling" if trainer.network.backend.name == "numba" else "")
    try:
        while (part := float(run.part_done(trainer.updates))) < 1:
            done = trainer.updates
            losses, norms = pace.call(lambda n: _advance(run, n), _until_next_stop(run, done))
            if run.began is None:  # the first update may have had to compile
                run.began = time.monotonic()
            recorder.add(done, losses, norms)
            bar.set_description_str(recorder.summary(), refresh=False)
            bar.update(float(run.part_done(trainer.updates)) - part)
        recorder.finish()
        bar.set_description_str(recorder.summary())
    except KeyboardInterrupt as error:
        message = f"interrupted after {trainer.updates} updates"
        raise TrainingInterrupted(message, run.model) from error
    except DivergenceError as error:
        if np.isfinite(trainer.network.flat).all():
            error.model = run.model
        raise


def _advance(run: _Run, count: int) -> NDArray[np.float64]:
    """Do so many updates in one native call; their losses and the norms of their gradients, (2, count)."""
    done, recipe = run.trainer.updates, run.recipe
    updates = np.arange(done, done + count)
    progress = Progress(updates, run.part_done(updates), updates // run.blocks.windows, _losses(run))
    rates = recipe.learning_rate * recipe.schedule.factors(progress)
    streams, first, _ = run.blocks.at(done)
    return run.trainer.advance(streams, run.blocks.seq_length, first, rates)


def _losses(run: _Run) -> list[float]:
    """The losses that the schedule reads: of validations where there were any, else of training."""
    if not run.recipe.schedule.reads_losses:
        return []
    history = run.model.history
    validations = [record["validation_loss"] for record in history if "validation_loss" in record]
    return validations or [record["loss"] for record in history]


def _until_next_stop(run: _Run, done: int) -> int:
    """How many updates there may be before the next record that matters, the end, or another block."""
    _, _, windows = run.blocks.at(done)
    left = min(windows, run.steps - done if run.steps is not None else 1 << 16)
    if run.held_out is None and not run.recipe.schedule.reads_losses:
        return left
    return min(left, -done % run.recipe.log_every + 1)


class _Recorder:
    """Writes the model's history from the losses of the updates: a record at every `log_every`-th."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        #: The losses of the updates since the last record, each update's a sum over its window.
        self._pending: list[float] = []
        self._first_pending = 0
        #: The norm of the last update's gradient.
        self._norm = math.nan
        self._bits = math.nan

    def add(self, done: int, losses: NDArray[np.float64], norms: NDArray[np.float64]) -> None:
        """Take the losses of the updates from number ``done`` on, and the norms of their gradients."""
        self._bits = losses.sum() / self._symbols(done, len(losses)) / math.log(2)
        every, start = self._run.recipe.log_every, 0
        for position in range(-done % every, len(losses), every):
            self._pending += losses[start : position + 1].tolist()
            self._norm = float(norms[position])
            self._record()
            start = position + 1
        self._pending += losses[start:].tolist()
        self._norm = float(norms[-1])

    def finish(self) -> None:
        """Record what came after the last record, where there is a validation loss to tell."""
        if self._run.held_out is not None and self._pending:
            self._record()

    def summary(self) -> str:
        """The state of training in a line, for the progress bar."""
        unit = self._run.model.vocabulary.unit
        last = self._run.model.history[-1] if self._run.model.history else {}
        line = f"update {self._run.trainer.updates:,}: {self._bits:.3f} bits/{unit}"
        return line + _validation_text(last)

    def _symbols(self, done: int, count: int) -> int:
        """The number of targets of so many updates from number ``done`` on."""
        blocks, T = self._run.blocks, self._run.blocks.seq_length
        starts = (done + np.arange(count)) % blocks.windows * T
        return int(np.minimum(T, blocks.rows.n_steps - starts).sum()) * blocks.rows.batch_size

    def _record(self) -> None:
        """Make a record of the pending updates, exactly summed: it does not depend on who added what."""
        run, count = self._run, len(self._pending)
        if run.recipe.reduction == "sum":
            loss = self._pending[-1]
        else:
            loss = math.fsum(self._pending) / self._symbols(self._first_pending, count)
        step = self._first_pending + count - 1
        record: Record = {"step": step, "loss": loss, "gradient_norm": self._norm}
        if run.held_out is not None:
            record["validation_loss"] = scoring.mean_loss(run.model.network, run.held_out)
        self._first_pending += count
        self._pending = []
        run.model.history.append(record)
        _log_record(run, record)


def _log_record(run: _Run, record: Record) -> None:
    """Tell the log: the loss as it is for a sum, else in bits per symbol."""
    if run.recipe.reduction == "sum":
        text = f"loss {record['loss']:.4f}"
    else:
        text = f"{record['loss'] / math.log(2):.3f} bits/{run.model.vocabulary.unit}"
    logger.info("update %d: %s%s", record["step"], text, _validation_text(record))


def _validation_text(record: Record) -> str:
    if "validation_loss" not in record:
        return ""
    return f", validation {record['validation_loss'] / math.log(2):.3f}"


@contextmanager
def _progress_bar(wanted: bool) -> Iterator[Any]:
    """A bar on stderr that counts the part of training that is done, if stderr is a terminal."""
    from tqdm import tqdm

    layout = "{percentage:3.0f}% {bar} {elapsed}<{remaining} {desc}"
    with tqdm(
        total=1.0, file=STDERR, disable=None if wanted else True, bar_format=layout, dynamic_ncols=True
    ) as bar:
        yield bar
