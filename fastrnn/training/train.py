"""`train`, which makes a model from a text. It prints only a progress bar."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, cast

from numpy.typing import DTypeLike

from fastrnn.backends.registry import get_backend
from fastrnn.core import checks
from fastrnn.core.durations import pace
from fastrnn.data.sources import Source, read_corpus, read_validation, stored_separator
from fastrnn.model.model import Model
from fastrnn.network.execution import checked_threads
from fastrnn.optimizers import Optimizer
from fastrnn.schedules import Schedule
from fastrnn.training.counting import add_counts
from fastrnn.training.divergence import Divergence
from fastrnn.training.events import Callback, Training
from fastrnn.training.finetuning import initial_model, settings_of, unit_of_file
from fastrnn.training.held_out import is_text
from fastrnn.training.loop import fit
from fastrnn.training.preparation import Symbols, prepare
from fastrnn.training.presets import (
    OWN_TEXT,
    SEARCH,
    SETTING_CHECKS,
    get_config,
    random_generator,
)
from fastrnn.training.recorder import BestWeights, EarlyStopping, Outcome, Recorder, Validation

if TYPE_CHECKING:
    from fastrnn.training.checkpoints import Generator, Resumption
    from fastrnn.training.presets import TrainingConfig
    from fastrnn.training.progress import ProgressDisplay


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
    newlines: str | None = None,
    normalization: str | None = None,
    lines: bool = False,
    separator: str | bytes | None = None,
    vocabulary: int | str | Iterable[str] | None = None,
    init: Model | str | os.PathLike[str] | None = None,
    init_scale: float | None = PRESET,
    min_count: int | None = PRESET,
    unknown_share: float | None = PRESET,
    cell: str = PRESET,
    activation: str = PRESET,
    hidden_size: int = PRESET,
    num_layers: int = PRESET,
    embedding_size: int | None = PRESET,
    tied: bool = PRESET,
    dropout: float = PRESET,
    input_dropout: float = PRESET,
    dtype: DTypeLike = PRESET,
    initialization: str | None = PRESET,
    seq_length: int | None = PRESET,
    batch_size: int = PRESET,
    optimizer: str | Optimizer = PRESET,
    learning_rate: float | str = PRESET,
    schedule: str | Schedule = PRESET,
    clip_value: float | None = PRESET,
    clip_norm: float | None = PRESET,
    reduction: str = PRESET,
    averaging: float | None = PRESET,
    freeze: Iterable[str] = PRESET,
    learning_rate_factors: Mapping[str, float] = PRESET,
    weight_decay_factors: Mapping[str, float] = PRESET,
    steps: int | str | None = PRESET,
    epochs: int | None = PRESET,
    time_limit: float | str | None = PRESET,
    validation: float | Source | None = PRESET,
    split: str = PRESET,
    shuffle: bool = PRESET,
    keep: str = PRESET,
    refit: bool = PRESET,
    patience: int | None = PRESET,
    count_order: int = PRESET,
    count_memory: int = PRESET,
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

    Without a preset, the defaults are those of `fastrnn.training.presets.TrainingConfig`: a GRU, windows of
    64 steps and 32 rows, Adam with the linear schedule, the gradient's norm clipped at 0.25, float32. The
    size of the network, its embedding, dropout, the learning rate and the number of updates are chosen for
    the text, and for the speed of the machine if there is a time limit; docs/quality.md has the rule. A tenth
    of the text is held out for validation and not trained on, and the model gets the weights with the lowest
    validation loss.

    Parameters
    ----------
    text
        A str (characters), bytes, an ``os.PathLike`` (a file), a list or tuple of these (several files as one
        text, in this order), or any other iterable of texts (documents).
        An open file gives its lines, without their ends, as documents. With ``vocabulary``, tokens: one
        sequence of whole numbers (an array (n), a list, …), or an iterable of them (documents; an array
        (n, m) has a document in each row). The text needs at least two symbols; the batch and the window are
        reduced to fit a short text. A file is read in parts, so it may be longer than memory; it must not
        change until training ends. A file whose name ends with .gz, .xz or .zst is decompressed. Such a file,
        a pipe and several files are copied to a temporary file if they have over 2 MB. An array is not
        copied, and a ``np.memmap`` is read in parts; they must not change either.
    preset
        The program to reproduce: ``"scratch"``, ``"min-char-rnn"`` or ``"char-rnn"``; ``None`` is fastrnn's
        own config. Other arguments override those of the preset.
    backend
        ``"c"``, ``"numba"``, ``"numpy"``, or ``"auto"``: the first of these that can run here.
    unit
        For a file: ``"character"`` or ``"byte"``; ``None`` is that of ``init``, and else the character.
    encoding
        For a file of characters, the name of its encoding, such as ``"latin-1"``, ``"cp1252"`` or
        ``"utf-16"``; ``None`` is UTF-8.
    newlines
        How characters are read, in documents and files too. ``"universal"``: a byte order mark (U+FEFF) at
        the beginning is left out, and CR LF and CR become LF. ``"keep"``: nothing is changed. The model reads
        the texts that it scores in the same way. Bytes and tokens are never changed. ``None`` is that of
        ``init``, and else universal.
    normalization
        How characters are then normalized: to the Unicode form ``"nfc"`` or ``"nfkc"``, or with case folding
        too, ``"nfc_casefold"`` or ``"nfkc_casefold"``; ``None`` changes nothing, or is that of ``init``. The
        model reads the texts that it scores in the same way, and scores the normalized symbols;
        `Model.offsets` says where each one comes from. Only for characters.
    lines
        For a file: each line, without its end (LF, CR LF or CR), is a document.
    separator
        For a file: the documents are the parts between the occurrences of this str (for ``unit="byte"``, of
        these bytes), found from the beginning to the end of the text as it is read. After a separator at the
        end of the file there is no document. It excludes ``lines``.
    vocabulary
        For tokens: their names, distinct str, in the order of their ids; or the number of tokens. Ids run
        from 0. The boundary of documents has one more id, which may not be in the text. For characters: a str
        of all characters that the model should know, such as ``string.printable``, or ``"ascii"`` for the 128
        of ASCII; ``None`` is the characters of the text. With ``init``, the model's symbols are in it too.
    init
        A model, or the path of its file, with whose weights training begins (fine-tuning); it is not changed.
        The cell and the sizes of the network are the model's, and so are its symbols; new symbols of the text
        join them. Tokens may only join if ``vocabulary`` has the model's first. Whether there are documents
        and an unknown symbol depends on the text and ``min_count`` alone. All other settings are those of a
        new training. See the guide, docs/guide.md.
    init_scale
        What the weights of ``init`` are multiplied by, above 0 and at most 1; frozen ones stay. Smaller
        weights learn another text better. ``None`` is 0.5, and 1 goes on with the weights as they are.
    min_count
        Characters that the training text has fewer times are not in the vocabulary. They are shown to the
        network, as input and as target, as one unknown symbol, and so are those of the held-out part that are
        not in the vocabulary. The model then gives each character that it does not know the probability of
        the unknown symbol. ``None``: there is no such symbol, and every character of the text is known. Only
        for characters, and not together with ``vocabulary``.
    unknown_share
        With ``min_count``, the share of all other symbols of the training text that are shown as unknown too,
        from 0 to below 1, at places that ``rng`` draws once; ``None`` is 0.002. A larger share makes unknown
        symbols more probable.
    cell, activation, hidden_size, num_layers, embedding_size, tied
        Settings of the network; see `Network`. Without a preset, an activation alone makes the cell an
        ``"rnn"``, and hidden_size and embedding_size are ``"auto"``: chosen for the text. An
        ``embedding_size`` of ``None`` is a one-hot input.
    dropout, input_dropout, dtype, initialization
        More settings of the network. Without a preset, dropout is ``"auto"``.
    seq_length, batch_size
        Steps and rows of a window; ``seq_length=None`` puts the whole text into one window.
    optimizer, learning_rate, clip_value, clip_norm, reduction
        Settings of the updates; see `Trainer`. Without a preset, the learning rate is ``"auto"``: chosen for
        the cell and its size, for Adam. ``"search"`` tries five rates, from a quarter of that one to four
        times it, each for a twenty-fifth of the updates (20 to 500), and takes the best. This is a part of a
        time limit.
    schedule
        How the learning rate changes: ``"linear"`` (warm-up over a hundred updates, then decay to zero),
        ``"cosine"`` (the same, along a cosine), ``"constant"``, ``"step"``, ``"exponential"``,
        ``"plateau"`` (reduced when the recorded losses stop falling), or one of `fastrnn.schedules` with
        other settings.
    averaging
        The decay, from 0 to below 1, such as 0.999, of an exponential moving average of the parameters, which
        the model then gets. ``None`` makes no average.
    freeze
        Names of parameters that are not trained, as in `Network.parameters`, or patterns of names:
        ``["embedding.*", "*_l0"]``.
    learning_rate_factors, weight_decay_factors
        What the learning rate and the weight decay of some parameters are multiplied by, by name or pattern:
        ``{"head.*": 0.1}``. See `Trainer`.
    steps, epochs, time_limit
        When to end: after this number of updates, passes over the text, or seconds of training (also a str
        such as ``"90s"`` or ``"10m"``), whichever comes first. The time to compile does not count, nor does
        that of the evaluation at the end, which may take a tenth of the limit at most. Steps and epochs
        exclude each other. Any of the three replaces the preset's end. Without a preset, steps are
        ``"auto"``: 200 updates and those of 20 passes, and at most those of about half a minute or, with a
        time limit alone, of the limit. With ``steps=None``, a time limit is used up.
    validation
        A number is the fraction of the text that is held out: the end of a running text, or documents that
        ``rng`` draws. 0 holds out nothing. ``None`` is a tenth, or nothing if a tenth has fewer than 20
        symbols or there are fewer than 10 documents. Anything else is a text of its own to validate on,
        of the kind of the first argument: a str is characters (and a ``pathlib.Path`` is a file), bytes are
        bytes, an iterable of texts is documents, and whole numbers are tokens. A file is read as a file to
        train on would be: the same unit and newlines, its lines if the text is documents, and ``encoding``.
        Nothing of the text is then held out. A character that neither the text nor ``vocabulary`` has is an
        error. The validation loss during training is that of the first 32,768 held-out symbols;
        `Model.evaluation` is that of all of them, when training ends.
    split
        Which part is held out, if ``validation`` is a fraction. ``"end"``: the end of the text. ``"rows"``:
        the end of each row of a batch, in whole windows; the validation loss is then that of all held-out
        symbols. ``"every"``: documents at even distances, in order: each tenth of them if ``validation`` is
        0.1. No draw of ``rng`` chooses them.
    shuffle
        Whether ``rng`` draws an order of the documents before a part is held out, or after it with
        ``split="every"``. With ``False`` they keep their order, and the last ones are held out. A running
        text is never shuffled.
    keep
        ``"best"``: the model gets the weights with the lowest validation loss, if a part is held out.
        ``"last"``: it gets the last ones.
    refit
        Whether training goes on over the whole text, the held-out part included, when it has ended: from the
        weights that it keeps, with new moments of the optimizer, for a third of the updates that led to them.
        The learning rate falls linearly from ``learning_rate`` to zero, after at most 20 updates of warm-up.
        Its records have the key ``refit``, and no validation loss. It trains on a text of its own too, if
        there is one to validate on. A time limit is for both: three quarters of it for training, and the rest
        for the evaluation and the refit. Nothing is done if nothing is held
        out.
    patience
        Training ends when so many records in a row have brought no better validation loss; ``None`` never
        ends it so.
    count_order
        The longest context, in symbols, from 1 to 15, whose next symbols are counted in the text when
        training has ended; the model mixes what the network says with these counts. 0: there are no counts.
        docs/adaptation.md says how, what it gains and what it costs. The model of an error has no counts.
    count_memory
        The most bytes of memory of the counts. When they are full, contexts that are rare or were not seen
        for long go.
    retries
        How often training that diverges goes back to its last good state and on from there, with the learning
        rates times a tenth. It diverges if a loss is not finite, or is a nat per symbol above that of
        guessing (with ``init``, above that of the model if it is higher). 0, as in the presets: only a loss
        that is not finite ends it, with a `fastrnn.DivergenceError`.
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
        Ctrl-C or SIGTERM; it is a ``KeyboardInterrupt``, and its ``model`` is the one that training had
        reached. The current window ends and, if there is one, a checkpoint is written before it is raised. A
        second Ctrl-C ends training at once, and a second SIGTERM the process. Only in the main thread, and
        with Python's own handlers.

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
    given = {name: value for name, value in locals().items() if name in SETTING_CHECKS and name != "init"}
    given = {name: value for name, value in given.items() if value is not PRESET}
    has_own_text = is_text("validation", given.get("validation"))
    if has_own_text:
        if given.get("split", "end") != "end":
            raise ValueError(
                f"split={split!r} is for a fraction, and validation is a text: leave one of them out"
            )
        given |= {"validation": OWN_TEXT, "split": "end"}
    get_backend(backend)
    initial = initial_model(init, backend)
    config = get_config(preset, **(given if initial is None else settings_of(initial, given)))
    generator = random_generator(preset, rng)
    workers = None if threads is None else checked_threads(threads)
    checks.flag("lines", lines)
    followers = _checked_callbacks(callbacks)
    every = pace("checkpoint_every", checkpoint_every)
    resumption = _resumption(checkpoint, resume, config, generator, is_seeded=rng is not None)
    if resumption is not None:
        config = resumption.config
    known = None if initial is None else initial.vocabulary
    symbols = Symbols.given(known, vocabulary, newlines, normalization)
    if symbols.known is not None:
        unit = unit_of_file(symbols.known, text, unit)
    reading: dict[str, Any] = {
        "encoding": encoding,
        "newlines": symbols.newlines,
        "normalization": symbols.normalization,
        "separator": separator,
    }
    with ExitStack() as files:
        corpus = files.enter_context(read_corpus(text, unit, symbols.tokens, lines=lines, **reading))
        own_text = None
        if has_own_text:
            source = cast("Source", validation)
            own_text = files.enter_context(read_validation(source, corpus, symbols.tokens, **reading))
        prepared = prepare(corpus, own_text, symbols, config, backend, workers, generator)
        if config.learning_rate == SEARCH:
            from fastrnn.training.rate_search import with_best_rate

            prepared = with_best_rate(prepared, backend, workers, generator, initial)
        training = prepared.training(backend, workers, generator, initial)
        if separator is not None:
            training.model.settings["separator"] = stored_separator(separator)
        if resumption is not None:
            resumption.add_text(training, prepared.sequences)
        with ExitStack() as stack:
            display = stack.enter_context(_display()) if progress else None
            _follow(training, followers, display, resumption, every, stack)
        if config.count_order:
            add_counts(training, prepared.sequences)
    return training.model


def _resumption(
    checkpoint: str | os.PathLike[str] | None,
    resume: bool,
    config: TrainingConfig,
    generator: Generator,
    *,
    is_seeded: bool,
) -> Resumption | None:
    """The checkpoint to go on with and to write, if there is to be one."""
    checks.flag("resume", resume)
    if checkpoint is None:
        if resume:
            raise ValueError("resume=True needs a checkpoint, the path of its file")
        return None
    from fastrnn.training.checkpoints import Resumption

    return Resumption(checkpoint, resume=resume, config=config, generator=generator, is_seeded=is_seeded)


def _follow(
    training: Training,
    followers: list[Callback],
    display: ProgressDisplay | None,
    resumption: Resumption | None,
    every: float,
    stack: ExitStack,
) -> None:
    """Train, with all that follows the training; a checkpoint is restored first, if there is one."""
    best = BestWeights() if training.config.keep == "best" and training.held_out is not None else None
    divergence = Divergence(training.config.retries, best)
    writer = None if resumption is None else stack.enter_context(resumption.writer(every, best))
    recorder = _recorder(training, followers)
    made = [recorder, *_judges(training), *followers, writer, best, divergence, Outcome(), display]
    training.callbacks = [callback for callback in made if callback is not None]
    if resumption is not None:
        resumption.restore(training)
    fit(training, recorder, divergence, best, display)


def _display() -> ProgressDisplay:
    from fastrnn.training.progress import ProgressDisplay

    return ProgressDisplay()


def _checked_callbacks(callbacks: Iterable[Callback]) -> list[Callback]:
    """Return callbacks as a list."""
    found = list(callbacks)
    for callback in found:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks has a {type(callback).__name__}; each must be a fastrnn.Callback")
        if callback.every is not None:
            checks.whole_number("every of a callback", callback.every)
    return found


def _recorder(training: Training, followers: list[Callback]) -> Recorder:
    """What makes the records. With weights of their updates it takes more native calls."""
    config = training.config
    needs_weights = training.held_out is not None or config.retries > 0 or config.schedule.reads_losses
    return Recorder(needs_weights=needs_weights or bool(followers))


def _judges(training: Training) -> list[Callback]:
    """What measures a record, and decides whether training goes on."""
    if training.held_out is None:
        return []
    patience = training.config.patience
    return [Validation(), *([] if patience is None else [EarlyStopping(patience)])]
