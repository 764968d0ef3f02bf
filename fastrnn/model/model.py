"""The model: a network, its symbols, and the history of its training."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastrnn.data.vocabulary import Vocabulary
from fastrnn.inference.mixture import Mixture
from fastrnn.model.evaluation import Evaluation, kept_place
from fastrnn.model.history import History, Record, as_history
from fastrnn.model.model_file import ModelFile, checked_mixture, checked_settings
from fastrnn.model.predictions import Predictions
from fastrnn.model.sampling import Sampling
from fastrnn.model.streaming import Streaming
from fastrnn.network.execution import checked_threads
from fastrnn.network.network import Network


class Model(Predictions, Sampling, Streaming):
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
    mixture
        A `fastrnn.inference.mixture.Mixture` over the vocabulary's symbols, or ``None``.

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
    mixture
        The counts with which the network is mixed (``count_order``), or ``None``.

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
        mixture: Mixture | None = None,
    ) -> None:
        self._model_file = ModelFile.checked(
            network,
            vocabulary,
            counts,
            {} if settings is None else settings,
            () if history is None else history,
            mixture,
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
    def mixture(self) -> Mixture | None:
        """The counts with which the network is mixed, if there are any."""
        return self._model_file.mixture

    @mixture.setter
    def mixture(self, mixture: Mixture | None) -> None:
        own = self._model_file
        checked = None if mixture is None else checked_mixture(mixture, own.network)
        self._model_file = replace(own, mixture=checked)

    def without_counts(self) -> Model:
        """Return a model with the same network, vocabulary, settings and history, and without counts."""
        return self._of(replace(self._model_file, mixture=None))

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
