"""The model: a network, its symbols, and the history of its training."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrnn.core import checks, memory
from fastrnn.data.vocabulary import Text, Vocabulary
from fastrnn.inference.sampling import drawn
from fastrnn.model.evaluation import Evaluation, kept_place
from fastrnn.model.history import History, Record, as_history
from fastrnn.model.model_file import ModelFile, checked_settings
from fastrnn.model.predictions import Predictions
from fastrnn.model.streaming import Streaming
from fastrnn.network.execution import checked_threads
from fastrnn.network.network import Network

#: Symbols that the first native call of `Model.sample` draws.
SAMPLED_AT_ONCE = 1 << 10


class Model(Predictions, Streaming):
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

    # ---- Sampling --------------------------------------------------------------------------------

    def sample(
        self,
        n: int,
        prime: Text | None = None,
        *,
        temperature: float = 1.0,
        rng: Any = None,
        unknown: str | float | None = None,
    ) -> Text:
        """Generate text. An unknown symbol is never drawn.

        Parameters
        ----------
        n
            How many symbols. A model of documents stops earlier if the document ends.
        prime
            A text that the generated text continues; ``None`` begins a new text.
        temperature
            Logits are divided by it: below 1, probable symbols become more probable; above 1, less; 0 always
            takes the most probable symbol.
        rng
            An int, a NumPy ``Generator`` or ``RandomState``, or ``None`` for unpredictable draws. Each symbol
            takes one uniform draw, in order. The draws are made in pieces, of 1,024 at first and more later.
            If a document ends within a piece, all draws of the piece are made, but never more than n in all.
        unknown
            What happens to a symbol of the prime that the model does not know. ``"symbol"``: the network
            reads the unknown symbol. ``"error"``: it is a ``ValueError``. ``"skip"`` or a probability, as in
            `surprisal`: it is left out. ``None`` is as in `surprisal`.

        Returns
        -------
        str, bytes or int32 (n)
            The generated symbols, without the prime, as the type of the training text.

        Raises
        ------
        TypeError, ValueError
            An argument is out of range; the prime is not of the model's type, or has a symbol that the
            model does not know; the model's parameters are out of range, so that its state or its logits
            overflow.
        MemoryError
            The text does not fit into memory.
        """
        pieces = self.sample_pieces(
            n, prime, temperature=temperature, rng=rng, unknown=unknown, at_once=SAMPLED_AT_ONCE
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
        unknown: str | float | None = None,
        at_once: int = 1,
    ) -> Iterator[Text]:
        """Return the text of `sample` in pieces, each when it is drawn; the pieces grow. Internal."""
        n = checks.whole_number("n", n, minimum=0)
        temperature = checks.real_number("temperature", temperature, zero=True)
        generator = checks.random_generator(rng)
        scorer = self._scorer(end=False, unknown=unknown)
        reading = scorer.of_prime(prime)
        ids = drawn(scorer, reading, n, temperature=temperature, rng=generator, at_once=at_once)
        return map(self.vocabulary.decode, ids)

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
        kind, known = "documents" if self.vocabulary.boundary else "text", self.vocabulary
        loss = ""
        if record := self.kept_record:
            name = "validation_loss" if "validation_loss" in record else "loss"
            loss = f", {name} {record[name]:.4f} at step {record['step']:,}"
        return f"<fastrnn.Model of {kind}: {known.size} {known.unit}s, {self.network!r}{loss}>"


def _from_pickle(data: bytes, backend: str, threads: int | None = None) -> Model:
    return Model.from_bytes(data, backend=backend, threads=threads)
