"""What a model says of texts besides their scores: what may follow them, and which ones it expects."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sized
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from fastrnn.core import checks
from fastrnn.data.vocabulary import Text
from fastrnn.inference.decoding import DecoderLM
from fastrnn.inference.guessing import GuessNumber, GuessSamples
from fastrnn.inference.mixture import require_no_counts
from fastrnn.model.scores import Scores
from fastrnn.model.texts import named_texts
from fastrnn.network.execution import Array

#: The default limits of a search for documents, in symbols and in bytes.
MAX_LENGTH, MAX_MEMORY = 256, 1 << 28


class Predictions(Scores):
    """The part of a model that predicts texts. Internal: `fastrnn.Model` extends it."""

    def next_distribution(
        self, prefix: Text | None = None, *, unknown: str | float | None = None
    ) -> dict[Any, float]:
        """Return the probability of each symbol to come next.

        Parameters
        ----------
        prefix
            The text so far; ``None`` is the beginning of a text.
        unknown
            What happens to a symbol of the prefix that the model does not know. ``"symbol"``: the network
            reads the unknown symbol. ``"error"``: it is a ``ValueError``. ``"skip"`` or a probability, as in
            `surprisal`: it is left out. ``None`` is as in `surprisal`.

        Returns
        -------
        dict
            Probabilities, whose sum is 1, by symbol: the most probable first, and equally probable ones in
            the order of their ids. A symbol is a str or bytes of length 1, or a token's number. ``"<end>"``
            is the end of the document, and ``"<unknown>"`` is the unknown symbol, if the model has them. The
            first symbol of a running text has the smoothed frequencies of the training text.

        Raises
        ------
        TypeError, ValueError
            As in `surprisal`, for the prefix.
        """
        from fastrnn.inference.prediction import distribution_after

        return distribution_after(self._scorer(end=False, unknown=unknown), prefix)

    def next_probabilities(
        self, prefixes: Iterable[Text], *, unknown: str | float | None = None
    ) -> NDArray[np.float64]:
        """Return the probabilities of the symbols that could follow each of many prefixes.

        Parameters
        ----------
        prefixes
            An iterable of texts, as in `score_many`.
        unknown
            As in `next_distribution`.

        Returns
        -------
        float64 (n, V)
            A row for each prefix, with the bits that `next_distribution` gives. A column is an id: the
            symbols in the order of ``vocabulary.symbols``, then the unknown symbol and the end of the
            document, if the model has them.

        Raises
        ------
        TypeError, ValueError, MemoryError
            As in `score_many`; or the array does not fit into memory.
        """
        from fastrnn.inference.prediction import probabilities_after

        texts, named = named_texts("prefixes", prefixes, "prefix")
        return probabilities_after(self._scorer(end=False, unknown=unknown), texts, named)

    @overload
    def hidden(  # type: ignore[overload-overlap]  # a Collection is an Iterable too
        self,
        texts: Collection[Text],
        *,
        layer: int = ...,
        pool: Literal["each"],
        unknown: str | float | None = ...,
    ) -> list[Array]: ...

    @overload
    def hidden(  # type: ignore[overload-overlap]
        self, texts: Collection[Text], *, layer: int = ..., pool: str = ..., unknown: str | float | None = ...
    ) -> Array: ...

    @overload
    def hidden(
        self, texts: Iterable[Text], *, layer: int = ..., pool: str = ..., unknown: str | float | None = ...
    ) -> Iterator[Array]: ...

    def hidden(
        self,
        texts: Iterable[Text],
        *,
        layer: int = -1,
        pool: str = "last",
        unknown: str | float | None = None,
    ) -> Array | list[Array] | Iterator[Array]:
        """Return the hidden states of the network that reads each of many texts, as features.

        Parameters
        ----------
        texts
            As in `score_many`.
        layer
            The number of the layer, from 0; a negative number counts from the last layer.
        pool
            ``"last"``: the state after the text's last symbol. ``"mean"``: the mean of the states after each
            symbol, summed in float64 in the order of the symbols. ``"each"``: all of these states.
        unknown
            As in `next_distribution`. A symbol that is left out has no state.

        Returns
        -------
        array (n, H), list of arrays (symbols, H), or iterator
            h, of the network's dtype, without units: for an LSTM h and not c. It is an array, or with
            ``"each"`` a list, if ``texts`` has a length; else it is an iterator of arrays (H) or (symbols,
            H), which reads ahead as that of `score_many` does. The last and the mean of a text without
            symbols are the state before its first symbol. Each text has the same bits as alone.

        Raises
        ------
        TypeError, ValueError
            As in `score_many`; or ``layer`` or ``pool`` is none of the above.
        """
        from fastrnn.inference.features import Features

        features = Features.checked(self._mixed_scorer(end=False, unknown=unknown), layer, pool)
        values, named = named_texts("texts", texts, "text")
        found = features.of_texts(values, named)
        if not isinstance(texts, Sized):
            return found
        each = list(found)
        network = self._model_file.network
        return each if pool == "each" else np.array(each, network.dtype).reshape(-1, network.hidden_size)

    def rank(
        self,
        prefix: Text | None,
        candidates: Iterable[Text],
        *,
        end: bool = False,
        unknown: str | float | None = None,
    ) -> list[tuple[Text, float]]:
        """Return candidates that could continue a prefix, the most probable first.

        Parameters
        ----------
        prefix
            The text before each candidate; ``None`` is the beginning of a text. It is read once.
        candidates
            An iterable of texts.
        end
            Whether each candidate is followed by the end of the document; only for a model of documents.
        unknown
            As in `surprisal`, for the candidates; for the prefix, as in `next_distribution`. With ``"skip"``,
            an unknown symbol costs nothing, so candidates of such symbols come first.

        Returns
        -------
        list of (candidate, log_prob)
            The natural logarithm of the probability of each candidate, given the prefix: that of both
            together less that of the prefix. Candidates that are equally probable keep their order.

        Raises
        ------
        TypeError, ValueError
            As in `surprisal`; the message begins with ``prefix:``, or with the number of the candidate.
        """
        from fastrnn.inference.ranking import ranked

        values, _ = named_texts("candidates", candidates, "candidate")
        return ranked(self._scorer(end=end, unknown=unknown, bits=False), prefix, list(values))

    def best_path(
        self,
        lattice: Iterable[Any],
        *,
        n: int = 1,
        width: int = 64,
        model_weight: float = 1.0,
        prefix: Text | None = None,
        end: bool = False,
        unknown: str | float | None = None,
    ) -> list[tuple[Text, float]]:
        """Return the best texts of a lattice: the hypotheses of a recognizer of images or speech.

        The score of a path is the sum of its weights, and ``model_weight`` times the natural logarithm of its
        text's probability. A beam search finds the best ones.

        Parameters
        ----------
        lattice
            A list of steps, each a list of alternatives ``(text, weight)``; or a list of edges ``(start, end,
            text, weight)`` of a directed graph. The nodes of edges are whole numbers, an edge ends at a
            higher number than it starts, and paths lead from the lowest node to the highest. A weight is the
            logarithm of the recognizer's score, a finite number; a text may be empty, and need not be a
            single symbol.
        n
            How many texts are returned, at most.
        width
            The most hypotheses that are kept at a node, at least ``n``. Hypotheses of the same text are one,
            and their best score counts. The result is exact if no node has more different texts than this.
        model_weight
            The factor of the model's logarithms, zero or more.
        prefix
            The text before the lattice; ``None`` is the beginning of a text.
        end
            Whether the document ends after the path; only for a model of documents.
        unknown
            As in `rank`.

        Returns
        -------
        list of (text, score)
            The best first; scores are natural logarithms, without the prefix's.

        Raises
        ------
        TypeError, ValueError
            As in `surprisal`; or the lattice is not of either form, or no path leads through it.
        """
        from fastrnn.inference.lattice import Search, checked_edges

        n = checks.whole_number("n", n)
        width = checks.whole_number("width", width, minimum=n)
        model_weight = checks.real_number("model_weight", model_weight, zero=True)
        self._scorer(end=end, unknown=unknown)  # this checks them together
        search = Search(self._scorer(end=False, unknown=unknown, bits=False), width, model_weight)
        found = search.best(checked_edges(lattice), prefix, end=end)
        return [(one.text, one.score) for one in found[:n]]

    def decoder_lm(self, *, unknown: str | float | None = None) -> DecoderLM:
        """Return the model in the shape that decoders use: ``initial_state``, ``advance``, ``score``.

        States cannot be changed, and are equal and have the same hash if the model continues from them in the
        same way. A symbol is one as the model reads it, with LF for the end of a line, and normalized. Scores
        are natural logarithms. See `fastrnn.inference.decoding.DecoderLM`.

        Parameters
        ----------
        unknown
            As in `rank`, for each symbol.
        """
        return DecoderLM(self._scorer(end=False, unknown=unknown, bits=False))

    def top(
        self, n: int, *, max_length: int = MAX_LENGTH, max_memory: int = MAX_MEMORY
    ) -> list[tuple[Text, float]]:
        """Return the n most probable documents of a model of documents, in exact order.

        Parameters
        ----------
        n
            How many documents.
        max_length
            Documents of more symbols are left out.
        max_memory
            About the bytes that the search may keep.

        Returns
        -------
        list of (document, log_prob)
            The natural logarithm of the probability of each document with its end, up to rounding what
            `log_prob` returns, the most probable first; equally probable ones are in the order of their
            symbols' ids. There are fewer than n if there are no more. Documents with the unknown symbol are
            left out.

        Raises
        ------
        TypeError, ValueError
            An argument is out of range; the model is of one running text; or its parameters are out of range.
        MemoryError
            The search would keep more than ``max_memory``.

        Notes
        -----
        The search extends the most probable beginnings first. It is fast if few beginnings are as probable as
        the n-th document.
        """
        return list(self._documents("top", max_length, max_memory, count=checks.whole_number("n", n)))

    def above(
        self, probability: float, *, max_length: int = MAX_LENGTH, max_memory: int = MAX_MEMORY
    ) -> Iterator[tuple[Text, float]]:
        """Yield all documents whose probability is at least this, the most probable first, as in `top`.

        Parameters
        ----------
        probability
            Above 0, and at most 1.
        max_length, max_memory
            As in `top`.

        Yields
        ------
        (document, log_prob)
            As in `top`.

        Raises
        ------
        TypeError, ValueError, MemoryError
            As in `top`.
        """
        from fastrnn.inference.distribution import elementary

        probability = checks.fraction("probability", probability, one=True)
        least = elementary(self._model_file.network.backend, "log", np.array([probability]))[0]
        return self._documents("above", max_length, max_memory, least=float(least))

    def _documents(
        self, name: str, max_length: int, max_memory: int, **wanted: Any
    ) -> Iterator[tuple[Text, float]]:
        from fastrnn.inference.enumeration import Enumeration

        self._require_documents(name)
        require_no_counts(self._model_file.mixture)
        limits = {
            "max_length": checks.whole_number("max_length", max_length, minimum=0),
            "max_memory": checks.whole_number("max_memory", max_memory),
        }
        own = self._model_file
        return Enumeration(own.network, own.vocabulary, **limits, **wanted).documents()

    def guess_samples(
        self, n: int = 10_000, *, rng: Any = None, max_length: int = MAX_LENGTH
    ) -> GuessSamples:
        """Draw a sample for `guess_number`, which many calls can use.

        Parameters
        ----------
        n
            How many documents are drawn, at least 2.
        rng
            As in `sample`.
        max_length
            Documents of more symbols do not count as guesses.

        Raises
        ------
        TypeError, ValueError
            As in `top`.
        """
        from fastrnn.inference.guessing import drawn_samples

        self._require_documents("guess_samples")
        n = checks.whole_number("n", n, minimum=2)
        max_length = checks.whole_number("max_length", max_length, minimum=0)
        return drawn_samples(self._scorer(end=True, unknown="error", bits=False), n, rng, max_length)

    def guess_number(
        self,
        text: Text,
        *,
        samples: int | GuessSamples = 10_000,
        rng: Any = None,
        unknown: str | float | None = None,
    ) -> GuessNumber:
        """Estimate how many guesses find a text, such as a password, if probable texts are guessed first.

        The estimate is one more than the number of documents that are more probable than the text, which is
        estimated from a sample of the model (Dell'Amico & Filippone 2015).

        Parameters
        ----------
        text
            A document.
        samples
            How many documents are drawn, at least 2, or the result of `guess_samples` of this model.
        rng
            As in `sample`; it is not used if ``samples`` are given.
        unknown
            As in `surprisal`: a text with an unknown symbol has the guess number of its probability.

        Returns
        -------
        (guesses, standard_error)
            The estimated number of guesses, from 1 on, and its standard error. The estimate has no bias. Its
            error is small for texts that are about as probable as the drawn ones; far less probable texts
            have a larger one.

        Raises
        ------
        TypeError, ValueError
            As in `surprisal` and `top`.
        """
        self._require_documents("guess_number")
        log_probability = self.log_prob(text, end=True, unknown=unknown)
        if not isinstance(samples, GuessSamples):
            samples = self.guess_samples(checks.whole_number("samples", samples, minimum=2), rng=rng)
        return samples.guess_number(log_probability)

    def _require_documents(self, name: str) -> None:
        if not self._model_file.vocabulary.boundary:
            raise ValueError(f"{name} is for a model of documents, and this one learnt one running text")
