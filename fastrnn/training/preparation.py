"""What `fastrnn.train` does before the first update: from texts and settings to a network and its windows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from fastrnn.core import checks, memory
from fastrnn.core.layout import parameter_layout
from fastrnn.core.plan import Split, window_plan
from fastrnn.core.thread_team import usable_cores
from fastrnn.data.batches import Batch, BatchLayout, WindowReader, fit_window
from fastrnn.data.corpus import Corpus, Documents, JoinedSequence, Sequence
from fastrnn.data.normalization import NEWLINES, NORMALIZATIONS
from fastrnn.data.tokens import TokenVocabulary
from fastrnn.data.unknown import WithUnknown
from fastrnn.data.vocabulary import Vocabulary
from fastrnn.model.model import Model
from fastrnn.network.network import Network
from fastrnn.training import choice
from fastrnn.training.events import Training
from fastrnn.training.finetuning import require_unit, rule_of, shrink, tokens_of, transfer
from fastrnn.training.held_out import HeldOut
from fastrnn.training.presets import MIN_TO_HOLD_OUT, OWN_TEXT, TrainingConfig
from fastrnn.training.trainer import Trainer

logger = logging.getLogger("fastrnn")

#: The most symbols of the held-out part that a validation during training reads. By default this is a few
#: hundredths of the symbols that are trained on between two validations, so it takes little of the time.
VALIDATION_SYMBOLS = 1 << 15


@dataclass(frozen=True)
class Prepared:
    """A text that is laid out for a training, and what was chosen for it.

    Attributes
    ----------
    config
        All settings; none of them is ``"auto"``.
    vocabulary, counts
        The symbols, and how often each id occurs in what is trained on (V).
    reader, refit_reader
        The windows that are trained on, and those of a refit or ``None``.
    batch, held_out
        What each record is measured on, and all that is held out; ``None`` if there is nothing.
    sequences
        The ids of what is trained on and held out, by name.
    seconds_before
        The seconds of the time limit that a search for the learning rate took.
    """

    config: TrainingConfig
    vocabulary: Vocabulary
    counts: NDArray[np.int64]
    reader: WindowReader
    refit_reader: WindowReader | None
    batch: Batch | None
    held_out: HeldOut | None
    sequences: dict[str, Sequence]
    seconds_before: float = 0.0

    def training(self, backend: str, threads: int | None, rng: Any, initial: Model | None = None) -> Training:
        """Make the network, which begins with the weights of the initial model, if there is one."""
        config = self.config
        network = Network(
            **vars(config.network(self.vocabulary.size)),
            backend=backend,
            initialization=config.initialization if initial is None else "zeros",
            threads=threads,
            rng=rng,
        )
        if initial is not None:
            transfer(network, self.vocabulary, self.counts, initial)
            shrink(network, config)
        trainer = Trainer(
            network,
            optimizer=config.optimizer,
            learning_rate=cast("float", config.learning_rate),
            clip_value=config.clip_value,
            clip_norm=config.clip_norm,
            reduction=config.reduction,
            averaging=config.averaging,
            dropout_seed=int(rng.random() * 2**53) if config.dropout or config.input_dropout else 0,
            freeze=config.freeze,
            learning_rate_factors=config.learning_rate_factors,
            weight_decay_factors=config.weight_decay_factors,
        )
        learnt = network if config.averaging is None else trainer.averaged_network
        model = Model(learnt, self.vocabulary, self.counts, config.describe())
        return Training(
            config, trainer, model, self.reader, self.batch, self.held_out, self.refit_reader,
            seconds_before=self.seconds_before, stage_began=self.seconds_before,
        )  # fmt: skip


def prepare(
    corpus: Corpus,
    validation: Corpus | None,
    symbols: Symbols,
    config: TrainingConfig,
    backend: str,
    threads: int | None,
    rng: Any,
) -> Prepared:
    """Split the text, count its symbols, choose what is open, and lay the text out in rows.

    ``validation`` is a text of its own to validate on; nothing of ``corpus`` is then held out.
    """
    fraction = _held_out_fraction(config, corpus)
    training, held_out = _split(corpus, config, fraction, rng)
    is_own = validation is not None
    if validation is not None:
        held_out = validation
    vocabulary, counts = symbols.found_in(training, held_out, config, is_own=is_own)
    ids, held_out_ids = training.sequence(vocabulary), held_out.sequence(vocabulary)
    _require_symbols(training, held_out, ids)
    work = _work(config, training.size, vocabulary.size, backend, threads)
    names, config = config.open_settings, choice.chosen(config, work)
    T, B = fit_window(_transitions(ids, config), config.seq_length, config.batch_size)
    layout = _layout(ids, T, B, vocabulary, config)
    if config.split == "rows":
        layout, batch = _split_rows(layout, T, fraction)
        all_held_out = None if batch is None else HeldOut.of_rows(batch, training, vocabulary)
    else:
        batch = _validation_batch(held_out, held_out_ids, vocabulary, B, is_own=is_own)
        all_held_out = HeldOut.of_corpus(batch, held_out, held_out_ids, vocabulary) if batch else None
    shown = _shown(vocabulary, config, rng)
    reader, refit_reader = WindowReader(layout.of(shown(ids)), T), None
    if batch is not None and config.refit:
        everything = JoinedSequence(ids, held_out_ids, vocabulary.boundary_id)
        refit_reader = WindowReader(_layout(shown(everything), T, B, vocabulary, config), T)
    _log_text(config, (training, held_out), vocabulary, counts, batch)
    choice.tell(config, names)
    _tell_what_shrank(len(ids), {"seq_length": (config.seq_length, T), "batch_size": (config.batch_size, B)})
    config = config.fitted(T, B, reader.windows, choice.most_updates(config, work, T, B))
    _require_memory(config, vocabulary.size, reader, threads or usable_cores())
    sequences = {"text": ids, "validation" if is_own else "held out": held_out_ids}
    return Prepared(config, vocabulary, counts, reader, refit_reader, batch, all_held_out, sequences)


def _require_symbols(training: Corpus, held_out: Corpus, ids: Sequence) -> None:
    """Raise a ``ValueError`` if there is too little to train on."""
    if len(ids) < 2 or not training.size:
        raise ValueError(
            f"the text to train on has {training.size} symbols; it must have at least 2"
            + (f", beside the {held_out.size} that are held out" if held_out.size else "")
        )


def _log_text(
    config: TrainingConfig,
    parts: tuple[Corpus, Corpus],
    vocabulary: Vocabulary,
    counts: NDArray[np.int64],
    batch: Batch | None,
) -> None:
    """Log what is trained on and held out, and what was changed as it was read."""
    training, held_out = parts
    _log_split(config, training, held_out, batch)
    if vocabulary.unknown:
        _log_unknown(config, vocabulary, counts)
    for change in dict.fromkeys((*training.changes, *held_out.changes)):
        logger.info("%s (newlines='keep', --newlines keep, takes the text as it is)", change)


def _work(config: TrainingConfig, symbols: int, V: int, backend: str, threads: int | None) -> choice.Work:
    """What the settings are chosen for. The speed of the machine is measured only for a time limit."""
    if config.time_limit is None or not config.open_settings:
        return choice.Work(symbols, V)
    speed = choice.operations_per_second(backend, threads, config.dtype)
    return choice.Work(symbols, V, speed * cast("float", config.time_limit))


@dataclass(frozen=True)
class Symbols:
    """What the arguments say about the symbols: tokens, an alphabet, how a str is read, a known model."""

    tokens: TokenVocabulary | None
    alphabet: str | None
    newlines: str
    normalization: str | None = None
    #: The vocabulary of the model that training begins with: its symbols are in the new one too.
    known: Vocabulary | None = None

    @classmethod
    def given(
        cls,
        known: Vocabulary | None,
        vocabulary: Iterable[str] | int | str | None,
        newlines: str | None,
        normalization: str | None,
    ) -> Self:
        """What these arguments of `fastrnn.train` say."""
        if newlines is not None:
            checks.one_of("newlines", newlines, NEWLINES)
        if normalization is not None:
            checks.one_of("normalization", normalization, NORMALIZATIONS)
        alphabet = vocabulary if isinstance(vocabulary, str) else None
        tokens = None if vocabulary is None or alphabet is not None else TokenVocabulary.of_tokens(vocabulary)
        if known is not None:
            tokens = tokens_of(known, tokens)
            newlines = rule_of(known, "newlines", newlines)
            normalization = rule_of(known, "normalization", normalization)
        return cls(tokens, alphabet, newlines or "universal", normalization, known)

    def found_in(
        self, training: Corpus, held_out: Corpus, config: TrainingConfig, *, is_own: bool
    ) -> tuple[Vocabulary, NDArray[np.int64]]:
        """The vocabulary, and how often each id occurs in what is trained on: with a refit, in both parts.

        The held-out part is one of the text, whose symbols are all in the vocabulary unless there is an
        unknown symbol, or a text of its own.
        """
        if self.known is not None:
            require_unit(self.known, training.unit)
        boundary = isinstance(training, Documents)
        counts = [training.counts(), held_out.counts()]  # this also checks tokens
        if config.min_count is None:
            vocabulary = self._vocabulary(training.unit, counts[: 1 if is_own else 2], boundary=boundary)
        else:
            vocabulary = self._with_unknown(training.unit, counts[0], config.min_count, boundary=boundary)
        if self.known is not None:
            vocabulary = vocabulary.joined_with(self.known)
        if is_own and not vocabulary.unknown:
            _require_known(vocabulary, counts[1])
        if training.unit == "character":
            vocabulary = replace(vocabulary, newlines=self.newlines, normalization=self.normalization)
        by_id = vocabulary.by_id(counts[0])
        if isinstance(training, Documents):
            by_id[vocabulary.boundary_id] = len(training) + 1
        if config.refit:
            by_id += vocabulary.by_id(counts[1])
            if isinstance(held_out, Documents):
                by_id[vocabulary.boundary_id] += len(held_out)
        return vocabulary, by_id

    def _vocabulary(self, unit: str, counts: list[NDArray[np.int64]], *, boundary: bool) -> Vocabulary:
        if self.tokens is not None:
            return replace(self.tokens, boundary=boundary)
        found = Vocabulary.of_counts(counts, unit=unit, boundary=boundary)
        if self.alphabet is None:
            return found
        if unit != "character":
            raise TypeError("vocabulary is a str, the characters of a model, and the text is bytes")
        alphabet = Vocabulary.of_alphabet(self.alphabet, boundary=boundary)
        if self.known is not None:
            alphabet = alphabet.joined_with(self.known)
        others = np.setdiff1d(found.symbols, alphabet.symbols).tolist()
        if others:
            some = ", ".join(repr(chr(code)) for code in others[:5])
            raise ValueError(
                f"the text has {len(others)} characters that are not in vocabulary, such as {some}; it has "
                f"{len(alphabet.symbols)} characters"
            )
        return alphabet

    def _with_unknown(
        self, unit: str, counts: NDArray[np.int64], min_count: int, *, boundary: bool
    ) -> Vocabulary:
        """The vocabulary of the characters that occur so often, and of the unknown symbol."""
        if unit != "character":
            raise ValueError(
                f"min_count={min_count} is for characters, and the text is {unit}s: "
                + ("no byte is ever unknown" if unit == "byte" else "vocabulary says which tokens there are")
            )
        if self.alphabet is not None:
            raise ValueError(
                f"min_count={min_count} and vocabulary, a str, exclude each other: both say which characters "
                "the model knows"
            )
        frequent = np.where(counts >= min_count, counts, 0)
        if counts.any() and not frequent.any():
            raise ValueError(
                f"min_count={min_count} leaves no character: none occurs so often in the training text; the "
                f"most frequent one occurs {counts.max():,} times"
            )
        return replace(Vocabulary.of_counts([frequent], unit=unit, boundary=boundary), unknown=True)


def _shown(vocabulary: Vocabulary, config: TrainingConfig, rng: Any) -> Callable[[Sequence], Sequence]:
    """How the network sees a sequence: some symbols as the unknown one, if there is one, as ``rng`` draws."""
    if not vocabulary.unknown:
        return lambda ids: ids
    share, seed = config.unknown_share or 0.0, int(rng.random() * 2**53)
    return lambda ids: WithUnknown(ids, len(vocabulary.symbols), vocabulary.boundary_id, share, seed)


def _log_unknown(config: TrainingConfig, vocabulary: Vocabulary, counts: NDArray[np.int64]) -> None:
    """Log how many characters are unknown."""
    logger.info(
        "%s characters are known; those that occur fewer than %s times, %.3g %% of the training text, are "
        "unknown, and %.3g %% of the others are shown as unknown",
        f"{len(vocabulary.symbols):,}", f"{config.min_count:,}",
        100 * counts[len(vocabulary.symbols)] / max(1, counts.sum()), 100 * (config.unknown_share or 0.0),
    )  # fmt: skip


def _require_known(vocabulary: Vocabulary, counts: NDArray[np.int64]) -> None:
    """Require that a text to validate on has no other symbols than the vocabulary has."""
    others = np.setdiff1d(np.flatnonzero(counts), vocabulary.symbols).tolist()
    if others and vocabulary.unit == "character":
        some = ", ".join(repr(chr(code)) for code in others[:5])
        raise ValueError(
            f"validation has {len(others)} characters that neither the text to train on nor vocabulary has, "
            f"such as {some}: give all characters with vocabulary= (--vocabulary), or take these out of the "
            "text to validate on"
        )


def _split(corpus: Corpus, config: TrainingConfig, fraction: float, rng: Any) -> tuple[Corpus, Corpus]:
    """What is trained on, in its order, and what is held out; rows are split later."""
    if config.split == "every":
        if not isinstance(corpus, Documents):
            raise ValueError(
                "split='every' holds out documents, and the text is one running text: take split='end' or "
                "'rows', or give documents; lines=True (--lines) takes the lines of a file as documents"
            )
        training, held_out = corpus.split_evenly(fraction)
        return training.shuffled(rng) if config.shuffle else training, held_out
    if config.shuffle and isinstance(corpus, Documents):
        corpus = corpus.shuffled(rng)
    return corpus.split(fraction if config.split == "end" else 0.0)


def _held_out_fraction(config: TrainingConfig, corpus: Corpus) -> float:
    """The fraction of the text to hold out."""
    if config.validation == OWN_TEXT:
        return 0.0
    if config.validation is not None:
        return cast("float", config.validation)
    documents = len(corpus) if isinstance(corpus, Documents) else None
    enough = corpus.size // 10 >= MIN_TO_HOLD_OUT and (documents is None or documents >= 10)
    return 0.1 if enough else 0.0


def _log_split(config: TrainingConfig, training: Corpus, held_out: Corpus, batch: Batch | None) -> None:
    """Log what is trained on, what is held out, and how to change it."""
    if batch is None:
        logger.info("training on all %s; none are held out for validation", _amount(training))
        return
    what, change = (
        f"{_amount(held_out, more=True)}, the last, are",
        "validation=0, --validation 0, trains on all",
    )
    if config.validation == OWN_TEXT:
        what = f"another text, of {_amount(held_out)}, is"
        change = "validation=0.1, --validation 0.1, holds out a part of the text instead"
    elif config.split == "rows":
        what = f"{batch.targets.size:,} of them, the last of each of {batch.batch_size} rows, are"
    elif config.split == "every":
        what = f"{_amount(held_out, more=True)}, at even distances, are"
    elif config.shuffle and isinstance(training, Documents):
        what = f"{_amount(held_out, more=True)}, drawn, are"
    use = "trained on only at the end, by the refit" if config.refit else "not trained on"
    if not config.refit:
        change += "; refit=True, --refit, trains on them too in the end"
    logger.info(
        "training on %s; %s held out for validation and %s (%s)", _amount(training), what, use, change
    )


def _amount(corpus: Corpus, *, more: bool = False) -> str:
    """How much text a corpus has, and whether it is more of the same."""
    symbols = f"{corpus.size:,} {corpus.unit}s"
    if isinstance(corpus, Documents):
        return f"{len(corpus):,} {'more' if more else 'documents'} ({symbols})"
    return f"{corpus.size:,} more" if more else symbols


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


def _validation_batch(
    held_out: Corpus, ids: Sequence, vocabulary: Vocabulary, B: int, *, is_own: bool
) -> Batch | None:
    """The beginning of the held-out part as a batch, or ``None`` if it has no transition.

    Raises
    ------
    ValueError
        It has none, and it is a text of its own.
    """
    transitions = min(len(ids) - 1, VALIDATION_SYMBOLS) if held_out.size else 0
    if not transitions:
        if is_own:
            least = 1 if isinstance(held_out, Documents) else 2
            raise ValueError(f"validation has {held_out.size} symbols; it must have at least {least}")
        return None
    layout = BatchLayout(ids, transitions, min(B, transitions), boundary_id=vocabulary.boundary_id)
    return layout.read(0, layout.n_steps)


def _transitions(ids: Sequence, config: TrainingConfig) -> int:
    """How many transitions of a sequence a pass reads."""
    transitions = len(ids) - 1
    return _whole_windows(transitions, config.seq_length) if config.drop_last else transitions


def _layout(ids: Sequence, T: int, B: int, vocabulary: Vocabulary, config: TrainingConfig) -> BatchLayout:
    """The rows of a sequence."""
    transitions = _transitions(ids, config)
    if config.split == "rows":
        transitions = transitions // (T * B) * T * B
    return BatchLayout(
        ids, transitions, B, boundary_id=vocabulary.boundary_id, carry_state=config.carry_state
    )


def _split_rows(layout: BatchLayout, T: int, fraction: float) -> tuple[BatchLayout, Batch | None]:
    """Split rows into their first windows, at least one each, to train on, and their last, to hold out."""
    windows = layout.n_steps // T
    kept = max(1, int(windows * (1 - fraction)))
    held_out = layout.read(kept * T, windows * T) if kept < windows else None
    return layout.first(kept * T), held_out


def _require_memory(config: TrainingConfig, V: int, reader: WindowReader, threads: int) -> None:
    """Raise a ``MemoryError`` if training needs more memory than is available."""
    T, B = reader.seq_length, reader.layout.batch_size
    network = config.network(V)
    shape, itemsize = network.shape, np.dtype(config.dtype).itemsize
    state = 1 + config.optimizer.moments + (config.averaging is not None)
    vectors = 2 * state + 2  # with the last good state, the gradients and the best weights
    plan = window_plan(shape, T, B, Split(threads), dropout=network.dropout > 0)
    memory.require(
        (vectors * parameter_layout(shape).size + plan.size) * itemsize + reader.n_bytes,
        f"training with num_layers={shape.L}, hidden_size={shape.H}, seq_length={T}, batch_size={B} "
        f"and {V} symbols",
    )
