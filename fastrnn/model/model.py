"""The model: a network, its symbols, and the history of its training."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sized
from dataclasses import replace
from typing import Any, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrnn.data.sources import require_order, values_of
from fastrnn.data.text_file import lines_of
from fastrnn.data.vocabulary import Text, Vocabulary
from fastrnn.inference import scoring
from fastrnn.inference.scoring import Named, Piece, Scorer
from fastrnn.model.evaluation import Evaluation, kept_place
from fastrnn.model.history import History, Record, as_history
from fastrnn.model.model_file import ModelFile, checked_settings
from fastrnn.model.sampling import Sampling
from fastrnn.network.execution import checked_threads
from fastrnn.network.network import Network


class Model(Sampling):
    """A trained language model; `fastrnn.train` and `fastrnn.load` return one.

    A model of one running text predicts each symbol from all before it, and the first symbol from the
    training text's frequencies (add-one smoothed). The network of a model of documents also predicts the
    first symbol and the end of a document. For a model of tokens, a text is a sequence of whole numbers.

    Parameters
    ----------
    network
        A `Network` with finite parameters.
    vocabulary
        A `fastrnn.data.vocabulary.Vocabulary` with as many symbols as the network has.
    counts
        Whole numbers (V); see the attribute.
    settings
        A mapping of values that JSON has: str, numbers, bool, ``None``, and lists and dicts of them.
    history
        A `History`, or a sequence of its records.

    Attributes
    ----------
    network
        The `Network`.
    vocabulary
        The `fastrnn.data.vocabulary.Vocabulary`. For tokens it is a
        `fastrnn.data.tokens.TokenVocabulary`, whose attribute ``tokens`` has their names.
    counts
        int64 (V), read-only: how often each symbol occurs in the training text; with ``split="rows"`` or
        ``refit``, in the whole text.
    settings
        The settings of the training, a dict. It can be changed and set.
    history
        The records of the training, a `fastrnn.model.history.History`: a sequence of dicts with ``step``, the
        number of the update from 0 on, ``loss``, ``gradient_norm`` and ``learning_rate``, and with
        ``validation_loss`` if a part of the text was held out. Records can be appended, and the attribute can
        be set to a list of them. `fastrnn.model.history` says what each number is.

    Raises
    ------
    TypeError, ValueError
        A model's file cannot hold an argument; the message says which one, and why.
    """

    def __init__(
        self,
        network: Network,
        vocabulary: Vocabulary,
        counts: ArrayLike,
        settings: Mapping[str, Any] | None = None,
        history: Iterable[Mapping[str, float]] | None = None,
    ) -> None:
        self._model_file = ModelFile.checked(
            network,
            vocabulary,
            counts,
            {} if settings is None else settings,
            () if history is None else history,
        )

    @classmethod
    def _of(cls, model_file: ModelFile) -> Self:
        """The model with this model file, which was checked."""
        model = cls.__new__(cls)
        model._model_file = model_file  # noqa: SLF001  (it is a model too)
        return model

    @property
    def network(self) -> Network:
        """The network. It cannot be set: make another `Model` for another network."""
        return self._model_file.network

    @property
    def vocabulary(self) -> Vocabulary:
        """The symbols that the model knows."""
        return self._model_file.vocabulary

    @property
    def counts(self) -> NDArray[np.int64]:
        """How often each symbol occurs in the training text, read-only (V)."""
        return self._model_file.counts

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the training."""
        return self._model_file.settings

    @settings.setter
    def settings(self, settings: Mapping[str, Any]) -> None:
        self._model_file = replace(self._model_file, settings=checked_settings(settings))

    @property
    def history(self) -> History:
        """The records of the training."""
        return self._model_file.history

    @history.setter
    def history(self, history: Iterable[Mapping[str, float]]) -> None:
        self._model_file = replace(self._model_file, history=as_history(history))

    @property
    def kept_record(self) -> Record | None:
        """The record of the model's weights: the best one if the best weights were kept, else the last.

        A refit goes on from the best weights, so the model then has its last ones.
        """
        return self.history[kept_place(self.history, self.settings)] if self.history else None

    @property
    def evaluation(self) -> Evaluation | None:
        """How well the trained weights predict all that was held out; ``None`` if that was not measured.

        It is measured when training ends, but not if it is interrupted. With ``refit``, it is that of the
        weights from which the refit went on: a model that is trained on everything cannot be measured on it.
        """
        return Evaluation.of_history(self.history)

    # ---- Scoring ---------------------------------------------------------------------------------

    def surprisal(
        self, text: Text, *, end: bool = False, unknown: str | float | None = None
    ) -> NDArray[np.float64]:
        """Return the bits of each symbol of a text, given all symbols before it.

        Parameters
        ----------
        text
            A str for a model of characters, bytes for one of bytes, or whole numbers (n) for one of tokens.
            For a model of documents, it is one document.
        end
            Whether to add the bits of the document's end; only for a model of documents.
        unknown
            How a symbol that the model does not know is scored. ``"symbol"``: as the unknown symbol, which
            the model must have been trained with (``min_count``); its probability is that of all symbols that
            the model does not know together. ``"error"``: it is a ``ValueError``. ``"skip"``: the symbol is
            left out before scoring, and the result has no number for it. A probability p, above 0 and at
            most 1: the symbol has ``-log2 p`` bits, and the other symbols are scored as if it were left out.
            ``None`` is ``"symbol"`` if the model has an unknown symbol, and else ``"error"``.

        Returns
        -------
        float64 (n)
            ``-log2 p`` of each symbol; their sum is the text's code length. With ``end``, n is one larger.
            The symbols are those of the text as the model reads it; see `offsets`.

        Raises
        ------
        TypeError
            The text is not of the model's type.
        ValueError
            The text has a symbol that the model does not know; ``end`` is True and the model is not of
            documents; ``unknown`` is none of the above, or is ``"symbol"`` and the model has no unknown
            symbol; or a symbol's bits are not finite, because the model's parameters are out of range.
        """
        return self._scorer(end=end, unknown=unknown).of_text(text)

    @overload
    def score_many(  # type: ignore[overload-overlap]  # a Collection is an Iterable too
        self, texts: Collection[Text], *, end: bool = ..., unknown: str | float | None = ...
    ) -> list[NDArray[np.float64]]: ...

    @overload
    def score_many(
        self, texts: Iterable[Text], *, end: bool = ..., unknown: str | float | None = ...
    ) -> Iterator[NDArray[np.float64]]: ...

    def score_many(
        self, texts: Iterable[Text], *, end: bool = False, unknown: str | float | None = None
    ) -> list[NDArray[np.float64]] | Iterator[NDArray[np.float64]]:
        """Return what `surprisal` returns for each of many texts; this is faster than one by one.

        Parameters
        ----------
        texts
            An iterable of texts. An open file gives its lines, without their ends.
        end, unknown
            As in `surprisal`.

        Returns
        -------
        list or iterator of float64 (n)
            In the order of the texts: a list if ``texts`` has a length, else an iterator. The iterator reads
            some texts ahead, first about 1,000 symbols and later about 130,000, and keeps no earlier ones.

        Raises
        ------
        TypeError, ValueError
            As in `surprisal`; the message has the number of the text, from 0, or of the file's line, from 1.
        """
        if isinstance(texts, str | bytes | bytearray | memoryview):
            raise TypeError(f"texts is one {type(texts).__name__}; it must be an iterable of texts")
        require_order(texts)
        scorer = self._scorer(end=end, unknown=unknown)
        named: Named = "text {}: ".format
        if isinstance(texts, Sized):
            if len(texts) > 1:
                named = f"text {{}} of {len(texts)}: ".format
            return scorer.of_list(values_of(texts), named)
        if hasattr(texts, "readline"):
            texts, named = lines_of(texts), lambda place: f"line {place + 1}: "
        return scorer.of_iterator(texts, named)

    def offsets(self, text: Text) -> NDArray[np.int64]:
        """Return where in a text the symbols are that `surprisal` scores, also those that it skips.

        Parameters
        ----------
        text
            As for `surprisal`.

        Returns
        -------
        int64 (n, 2)
            For each symbol, its start and stop in the text: it is read from ``text[start:stop]``. The spans
            ascend and leave nothing out but a byte order mark at the beginning. CR LF is one symbol that two
            characters give. A symbol that the model's normalization leaves as it is has the span of its own
            character. Where normalization changes characters, all symbols of the segment that it changes have
            the span of the segment: the shortest part of the text that can be normalized alone.

        Raises
        ------
        TypeError
            The text is not of the model's type.
        """
        self.vocabulary.encode(text, unknown="skip")  # this checks its type
        return self.vocabulary.offsets(text)

    def score_pieces(
        self, pieces: Iterable[Piece], named: Named, *, unknown: str | float | None = None
    ) -> Iterator[NDArray[np.float64]]:
        """Yield an array of bits for each piece of texts, with the ends of documents. Internal."""
        return self._scorer(end=self.vocabulary.boundary, unknown=unknown).of_pieces(pieces, named)

    def log_prob(self, text: Text, *, end: bool = False, unknown: str | float | None = None) -> float:
        """Return the natural logarithm of the text's probability; arguments and errors as in `surprisal`."""
        scorer = self._scorer(end=end, unknown=unknown, bits=False)
        with np.errstate(over="ignore"):
            return -scoring.finite(scorer.of_text(text).sum())

    def bits_per_symbol(self, text: Text, *, end: bool = False, unknown: str | float | None = None) -> float:
        """Return the mean bits of a text's symbols; arguments and errors as in `surprisal`.

        A text without symbols, or whose symbols are all skipped, is a ``ValueError``.
        """
        bits = self.surprisal(text, end=end, unknown=unknown)
        return scoring.mean(bits, bits.size, text)

    def bits_per_byte(self, text: Text, *, end: bool = False, unknown: str | float | None = None) -> float:
        """Return the bits of a text, divided by the number of its bytes in UTF-8.

        The bytes are those of the text as the model reads it: a CR LF that is read as LF has one byte, and a
        symbol that is skipped has none. With ``end``, the document's end has one, as the end of a line.
        Arguments and errors are those of `bits_per_symbol`; tokens have no bytes, which is a ``ValueError``.
        """
        bits = self.surprisal(text, end=end, unknown=unknown)
        n_bytes = self.vocabulary.count_bytes(self.vocabulary.as_read(text), unknown=unknown)
        return scoring.mean(bits, n_bytes + end, text)

    def perplexity(self, text: Text, *, end: bool = False, unknown: str | float | None = None) -> float:
        """Return ``2 ** bits_per_symbol``; arguments and errors as in `bits_per_symbol`."""
        return scoring.perplexity(self.bits_per_symbol(text, end=end, unknown=unknown))

    def _scorer(self, *, end: bool, unknown: str | float | None, bits: bool = True) -> Scorer:
        return Scorer.checked(self.network, self.vocabulary, self.counts, end=end, unknown=unknown, bits=bits)

    # ---- Files -----------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Return the bytes of the model's file; `from_bytes` reads them. Equal models give equal bytes.

        Raises
        ------
        TypeError, ValueError
            The model was changed, and a file cannot hold it now: for example, a parameter is NaN.
        """
        from fastrnn.model import serialization

        return serialization.to_bytes(self._model_file)

    @classmethod
    def from_bytes(cls, data: bytes, *, backend: str = "auto", threads: int | None = None) -> Model:
        """Return the model that these bytes hold.

        Parameters
        ----------
        data
            The bytes that `to_bytes` returned, or that a model's file has.
        backend, threads
            As for `fastrnn.load`.

        Raises
        ------
        fastrnn.CheckpointError
            The bytes are damaged or not a model.
        ValueError, TypeError, fastrnn.BackendUnavailableError
            There is no such backend, or it cannot run here; ``threads`` is out of range or of the wrong type.
        MemoryError
            The model cannot fit.
        """
        checked_threads(threads)
        from fastrnn.model import serialization

        model_file = serialization.from_bytes(data, backend)
        model_file.network.threads = threads
        return cls._of(model_file)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one safetensors file, whole or not at all.

        If there is a file already, it is replaced only when the new one is on disk. The new one gets its mode
        and, if that is allowed, its owner. A link is kept, and the file that it points to is written.
        Temporary files in the folder are removed if a save that was killed left them more than an hour ago.

        Raises
        ------
        OSError
            The file cannot be written.
        MemoryError
            The file's bytes do not fit into memory.
        TypeError, ValueError
            As in `to_bytes`; or the path has a NUL.

        Notes
        -----
        Every error of `save` has the attribute ``model``: if ``fastrnn.train(…).save(path)`` fails on a full
        disk, ``error.model.save(other_path)`` saves the model.
        """
        from fastrnn.core.atomic import write_atomically

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


def _from_pickle(data: bytes, backend: str, threads: int | None = None) -> Model:
    return Model.from_bytes(data, backend=backend, threads=threads)
