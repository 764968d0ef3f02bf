"""What a user holds: a network, the symbols it speaks and the record of its training."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sized
from dataclasses import replace
from typing import Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrnn.core import checks, memory
from fastrnn.core.atomic import write_atomically
from fastrnn.data.sources import require_order
from fastrnn.data.text_file import lines_of
from fastrnn.data.vocabulary import Text, Vocabulary
from fastrnn.inference import scoring
from fastrnn.inference.sampling import drawn
from fastrnn.inference.scoring import Named, Piece, Scorer
from fastrnn.model import model_file
from fastrnn.model.contents import Contents, checked_settings
from fastrnn.model.history import History, Record, as_history
from fastrnn.network.execution import checked_threads
from fastrnn.network.network import Network

#: Symbols of the first block that `Model.sample` draws.
SAMPLED_AT_ONCE = 1 << 10


class Model(checks.Sealed):
    """A trained language model; `fastrnn.train` and `fastrnn.load` return one.

    A model of one running text predicts each symbol from all before it, and the first from the
    training text's frequencies (add-one smoothed). A model of documents predicts the first symbol and
    the end of a document as well. To a model of tokens a text is a sequence of whole numbers.

    Parameters
    ----------
    network
        The `Network`, whose parameters are finite.
    vocabulary
        The `fastrnn.data.vocabulary.Vocabulary`, of as many symbols as the network has.
    counts
        Whole numbers (V), as the attribute.
    settings
        A mapping of what JSON can say: str, numbers, bool, ``None``, and lists and dicts of them.
    history
        A `History`, or a sequence of the records that make one.

    Attributes
    ----------
    network
        The `Network`.
    vocabulary
        The `fastrnn.data.vocabulary.Vocabulary`; of tokens a `fastrnn.data.vocabulary.TokenVocabulary`, whose
        ``tokens`` are their names.
    counts
        int64 (V), read-only: how often each symbol occurs in the training text; with ``split="rows"`` in all
        of it.
    settings
        The settings of its training, a dict. It can be changed, and set.
    history
        What training recorded: a `fastrnn.model.history.History`, which is a sequence of
        ``{"step": …, "loss": …, "gradient_norm": …}``, with
        ``"validation_loss"`` where a part of the text was held out. ``step`` is the number of the update,
        from 0; ``loss`` is in nats, the mean per symbol since the record before, or with
        ``reduction="sum"`` the sum over the window of that update; ``gradient_norm`` is the norm of that
        update's gradient, after the clip by value and before the clip by norm; ``validation_loss`` is the
        mean per symbol, in nats, of the first 32,768 that are held out, with ``split="rows"`` of all; with
        ``averaging`` it is that of the average, and the others are not. It can be appended to, and set, to a
        list of records as well.

    Raises
    ------
    TypeError, ValueError
        An argument is not what a model's file can hold; the message says which one, and why.
    """

    def __init__(
        self,
        network: Network,
        vocabulary: Vocabulary,
        counts: ArrayLike,
        settings: Mapping[str, Any] | None = None,
        history: Iterable[Mapping[str, float]] | None = None,
    ) -> None:
        self._contents = Contents.checked(
            network,
            vocabulary,
            counts,
            {} if settings is None else settings,
            () if history is None else history,
        )

    @classmethod
    def _of(cls, contents: Contents) -> Self:
        """The model that has these contents, which were checked."""
        model = cls.__new__(cls)
        model._contents = contents  # noqa: SLF001  (it is a model, too)
        return model

    @property
    def network(self) -> Network:
        """The network; a model of another one is another `Model`."""
        return self._contents.network

    @property
    def vocabulary(self) -> Vocabulary:
        """The symbols that the model knows."""
        return self._contents.vocabulary

    @property
    def counts(self) -> NDArray[np.int64]:
        """How often each symbol occurs in the training text, read-only (V)."""
        return self._contents.counts

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the training."""
        return self._contents.settings

    @settings.setter
    def settings(self, settings: Mapping[str, Any]) -> None:
        self._contents = replace(self._contents, settings=checked_settings(settings))

    @property
    def history(self) -> History:
        """What training recorded."""
        return self._contents.history

    @history.setter
    def history(self, history: Iterable[Mapping[str, float]]) -> None:
        self._contents = replace(self._contents, history=as_history(history))

    @property
    def kept_record(self) -> Record | None:
        """The record of the weights that the model has: the best one or, where none was kept, the last."""
        if not self.history:
            return None
        if self.settings.get("keep") != "best":
            return self.history[-1]
        losses = self.history.columns().get("validation_loss")
        return self.history[-1 if losses is None else int(np.nanargmin(losses))]

    # ---- Scoring ---------------------------------------------------------------------------------

    def surprisal(
        self, text: Text, *, end: bool = False, unknown: str | float = "error"
    ) -> NDArray[np.float64]:
        """Bits of each symbol of a text, given all before it.

        Parameters
        ----------
        text
            A str, bytes for a model of bytes, or whole numbers (n) for a model of tokens; for a model of
            documents, one document.
        end
            Add the bits of the document's end, for a model of documents.
        unknown
            What becomes of a symbol that the model does not know. ``"error"``: it is a ``ValueError``.
            ``"skip"``: the text is scored as if it were absent, without a number for it. A probability p,
            above 0 and at most 1: it has ``-log2 p`` bits, and what follows is scored as if it were absent.

        Returns
        -------
        float64 (n)
            ``-log2 p``; their sum is the text's code length. One more with ``end``.

        Raises
        ------
        TypeError
            The text is not of the model's type.
        ValueError
            It has a symbol that the model does not know; ``end`` is asked of a model without documents;
            ``unknown`` is none of the above; or the model gives a symbol no finite number of bits, for its
            parameters are out of range.
        """
        return self._scorer(end=end, unknown=unknown).of_text(text)

    @overload
    def score_many(  # type: ignore[overload-overlap]  # what has a length is an iterable, too
        self, texts: Collection[Text], *, end: bool = ..., unknown: str | float = ...
    ) -> list[NDArray[np.float64]]: ...

    @overload
    def score_many(
        self, texts: Iterable[Text], *, end: bool = ..., unknown: str | float = ...
    ) -> Iterator[NDArray[np.float64]]: ...

    def score_many(
        self, texts: Iterable[Text], *, end: bool = False, unknown: str | float = "error"
    ) -> list[NDArray[np.float64]] | Iterator[NDArray[np.float64]]:
        """Bits of each symbol of many texts, which are scored side by side: `surprisal` of each, faster.

        Parameters
        ----------
        texts
            An iterable of texts. The lines of an open file are texts without their ends.
        end, unknown
            As in `surprisal`.

        Returns
        -------
        list or iterator of float64 (n)
            In the order of the texts: a list where ``texts`` has a length. Else an iterator that reads some
            texts ahead, at first a few and then about 130,000 symbols, and keeps nothing of those before.

        Raises
        ------
        TypeError, ValueError
            As in `surprisal`; the message says which text, from 0, or which line of a file, from 1.
        """
        if isinstance(texts, str | bytes | bytearray | memoryview):
            raise TypeError(f"texts is one {type(texts).__name__}; it must be an iterable of texts")
        require_order(texts)
        scorer = self._scorer(end=end, unknown=unknown)
        named: Named = "text {}: ".format
        if isinstance(texts, Sized):
            if len(texts) > 1:
                named = f"text {{}} of {len(texts)}: ".format
            return scorer.of_list(texts, named)
        if hasattr(texts, "readline"):
            texts, named = lines_of(texts), lambda place: f"line {place + 1}: "
        return scorer.of_iterator(texts, named)

    def score_pieces(
        self, pieces: Iterable[Piece], named: Named, *, unknown: str | float = "error"
    ) -> Iterator[NDArray[np.float64]]:
        """Bits of texts in pieces, with the ends of documents, an array for each piece. Internal."""
        return self._scorer(end=self.vocabulary.boundary, unknown=unknown).of_pieces(pieces, named)

    def log_prob(self, text: Text, *, end: bool = False, unknown: str | float = "error") -> float:
        """The natural logarithm of the text's probability; arguments and errors as in `surprisal`."""
        scorer = self._scorer(end=end, unknown=unknown, bits=False)
        with np.errstate(over="ignore"):
            return -_finite(scorer.of_text(text).sum())

    def bits_per_symbol(self, text: Text, *, end: bool = False, unknown: str | float = "error") -> float:
        """Mean bits of a text's symbols; arguments and errors as in `surprisal`.

        A text without symbols, or with none but those that are skipped, is a ``ValueError``.
        """
        bits = self.surprisal(text, end=end, unknown=unknown)
        if not bits.size:
            raise ValueError(
                "the text is empty: it has no mean"
                if not len(text)
                else "the text has no symbol that the model knows: it has no mean"
            )
        with np.errstate(over="ignore"):
            return _finite(bits.mean())

    def perplexity(self, text: Text, *, end: bool = False, unknown: str | float = "error") -> float:
        """``2 ** bits_per_symbol``; arguments and errors as there."""
        return scoring.perplexity(self.bits_per_symbol(text, end=end, unknown=unknown))

    def _scorer(self, *, end: bool, unknown: str | float, bits: bool = True) -> Scorer:
        unknown = checks.unknown(unknown)
        if end and not self.vocabulary.boundary:
            raise ValueError("end=True is for a model of documents, and this one learnt one running text")
        return Scorer(self.network, self.vocabulary, self.counts, end, unknown, bits)

    # ---- Sampling --------------------------------------------------------------------------------

    def sample(
        self,
        n: int,
        prime: Text | None = None,
        *,
        temperature: float = 1.0,
        rng: Any = None,
        unknown: str | float = "error",
    ) -> Text:
        """Generate text.

        Parameters
        ----------
        n
            How many symbols. A model of documents stops earlier where the document ends.
        prime
            What the text continues; ``None`` begins one.
        temperature
            Logits are divided by it: below 1 is more cautious, above 1 bolder; 0 takes the likeliest.
        rng
            An int, a NumPy ``Generator`` or ``RandomState``, or ``None`` for fresh draws. It gives a uniform
            draw for each symbol, in order, in blocks of 1,024 and then more: where a document ends, the draws
            of the rest of its block are taken as well, though never more than n in all.
        unknown
            What becomes of a symbol of the prime that the model does not know: ``"error"``, or it is left
            out, with ``"skip"`` and, as in `surprisal`, with a probability.

        Returns
        -------
        str, bytes or int32 (n)
            The generated symbols, without the prime, in the type of the training text.

        Raises
        ------
        TypeError, ValueError
            An argument is out of range; the prime is not of the model's type, or has a symbol that the
            model does not know; the model's parameters are out of range, so that its state or its logits
            overflow.
        MemoryError
            The text cannot fit.
        """
        pieces = self.sample_pieces(
            n, prime, temperature=temperature, rng=rng, unknown=unknown, block=SAMPLED_AT_ONCE
        )
        if not self.vocabulary.boundary:  # it has n symbols
            memory.require(n, f"a text of {n} symbols")
        return self.vocabulary.joined_pieces(pieces)

    def sample_pieces(
        self,
        n: int,
        prime: Text | None = None,
        *,
        temperature: float = 1.0,
        rng: Any = None,
        unknown: str | float = "error",
        block: int = 1,
    ) -> Iterator[Text]:
        """What `sample` returns, in pieces, as it is drawn: in blocks that grow. Internal."""
        n = checks.whole_number("n", n, minimum=0)
        temperature = checks.real_number("temperature", temperature, zero=True)
        generator = checks.random_generator(rng)
        scorer = self._scorer(end=False, unknown=unknown)
        reading = scorer.of_prime(prime)
        ids = drawn(scorer, reading, n, temperature=temperature, rng=generator, block=block)
        return map(self.vocabulary.decode, ids)

    # ---- Files -----------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """The model as the bytes of its file; `from_bytes` reads them. The same model, the same bytes.

        Raises
        ------
        TypeError, ValueError
            What was changed since the model was made is not what a file can hold, such as parameters that are
            NaN.
        """
        return model_file.to_bytes(self._contents)

    @classmethod
    def from_bytes(cls, data: bytes, *, backend: str = "auto", threads: int | None = None) -> Model:
        """Return the model that these bytes hold.

        Parameters
        ----------
        data
            What `to_bytes` returned, or a file's content.
        backend, threads
            As for `fastrnn.load`.

        Raises
        ------
        fastrnn.CheckpointError
            They are damaged or not a model.
        ValueError, TypeError, fastrnn.BackendUnavailableError
            There is no such backend, or it cannot run here; ``threads`` is out of range or of the wrong type.
        MemoryError
            The model cannot fit.
        """
        checked_threads(threads)
        contents = model_file.from_bytes(data, backend)
        contents.network.threads = threads
        return cls._of(contents)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one safetensors file, whole or not at all.

        A file that was there is replaced only when the new one is safely on disk, which keeps its mode and,
        where that is allowed, its owner. A link stays, and the file that it points to is written. What saves
        that were killed more than an hour ago have left in the folder is removed.

        Raises
        ------
        OSError
            The file cannot be written.
        MemoryError
            Its bytes do not fit into memory.
        TypeError, ValueError
            As for `to_bytes`; the path has a NUL.

        Notes
        -----
        Whatever is raised has the model: after ``fastrnn.train(…).save(path)`` on a full disk,
        ``error.model.save(elsewhere)`` saves it.
        """
        try:
            write_atomically(path, self.to_bytes())
        except BaseException as error:
            error.model = self  # type: ignore[attr-defined]
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_pickle, (self.to_bytes(), self.network.backend.name, self.network.threads_asked)

    def __repr__(self) -> str:
        kind = "documents" if self.vocabulary.boundary else "text"
        symbols = f"{self.vocabulary.size} {self.vocabulary.unit}s"
        loss = ""
        if record := self.kept_record:
            name = "validation_loss" if "validation_loss" in record else "loss"
            loss = f", {name} {record[name]:.4f} at step {record['step']:,}"
        return f"<fastrnn.Model of {kind}: {symbols}, {self.network!r}{loss}>"


def _finite(bits: np.float64) -> float:
    """A sum or a mean, or an error where it overflowed."""
    if not np.isfinite(bits):
        raise ValueError(f"the text has {bits} bits or nats: the model's parameters are out of range")
    return float(bits)


def _from_pickle(data: bytes, backend: str, threads: int | None = None) -> Model:
    return Model.from_bytes(data, backend=backend, threads=threads)


def load(path: str | os.PathLike[str], *, backend: str = "auto", threads: int | None = None) -> Model:
    """Load a model from its file.

    Parameters
    ----------
    path
        What `Model.save` wrote.
    backend
        As for `fastrnn.train`; a model of one backend runs on every other.
    threads
        The most threads that a call of the model works with; ``None`` is as many as the process may use
        cores. Results do not depend on it.

    Raises
    ------
    fastrnn.CheckpointError
        The file is damaged, or is no model of fastrnn's; the message says why.
    OSError
        It cannot be read.
    ValueError, TypeError, fastrnn.BackendUnavailableError
        There is no such backend, or it cannot run here; ``threads`` is out of range or of the wrong type.
    MemoryError
        The model cannot fit.
    """
    checked_threads(threads)
    contents = model_file.read_file(path, backend)
    contents.network.threads = threads
    return Model._of(contents)  # noqa: SLF001  (it is a constructor)
