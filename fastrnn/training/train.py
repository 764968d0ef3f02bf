"""From a text to a model: `train`. It prints nothing but a progress bar."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastrnn.backends.registry import get_backend
from fastrnn.core import checks, memory
from fastrnn.core.layout import parameter_layout
from fastrnn.core.plan import window_plan
from fastrnn.core.thread_team import usable_cores
from fastrnn.data.batches import Blocks, Rows, Streams, fit_window
from fastrnn.data.corpus import Corpus, Documents
from fastrnn.data.sources import Source, read_corpus
from fastrnn.data.vocabulary import NEWLINES, TokenVocabulary, Vocabulary
from fastrnn.model.model import Model
from fastrnn.network.execution import checked_threads
from fastrnn.network.network import Network
from fastrnn.optimizers import Optimizer
from fastrnn.schedules import Schedule
from fastrnn.training.loop import Run, fit
from fastrnn.training.presets import CHECKS, LEAST_TO_HOLD_OUT, Recipe, get_recipe, random_generator
from fastrnn.training.trainer import Trainer

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
    time_limit: float | None = PRESET,
    validation: float | None = PRESET,
    split: str = PRESET,
    shuffle: bool = PRESET,
    keep: str = PRESET,
    log_every: int | str = PRESET,
    threads: int | None = None,
    rng: Any = None,
    progress: bool = True,
) -> Model:
    """Train a model on a text, or on any sequence of whole numbers.

    Without a preset, the defaults are those of `fastrnn.training.presets.Recipe`: 128 hidden units, windows
    of 64 steps and 32 rows, Adam at 0.008 with the linear schedule, the gradient's norm clipped at 1, at most
    5,000 updates, float32. A tenth of the text is held out for validation and not trained on, and the model
    has the weights that were best there.

    Parameters
    ----------
    text
        A str (characters), bytes, an ``os.PathLike`` (a file), or any other iterable of texts
        (documents); of an open file, its lines without their ends. With ``vocabulary``, tokens: one running
        sequence of whole numbers (an array (n), a list, …) or an iterable of them (documents; the rows of
        an array are). At least two symbols; batch and window shrink to fit a short text. A file is read in
        parts, however long it is, and must stay as it is until training ends; what is no file on a disk,
        such as a pipe, is read whole. An array is not copied, and a ``np.memmap`` is read in parts; it too
        must stay as it is.
    preset
        A system to reproduce, ``"scratch"``, ``"min-char-rnn"`` or ``"char-rnn"``; ``None`` is fastrnn's own
        recipe.
        Arguments given beside it override it.
    backend
        ``"auto"`` (c, else numba, else numpy) or one of these names.
    unit
        For a file: ``"character"`` (the default) or ``"byte"``.
    encoding
        For a file of characters, the name of its encoding, such as ``"latin-1"``, ``"cp1252"`` or
        ``"utf-16"``; ``None`` is UTF-8.
    newlines
        How a str is read, in documents and files too. ``"universal"``: a byte order mark (U+FEFF) at its
        beginning is left out, and CR LF and CR become LF. ``"keep"``: it is taken as it is.
        The model reads the texts that it scores the same way. Bytes and tokens are always as they are.
    lines
        For a file: each line, without its end (LF, CR LF or CR), is a document.
    vocabulary
        For tokens: their names, distinct str, in the order of their ids; or how many there are. Ids run
        from 0; the boundary of documents is one more, and is not in the text. For characters: a str of those
        that the model is to know, such as ``string.printable``, or ``"ascii"`` for all 128 of ASCII; ``None``
        is those of the text.
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
        When to end: after so many updates, passes over the text, or seconds of training (what it takes to
        compile is not counted), whichever comes first; not both steps and epochs. Any of them replaces the
        preset's steps. ``steps="auto"`` is 200 updates and 32 passes, at most 5,000 updates.
    validation
        The part of the text that is held out: of a running text its end, of documents some that ``rng``
        draws; 0 is none. ``None`` is a tenth, or nothing where that is less than 20 symbols. Of it, the
        first 32,768 symbols are measured.
    split
        Where that part is: ``"end"``, of the text, or ``"rows"``, of each row of a batch in whole windows,
        all of which is measured.
    shuffle
        Whether documents are trained on, and held out, in an order that ``rng`` draws. With ``False`` they
        keep their order, and the last ones are held out. A running text is never shuffled.
    keep
        ``"best"``: the model has the weights that had the least validation loss, where a part is held out.
        ``"last"``: the last ones.
    log_every
        Updates between the records of `Model.history`; ``"auto"`` makes about 16 of them. The last update
        has a record, too.
    threads
        The most threads to train with; ``None`` is as many cores as the process may use. The model does
        not depend on it; see `Network`.
    rng
        An int, a NumPy ``Generator`` or ``RandomState``, or ``None`` for fresh draws; for the preset
        ``"scratch"``, an int is a ``RandomState``, and ``None`` is its 42.
    progress
        Show how far training is: a bar on stderr if that is a terminal, or in a notebook; else a line of the
        log every few seconds.

    Returns
    -------
    Model

    Raises
    ------
    ValueError, TypeError
        An argument, or the text, is not what it must be; the message names it. A mapping, a set and a table
        of several columns are no texts.
    OSError
        A file cannot be read.
    MemoryError
        What training needs cannot fit.
    fastrnn.BackendUnavailableError
        The backend cannot run here.
    fastrnn.DivergenceError
        The loss became infinite or NaN; the error's ``model`` is the best before that update.
    fastrnn.TrainingInterrupted
        Ctrl-C, a ``KeyboardInterrupt``; the error's ``model`` is what training had reached.

    Warns
    -----
    UserWarning
        A str is the name of a file, or all documents are single symbols: something else may be meant.

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
    workers = None if threads is None else checked_threads(threads)
    checks.one_of("newlines", newlines, NEWLINES)
    checks.flag("lines", lines)
    alphabet = vocabulary if isinstance(vocabulary, str) else None
    tokens = None if vocabulary is None or alphabet is not None else TokenVocabulary.of_tokens(vocabulary)
    with read_corpus(text, unit, tokens, encoding=encoding, newlines=newlines, lines=lines) as corpus:
        run = _prepare(corpus, _Symbols(tokens, alphabet, newlines), recipe, backend, workers, generator)
        fit(run, progress=progress)
    return run.model


# ---- Before the first update -------------------------------------------------------------------------


def _prepare(
    corpus: Corpus, symbols: _Symbols, recipe: Recipe, backend: str, threads: int | None, rng: Any
) -> Run:
    """Split the text, count its symbols, lay it out, and make the network."""
    part = _held_out_part(recipe, corpus)
    if recipe.shuffle and isinstance(corpus, Documents):
        corpus = corpus.shuffled(rng)
    training, held_out = corpus.split(part if recipe.split == "end" else 0.0)
    vocabulary, counts = symbols.found_in(training, held_out)
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
    if recipe.split == "rows":
        transitions = transitions // (T * B) * T * B
    rows = Rows(ids, transitions, B, boundary_id=vocabulary.boundary_id, carry_state=recipe.carry_state)
    if recipe.split == "rows":
        rows, validation = _split_rows(rows, T, part)
    else:
        validation = _validation_streams(held_out, vocabulary, B)
    _log_split(recipe, training, held_out, part if validation is not None else 0.0)
    for change in corpus.changes:
        logger.info("%s (newlines='keep', --newlines keep, takes the text as it is)", change)
    _tell_what_shrank(len(ids), {"seq_length": (recipe.seq_length, T), "batch_size": (recipe.batch_size, B)})
    blocks = Blocks(rows, T)
    recipe = recipe.fitted(T, B, blocks.windows)
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
    learnt = network if recipe.averaging is None else trainer.averaged_network
    return Run(recipe, trainer, Model(learnt, vocabulary, counts, recipe.describe()), blocks, validation)


@dataclass(frozen=True)
class _Symbols:
    """What is said of the symbols before the text is read: tokens, or an alphabet, and the newlines."""

    tokens: TokenVocabulary | None
    alphabet: str | None
    newlines: str

    def found_in(self, training: Corpus, held_out: Corpus) -> tuple[Vocabulary, NDArray[np.int64]]:
        """The vocabulary, and how often each id occurs in the training part."""
        counts = [training.counts(), held_out.counts()]  # tokens are found right or wrong
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


def _held_out_part(recipe: Recipe, corpus: Corpus) -> float:
    """The part of the text to hold out."""
    if recipe.validation is not None:
        return recipe.validation
    documents = len(corpus) if isinstance(corpus, Documents) else None
    enough = corpus.size // 10 >= LEAST_TO_HOLD_OUT and (documents is None or documents >= 10)
    return 0.1 if enough else 0.0


def _log_split(recipe: Recipe, training: Corpus, held_out: Corpus, part: float) -> None:
    """Say what is trained on and what is not, and how to change it."""
    what, whose = f"{training.unit}s", "the last"
    number, rest = training.size, held_out.size
    if isinstance(training, Documents) and isinstance(held_out, Documents):
        number, rest, what = len(training), len(held_out), "documents"
        whose = "drawn" if recipe.shuffle else "the last"
    if part and recipe.split == "rows":
        logger.info(
            "training on %s %s in rows; the last %g %% of each row are held out for validation "
            "(validation=0, --validation 0, trains on all)",
            f"{number:,}", what, 100 * part,
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
    return rows.first(kept * T), held_out


def _require_memory(recipe: Recipe, V: int, blocks: Blocks, threads: int) -> None:
    """Refuse what cannot fit, before it is allocated."""
    T, B = blocks.seq_length, blocks.rows.batch_size
    shape, itemsize = recipe.shape(V), np.dtype(recipe.dtype).itemsize
    vectors = 3 + recipe.optimizer.moments + (recipe.averaging is not None)  # one is kept
    plan = window_plan(shape, T, B, threads, dropout=recipe.dropout > 0)
    memory.require(
        (vectors * parameter_layout(shape).size + plan.size) * itemsize + blocks.n_bytes,
        f"training with num_layers={shape.L}, hidden_size={shape.H}, seq_length={T}, batch_size={B} "
        f"and {V} symbols",
    )
