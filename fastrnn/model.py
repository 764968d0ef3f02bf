"""What a user holds: a network, the symbols it speaks and the record of its training."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrnn import checkpoint, checks, scoring
from fastrnn.atomic import write_atomically
from fastrnn.contents import Contents, checked_settings
from fastrnn.history import History, Record, as_history
from fastrnn.network import Network, checked_threads
from fastrnn.sampling import continuation, draw
from fastrnn.vocabulary import Text, Vocabulary

#: Symbols of many texts that are scored at once.
SYMBOLS_AT_ONCE = 1 << 19


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
        The `fastrnn.vocabulary.Vocabulary`, of as many symbols as the network has.
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
        The `fastrnn.vocabulary.Vocabulary`; of tokens a `fastrnn.vocabulary.TokenVocabulary`, whose
        ``tokens`` are their names.
    counts
        int64 (V), read-only: how often each symbol occurs in the training text; with ``split="rows"`` in all
        of it.
    settings
        The settings of its training, a dict. It can be changed, and set.
    history
        What training recorded: a `fastrnn.history.History`, which is a sequence of
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
        validated = [record for record in self.history if "validation_loss" in record]
        return min(validated, key=lambda record: record["validation_loss"], default=self.history[-1])

    # ---- Scoring ---------------------------------------------------------------------------------

    def surprisal(self, text: Text, *, end: bool = False) -> NDArray[np.float64]:
        """Bits of each symbol of a text, given all before it.

        Parameters
        ----------
        text
            A str, bytes for a model of bytes, or whole numbers (n) for a model of tokens; for a model of
            documents, one document.
        end
            Add the bits of the document's end, for a model of documents.

        Returns
        -------
        float64 (n)
            ``-log2 p``; their sum is the text's code length. One more with ``end``.

        Raises
        ------
        TypeError
            The text is not of the model's type.
        ValueError
            It has a symbol that the model does not know, or ``end`` is asked of a model without
            documents.
        """
        (bits,) = self.score_many([text], end=end)
        return bits

    def score_many(self, texts: Iterable[Text], *, end: bool = False) -> list[NDArray[np.float64]]:
        """Bits of each symbol of many texts, which are scored side by side: `surprisal` of each, faster.

        Arguments and errors as in `surprisal`; ``texts`` is any iterable of them.
        """
        if isinstance(texts, str | bytes | bytearray | memoryview):
            raise TypeError(f"texts is one {type(texts).__name__}; it must be an iterable of texts")
        scored: list[NDArray[np.float64]] = []
        for some in _of_about(SYMBOLS_AT_ONCE, texts):
            losses, lengths = self._losses(some, end=end)
            losses /= np.log(2)
            ends = np.cumsum(lengths).tolist()
            scored += map(losses.__getitem__, map(slice, [0, *ends], ends))
        return scored

    def log_prob(self, text: Text, *, end: bool = False) -> float:
        """The natural logarithm of the text's probability; arguments and errors as in `surprisal`."""
        return -float(self._losses([text], end=end)[0].sum())

    def bits_per_symbol(self, text: Text, *, end: bool = False) -> float:
        """Mean bits of a text's symbols; arguments and errors as in `surprisal`.

        An empty text is a ``ValueError``.
        """
        bits = self.surprisal(text, end=end)
        if not bits.size:
            raise ValueError("the text is empty: it has no mean")
        return float(bits.mean())

    def perplexity(self, text: Text, *, end: bool = False) -> float:
        """``2 ** bits_per_symbol``; arguments and errors as there."""
        return scoring.perplexity(self.bits_per_symbol(text, end=end))

    def _losses(self, texts: list[Text], *, end: bool) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Nats of each symbol of some texts, one after the other, and how many each text has."""
        boundary = self.vocabulary.boundary_id
        if end and boundary is None:
            raise ValueError("end=True is for a model of documents, and this one learnt one running text")
        ids, lengths = self.vocabulary.encode_many(texts)
        if boundary is None:
            first = scoring.first_symbol_probabilities(self.counts)
            return scoring.symbol_losses(self.network, ids, lengths, first), lengths
        losses = scoring.document_losses(self.network, ids, lengths, boundary)
        if end:
            return losses, lengths + 1
        return np.delete(losses, np.cumsum(lengths + 1) - 1), lengths

    # ---- Sampling --------------------------------------------------------------------------------

    def sample(self, n: int, prime: Text | None = None, *, temperature: float = 1.0, rng: Any = None) -> Text:
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
            An int, a NumPy ``Generator`` or ``RandomState``, or ``None`` for fresh draws. It gives n
            uniform draws, one for each symbol, also where a document ends before.

        Returns
        -------
        str, bytes or int32 (n)
            The generated symbols, without the prime, in the type of the training text.

        Raises
        ------
        TypeError, ValueError
            An argument is out of range; the prime is not of the model's type, or has a symbol that the
            model does not know; the model's parameters are so large that its state or its logits overflow.
        """
        n = checks.whole_number("n", n, minimum=0)
        temperature = checks.real_number("temperature", temperature, zero=True)
        generator = checks.random_generator(rng)
        ids = self.vocabulary.encode(prime) if prime is not None else np.empty(0, np.int32)
        boundary = self.vocabulary.boundary_id
        known = ids if boundary is None else np.append(np.int32(boundary), ids)
        first = known[:0]
        if n > 0 and not known.size:
            p = scoring.first_symbol_probabilities(self.counts)
            known = first = np.array([draw(p, temperature, generator)], np.int32)
        if n > len(first):
            rest = continuation(
                self.network, known, n - len(first), temperature=temperature, rng=generator, last=boundary
            )
            first = np.append(first, rest[rest != boundary] if boundary is not None else rest)
        return self.vocabulary.decode(first)

    # ---- Files -----------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """The model as the bytes of its file; `from_bytes` reads them. The same model, the same bytes.

        Raises
        ------
        TypeError, ValueError
            What was changed since the model was made is not what a file can hold, such as parameters that are
            NaN.
        """
        return checkpoint.to_bytes(self._contents)

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
        contents = checkpoint.from_bytes(data, backend)
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


def _of_about(symbols: int, texts: Iterable[Text]) -> Iterator[list[Text]]:
    """Texts in groups that have so many symbols, or a little more."""
    group: list[Text] = []
    size = 0
    for text in texts:
        group.append(text)
        try:
            size += len(text)
        except TypeError as error:
            raise TypeError(
                f"a text must be str, bytes or whole numbers in a sequence, and this is {type(text).__name__}"
            ) from error
        if size >= symbols:
            yield group
            group, size = [], 0
    if group:
        yield group


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
    contents = checkpoint.read_file(path, backend)
    contents.network.threads = threads
    return Model._of(contents)  # noqa: SLF001  (it is a constructor)
