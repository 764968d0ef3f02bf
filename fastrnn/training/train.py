"""`train`, which makes a model from a text. It prints only a progress bar."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastrnn.backends.registry import get_backend
from fastrnn.core import checks, memory
from fastrnn.core.layout import parameter_layout
from fastrnn.core.plan import Split, window_plan
from fastrnn.core.thread_team import usable_cores
from fastrnn.data.batches import Batch, BatchLayout, WindowReader, fit_window
from fastrnn.data.corpus import Corpus, Documents, Sequence
from fastrnn.data.sources import Source, read_corpus
from fastrnn.data.vocabulary import NEWLINES, TokenVocabulary, Vocabulary
from fastrnn.model.model import Model
from fastrnn.network.execution import checked_threads
from fastrnn.network.network import Network
from fastrnn.optimizers import Optimizer
from fastrnn.schedules import Schedule
from fastrnn.training import checkpoints
from fastrnn.training.checkpoints import Checkpoints
from fastrnn.training.divergence import Divergence
from fastrnn.training.events import Callback, Training
from fastrnn.training.loop import fit
from fastrnn.training.presets import (
    MIN_TO_HOLD_OUT,
    SETTING_CHECKS,
    TrainingConfig,
    get_config,
    random_generator,
)
from fastrnn.training.progress import ProgressDisplay
from fastrnn.training.recorder import BestWeights, EarlyStopping, Outcome, Recorder, Validation
from fastrnn.training.trainer import Trainer

logger = logging.getLogger("fastrnn")

#: The most symbols of the held-out part that a validation during training reads. By default this is a few
#: hundredths of the symbols that are trained on between two validations, so it takes little of the time.
VALIDATION_SYMBOLS = 1 << 15


class _Preset:
    """The value of an argument that was not given: the preset's value is used."""

    def __repr__(self) -> str:
        return "<as the preset>"


PRESET: Any = _Preset()


def train(
    text: Source,
    *,
    preset: str | None = None,
    backend: str = "auto",
    unit: str | None = None,
    encoding: str | None = None,
    newlines: str = "universal",
    lines: bool = False,
    vocabulary: int | str | Iterable[str] | None = None,
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
    steps: int | str | None = PRESET,
    epochs: int | None = PRESET,
    time_limit: float | str | None = PRESET,
    validation: float | None = PRESET,
    split: str = PRESET,
    shuffle: bool = PRESET,
    keep: str = PRESET,
    patience: int | None = PRESET,
    retries: int = PRESET,
    log_every: int | str = PRESET,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int | str = "5m",
    resume: bool = False,
    callbacks: Iterable[Callback] = (),
    threads: int | None = None,
    rng: Any = None,
    progress: bool = True,
) -> Model:
    """Train a model on a text, or on any sequence of whole numbers.

    Without a preset, the defaults are those of `fastrnn.training.presets.TrainingConfig`: 128 hidden
    units, windows of 64 steps and 32 rows, Adam at 0.008 with the linear schedule, the gradient's norm
    clipped at 1, at most 5,000 updates, float32. A tenth of the text is held out for validation and not
    trained on, and the model gets the weights with the lowest validation loss.

    Parameters
    ----------
    text
        A str (characters), bytes, an ``os.PathLike`` (a file), or any other iterable of texts (documents).
        An open file gives its lines, without their ends, as documents. With ``vocabulary``, tokens: one
        sequence of whole numbers (an array (n), a list, …), or an iterable of them (documents; an array
        (n, m) has a document in each row). The text needs at least two symbols; the batch and the window are
        reduced to fit a short text. A file is read in parts, so it may be longer than memory; it must not
        change until training ends. A file whose name ends with .gz, .xz or .zst is decompressed. Such a file
        and a pipe are copied to a temporary file if they have over 2 MB. An array is not copied, and a
        ``np.memmap`` is read in parts; they must not change either.
    preset
        The program to reproduce: ``"scratch"``, ``"min-char-rnn"`` or ``"char-rnn"``; ``None`` is fastrnn's
        own config. Other arguments override those of the preset.
    backend
        ``"c"``, ``"numba"``, ``"numpy"``, or ``"auto"``: the first of these that can run here.
    unit
        For a file: ``"character"`` (the default) or ``"byte"``.
    encoding
        For a file of characters, the name of its encoding, such as ``"latin-1"``, ``"cp1252"`` or
        ``"utf-16"``; ``None`` is UTF-8.
    newlines
        How characters are read, in documents and files too. ``"universal"``: a byte order mark (U+FEFF) at
        the beginning is left out, and CR LF and CR become LF. ``"keep"``: nothing is changed. The model reads
        the texts that it scores in the same way. Bytes and tokens are never changed.
    lines
        For a file: each line, without its end (LF, CR LF or CR), is a document.
    vocabulary
        For tokens: their names, distinct str, in the order of their ids; or the number of tokens. Ids run
        from 0. The boundary of documents has one more id, which may not be in the text. For characters: a str
        of all characters that the model should know, such as ``string.printable``, or ``"ascii"`` for the 128
        of ASCII; ``None`` is the characters of the text.
    cell, activation, hidden_size, num_layers, embedding_size, tied, dropout, dtype, initialization
        Settings of the network; see `Network`.
    seq_length, batch_size
        Steps and rows of a window; ``seq_length=None`` puts the whole text into one window.
    optimizer, learning_rate, clip_value, clip_norm, reduction
        Settings of the updates; see `Trainer`.
    schedule
        How the learning rate changes: ``"linear"`` (warm-up over a hundred updates, then decay to zero),
        ``"cosine"`` (the same, along a cosine), ``"constant"``, ``"step"``, ``"exponential"``,
        ``"plateau"`` (reduced when the recorded losses stop falling), or one of `fastrnn.schedules` with
        other settings.
    averaging
        The decay, from 0 to below 1, such as 0.999, of an exponential moving average of the parameters, which
        the model then gets. ``None`` makes no average.
    steps, epochs, time_limit
        When to end: after this number of updates, passes over the text, or seconds of training (without the
        time to compile; also a str such as ``"90s"`` or ``"10m"``), whichever comes first. Steps and epochs
        exclude each other. Any of the three replaces the preset's end. ``steps="auto"`` is 200 updates and
        those of 32 passes, at most 5,000.
    validation
        The fraction of the text that is held out: the end of a running text, or documents that ``rng`` draws.
        0 holds out nothing. ``None`` is a tenth, or nothing if a tenth has fewer than 20 symbols or there are
        fewer than 10 documents. The validation loss is that of the first 32,768 held-out symbols.
    split
        Which part is held out. ``"end"``: the end of the text. ``"rows"``: the end of each row of a batch, in
        whole windows; the validation loss is then that of all held-out symbols.
    shuffle
        Whether ``rng`` draws an order of the documents before a part is held out. With ``False`` they keep
        their order, and the last ones are held out. A running text is never shuffled.
    keep
        ``"best"``: the model gets the weights with the lowest validation loss, if a part is held out.
        ``"last"``: it gets the last ones.
    patience
        Training ends when so many records in a row have brought no better validation loss; ``None`` never
        ends it so.
    retries
        How often training that diverges goes back to its last good state and on from there, with the learning
        rates times a tenth. It diverges if a loss is not finite, or above 1.5 times that of guessing and a
        nat per symbol more. 0, as in the presets: it ends with a `fastrnn.DivergenceError`.
    log_every
        The number of updates from one record of `Model.history` to the next; ``"auto"`` makes about 16
        records. The last update has a record too.
    checkpoint
        A file that holds the training, so that it can go on after its process has ended. It is written beside
        training, whole or not at all. `fastrnn.load` reads from it the model that training has reached.
    checkpoint_every
        The number of updates from one checkpoint to the next, or a time, such as ``"30s"`` or ``"5m"``. There
        is one more at the end of training.
    resume
        Whether to go on with the checkpoint, if the file exists. The text and all settings must be the same;
        ``backend`` and ``threads`` need not be. With the compiled backends, the model is then the same, bit
        for bit, as if training had never ended, unless a time limits it.
    callbacks
        Instances of `fastrnn.Callback`, which follow training, and can end it.
    threads
        The most threads of training; ``None`` is one for each core that the process may use. The model does
        not depend on it; see `Network`.
    rng
        An int, a NumPy ``Generator`` or ``RandomState``, or ``None`` for unpredictable draws. For the preset
        ``"scratch"``, an int seeds a ``RandomState``, and ``None`` is the seed 42.
    progress
        Whether to show the progress: a bar if stderr is a terminal, or in a notebook; else a line of the log
        every few seconds.

    Returns
    -------
    Model

    Raises
    ------
    ValueError, TypeError
        An argument or the text is invalid; the message says which and why. A mapping, a set or a table of
        several columns is not a text.
    OSError
        A file cannot be read.
    MemoryError
        The memory that training needs is not available.
    fastrnn.BackendUnavailableError
        The backend cannot run here.
    fastrnn.CheckpointError
        The checkpoint is damaged, or was made with another text, setting or ``rng``.
    FileExistsError
        The checkpoint exists, and ``resume`` is false.
    fastrnn.DivergenceError
        Training diverged, also after the last retry; the error's ``model`` is the one that it had reached.
    fastrnn.TrainingInterrupted
        Ctrl-C, a ``KeyboardInterrupt``, or with a checkpoint also SIGTERM; the error's ``model`` is the one
        that training had reached. The current window ends and a checkpoint is written before it is raised; a
        second Ctrl-C ends training at once. Only in the main thread, and with Python's own handler.

    Warns
    -----
    UserWarning
        The text is probably not the one that is meant: a str is the name of a file, each document is a single
        symbol, or each document ends with a line end.

    Examples
    --------
    >>> model = train("hello", preset="scratch")
    >>> [round(record["loss"], 4) for record in model.history[:3]]
    [5.5459, 0.0132, 0.0057]
    """
    given = {name: value for name, value in locals().items() if name in SETTING_CHECKS}
    config = get_config(preset, **{name: value for name, value in given.items() if value is not PRESET})
    get_backend(backend)
    generator = random_generator(preset, rng)
    workers = None if threads is None else checked_threads(threads)
    checks.one_of("newlines", newlines, NEWLINES)
    checks.flag("lines", lines)
    followers = _checked_callbacks(callbacks)
    pace = checkpoints.checked_pace(checkpoint_every)
    found = checkpoints.find(checkpoint, resume=checks.flag("resume", resume))
    about = checkpoints.about(config, generator)
    if found is not None:
        checkpoints.require_same(found, about)
        checkpoints.take_generator(found, generator, is_given=rng is not None)
        about = checkpoints.about(config, generator)
    alphabet = vocabulary if isinstance(vocabulary, str) else None
    tokens = None if vocabulary is None or alphabet is not None else TokenVocabulary.of_tokens(vocabulary)
    with read_corpus(text, unit, tokens, encoding=encoding, newlines=newlines, lines=lines) as corpus:
        training, texts = _prepare(
            corpus, _Symbols(tokens, alphabet, newlines), config, backend, workers, generator
        )
        if checkpoint is not None:
            about["vocabulary"] = _Symbols.digest(training.model.vocabulary)
            about["text"] = checkpoints.fingerprint(*texts)
        if found is not None:
            checkpoints.require_same(found, about)
        with ExitStack() as stack:
            display = stack.enter_context(ProgressDisplay()) if progress else None
            best = BestWeights() if training.config.keep == "best" and training.held_out is not None else None
            writer = None
            if checkpoint is not None:
                writer = stack.enter_context(Checkpoints(checkpoint, pace, about, best))
            divergence = Divergence(training.config.retries, best)
            training.callbacks = _in_order(training, followers, divergence, writer, best, display)
            if found is not None:
                training.restore(found.arrays)
                logger.info("going on with %s from update %s", checkpoint, f"{training.updates:,}")
            fit(training, divergence, display, terminate=checkpoint is not None)
    return training.model


def _checked_callbacks(callbacks: Iterable[Callback]) -> list[Callback]:
    """Return callbacks as a list."""
    found = list(callbacks)
    for callback in found:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks has a {type(callback).__name__}; each must be a fastrnn.Callback")
        if callback.every is not None:
            checks.whole_number("every of a callback", callback.every)
    return found


def _in_order(
    training: Training,
    followers: list[Callback],
    divergence: Divergence,
    writer: Checkpoints | None,
    best: BestWeights | None,
    display: ProgressDisplay | None,
) -> list[Callback]:
    """All callbacks of a training, in the order in which they are called.

    A record is made first, measured, and judged. A checkpoint is written before the model gets the best
    weights, and shows what all others did.
    """
    config, held_out = training.config, training.held_out
    needs_weights = bool(followers) or config.retries > 0 or config.schedule.reads_losses
    made: list[Callback | None] = [
        Recorder(needs_weights=needs_weights or held_out is not None),
        None if held_out is None else Validation(held_out),
        divergence,
        None if held_out is None or config.patience is None else EarlyStopping(config.patience),
        *followers,
        writer,
        best,
        Outcome(),
        display,
    ]
    return [callback for callback in made if callback is not None]


# ---- Before the first update -------------------------------------------------------------------------


def _prepare(
    corpus: Corpus, symbols: _Symbols, config: TrainingConfig, backend: str, threads: int | None, rng: Any
) -> tuple[Training, list[Sequence]]:
    """Split the text, count its symbols, lay it out in rows, and make the network.

    It returns the training, and the ids of what is trained on and held out.
    """
    fraction = _held_out_fraction(config, corpus)
    if config.shuffle and isinstance(corpus, Documents):
        corpus = corpus.shuffled(rng)
    training, held_out = corpus.split(fraction if config.split == "end" else 0.0)
    vocabulary, counts = symbols.found_in(training, held_out)
    ids = training.sequence(vocabulary)
    if len(ids) < 2 or not training.size:
        raise ValueError(
            f"the text to train on has {training.size} symbols; it must have at least 2"
            + (f", beside the {held_out.size} that are held out" if held_out.size else "")
        )
    transitions = len(ids) - 1
    if config.drop_last:
        transitions = _whole_windows(transitions, config.seq_length)
    T, B = fit_window(transitions, config.seq_length, config.batch_size)
    if config.split == "rows":
        transitions = transitions // (T * B) * T * B
    layout = BatchLayout(
        ids, transitions, B, boundary_id=vocabulary.boundary_id, carry_state=config.carry_state
    )
    if config.split == "rows":
        layout, validation = _split_rows(layout, T, fraction)
    else:
        validation = _validation_batch(held_out, vocabulary, B)
    _log_split(config, training, held_out, fraction if validation is not None else 0.0)
    for change in corpus.changes:
        logger.info("%s (newlines='keep', --newlines keep, takes the text as it is)", change)
    _tell_what_shrank(len(ids), {"seq_length": (config.seq_length, T), "batch_size": (config.batch_size, B)})
    reader = WindowReader(layout, T)
    config = config.fitted(T, B, reader.windows)
    _require_memory(config, vocabulary.size, reader, threads or usable_cores())
    network = Network(
        **vars(config.network(vocabulary.size)),
        backend=backend,
        initialization=config.initialization,
        threads=threads,
        rng=rng,
    )
    trainer = Trainer(
        network,
        optimizer=config.optimizer,
        learning_rate=config.learning_rate,
        clip_value=config.clip_value,
        clip_norm=config.clip_norm,
        reduction=config.reduction,
        averaging=config.averaging,
        dropout_seed=int(rng.random() * 2**53) if config.dropout else 0,
    )
    learnt = network if config.averaging is None else trainer.averaged_network
    model = Model(learnt, vocabulary, counts, config.describe())
    return Training(config, trainer, model, reader, validation), [ids, held_out.sequence(vocabulary)]


@dataclass(frozen=True)
class _Symbols:
    """What the arguments say about the symbols: tokens or an alphabet, and the rule of newlines."""

    tokens: TokenVocabulary | None
    alphabet: str | None
    newlines: str

    @staticmethod
    def digest(vocabulary: Vocabulary) -> str:
        """A hash of the symbols of a vocabulary, their names, and how it reads texts."""
        names = vocabulary.tokens if isinstance(vocabulary, TokenVocabulary) else None
        about = (vocabulary.unit, vocabulary.boundary, vocabulary.newlines, names)
        return sha256(repr((about, vocabulary.symbols.tolist())).encode()).hexdigest()

    def found_in(self, training: Corpus, held_out: Corpus) -> tuple[Vocabulary, NDArray[np.int64]]:
        """The vocabulary, and how often each id occurs in the training part."""
        counts = [training.counts(), held_out.counts()]  # this also checks tokens
        vocabulary = self._vocabulary(training.unit, counts, boundary=isinstance(training, Documents))
        by_id = vocabulary.by_id(counts[0])
        if isinstance(training, Documents):
            by_id[vocabulary.boundary_id] = len(training) + 1
        return vocabulary, by_id

    def _vocabulary(self, unit: str, counts: list[NDArray[np.int64]], *, boundary: bool) -> Vocabulary:
        newlines = self.newlines if unit == "character" else "keep"
        if self.tokens is not None:
            return replace(self.tokens, boundary=boundary)
        found = Vocabulary.of_counts(counts, unit=unit, boundary=boundary, newlines=newlines)
        if self.alphabet is None:
            return found
        if unit != "character":
            raise TypeError("vocabulary is a str, the characters of a model, and the text is bytes")
        alphabet = Vocabulary.of_alphabet(self.alphabet, boundary=boundary, newlines=newlines)
        others = np.setdiff1d(found.symbols, alphabet.symbols).tolist()
        if others:
            some = ", ".join(repr(chr(code)) for code in others[:5])
            raise ValueError(
                f"the text has {len(others)} characters that are not in vocabulary, such as {some}; it has "
                f"{len(alphabet.symbols)} characters"
            )
        return alphabet


def _held_out_fraction(config: TrainingConfig, corpus: Corpus) -> float:
    """The fraction of the text to hold out."""
    if config.validation is not None:
        return config.validation
    documents = len(corpus) if isinstance(corpus, Documents) else None
    enough = corpus.size // 10 >= MIN_TO_HOLD_OUT and (documents is None or documents >= 10)
    return 0.1 if enough else 0.0


def _log_split(config: TrainingConfig, training: Corpus, held_out: Corpus, fraction: float) -> None:
    """Log what is trained on, what is held out, and how to change it."""
    what, whose = f"{training.unit}s", "the last"
    number, rest = training.size, held_out.size
    if isinstance(training, Documents) and isinstance(held_out, Documents):
        number, rest, what = len(training), len(held_out), "documents"
        whose = "drawn" if config.shuffle else "the last"
    if fraction and config.split == "rows":
        logger.info(
            "training on %s %s in rows; the last %g %% of each row are held out for validation "
            "(validation=0, --validation 0, trains on all)",
            f"{number:,}", what, 100 * fraction,
        )  # fmt: skip
    elif rest:
        logger.info(
            "training on %s %s; %s more, %s, are held out for validation and not trained on "
            "(validation=0, --validation 0, trains on all)",
            f"{number:,}", what, f"{rest:,}", whose,
        )  # fmt: skip
    else:
        logger.info("training on all %s %s; none are held out for validation", f"{number:,}", what)


def _tell_what_shrank(n: int, sizes: dict[str, tuple[int | None, int]]) -> None:
    """Log the sizes that were reduced for a text of n symbols; ``sizes`` has (wanted, had) by name."""
    shrunk = [
        f"{name} is {had} instead of {wanted}"
        for name, (wanted, had) in sizes.items()
        if wanted is not None and had < wanted
    ]
    if shrunk:
        logger.warning("the text has %d symbols: %s", n, ", ".join(shrunk))


def _whole_windows(transitions: int, seq_length: int | None) -> int:
    """The transitions of a pass of min-char-rnn: whole windows with a symbol after them, at least one."""
    T = min(seq_length or transitions, transitions)
    return max(1, (transitions - 1) // T) * T


def _validation_batch(held_out: Corpus, vocabulary: Vocabulary, B: int) -> Batch | None:
    """The held-out part as a batch, or ``None`` if it has no transition."""
    if not held_out.size:
        return None
    ids = held_out.sequence(vocabulary)
    transitions = min(len(ids) - 1, VALIDATION_SYMBOLS)
    if not transitions:
        return None
    layout = BatchLayout(ids, transitions, min(B, transitions), boundary_id=vocabulary.boundary_id)
    return layout.read(0, layout.n_steps)


def _split_rows(layout: BatchLayout, T: int, fraction: float) -> tuple[BatchLayout, Batch | None]:
    """Split rows into their first windows, at least one each, to train on, and their last, to hold out."""
    windows = layout.n_steps // T
    kept = max(1, int(windows * (1 - fraction)))
    held_out = layout.read(kept * T, windows * T) if kept < windows else None
    return layout.first(kept * T), held_out


def _require_memory(config: TrainingConfig, V: int, reader: WindowReader, threads: int) -> None:
    """Raise a ``MemoryError`` if training needs more memory than is available."""
    T, B = reader.seq_length, reader.layout.batch_size
    shape, itemsize = config.network(V).shape, np.dtype(config.dtype).itemsize
    vectors = 3 + config.optimizer.moments + (config.averaging is not None)  # with the weights that are kept
    plan = window_plan(shape, T, B, Split(threads), dropout=config.dropout > 0)
    memory.require(
        (vectors * parameter_layout(shape).size + plan.size) * itemsize + reader.n_bytes,
        f"training with num_layers={shape.L}, hidden_size={shape.H}, seq_length={T}, batch_size={B} "
        f"and {V} symbols",
    )
