"""The part of a model that generates text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Unpack

from fastrnn.core import checks, memory
from fastrnn.data.vocabulary import Text
from fastrnn.inference import beam, verbatim
from fastrnn.inference.options import Constraints, SamplingOptions
from fastrnn.inference.sampling import Sampler
from fastrnn.model.scores import Scores

#: Symbols that the first native call of `Model.sample` draws.
SAMPLED_AT_ONCE = 1 << 10

#: The bytes of memory of a text, at least.
TEXT_BYTES = 50


class Sampling(Scores):
    """The part of a model that generates text. Internal: `fastrnn.Model` extends it."""

    def sample(
        self,
        n: int,
        prime: Text | None = None,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        repetition_window: int = 64,
        no_repeat_ngram: int | None = None,
        stop: Any = None,
        allowed: Text | None = None,
        pattern: Any = None,
        valid_utf8: bool = False,
        rng: Any = None,
        unknown: str | float | None = None,
    ) -> Text:
        """Generate text. An unknown symbol is never drawn.

        The same arguments give the same text with the backends ``"c"`` and ``"numba"``, with any number of
        threads and on any processor.

        Parameters
        ----------
        n
            How many symbols. A model of documents stops earlier if the document ends.
        prime
            A text that the generated text continues; ``None`` begins a new text.
        temperature
            Logits are divided by it: below 1, probable symbols become more probable; above 1, less; 0 always
            takes the most probable symbol.
        top_k
            Only the k most probable symbols are drawn; of equal ones, those with the lower code point.
        top_p
            Only the most probable symbols are drawn that together have this probability, above 0 and at most
            1, and as few as possible (Holtzman et al. 2020); after ``top_k``.
        min_p
            Only symbols are drawn that have at least this fraction, from 0 to 1, of the most probable
            symbol's probability (Nguyen et al. 2024). All three use the probabilities at the temperature.
        repetition_penalty
            The logits of the symbols among the last ``repetition_window`` ones are divided by it if they are
            positive, else multiplied (Keskar et al. 2019); from 1 to 1,000,000. The prime counts too.
        no_repeat_ngram
            A symbol is not drawn if it ends a sequence of this many symbols that the text, or the prime, has
            already; if no other symbol may be drawn, it is.
        stop
            A text or a list of texts. The sample ends before the first of them.
        allowed
            A text of the symbols that may be drawn.
        pattern
            A regular expression, str or bytes as the text, or a compiled one. The sample matches it whole
            (`re.fullmatch`). A symbol is drawn only if a match can be completed within n symbols, so no
            sample is stuck. A running text ends if nothing may follow in the match, a document if the match
            is complete and its end is drawn. It is matched with the text as the model has it, normalized.
            `fastrnn.inference.pattern` says what is supported.
        valid_utf8
            For a model of bytes: whether the sample is always valid UTF-8. If the prime ends within a
            character, the sample completes it.
        rng
            An int, a NumPy ``Generator`` or ``RandomState``, or ``None`` for unpredictable draws. Each symbol
            takes one uniform draw, in order. The draws are made in pieces, of 1,024 at first and more later.
            If the text ends within a piece, all draws of the piece are made, but never more than n in all.
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
            model does not know; ``stop`` or ``allowed`` have one; the pattern is not supported, or no text of
            at most n symbols matches it; the model's parameters are out of range, so that its state or its
            logits overflow.
        MemoryError
            The text does not fit into memory.
        """
        scorer = self._scorer(end=False, unknown=unknown)
        pieces = self.sample_pieces(
            n, prime, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
            repetition_penalty=repetition_penalty, repetition_window=repetition_window,
            no_repeat_ngram=no_repeat_ngram, stop=stop, allowed=allowed, pattern=pattern,
            valid_utf8=valid_utf8, rng=rng, unknown=unknown, at_once=SAMPLED_AT_ONCE,
        )  # fmt: skip
        if not scorer.vocabulary.boundary and stop is None and pattern is None:  # it has n symbols
            memory.require(n, f"a text of {n} symbols")
        return scorer.vocabulary.joined_pieces(pieces)

    def sample_pieces(
        self,
        n: int,
        prime: Text | None = None,
        *,
        rng: Any = None,
        unknown: str | float | None = None,
        at_once: int = 1,
        **options: Unpack[SamplingOptions],
    ) -> Iterator[Text]:
        """Return the text of `sample` in pieces, each when it is drawn; the pieces grow. Internal."""
        scorer = self._scorer(end=False, unknown=unknown)
        sampler = Sampler.checked(scorer, n, prime, **options)
        return map(scorer.vocabulary.decode, sampler.pieces(checks.random_generator(rng), at_once))

    def sample_stream(
        self,
        n: int | None,
        prime: Text | None = None,
        *,
        rng: Any = None,
        unknown: str | float | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Iterator[Text]:
        """Return an iterator of the text of `sample`, symbol by symbol.

        The first symbols are there at once. Later, some are drawn ahead, about a thousandth of a second long.
        A symbol that may be the beginning of a ``stop`` comes when it is known not to be.

        Parameters
        ----------
        n
            How many symbols; ``None`` is no limit.
        prime, rng, unknown, options
            As in `sample`, with the same text for the same arguments. The draws are made in pieces, of 1 at
            first and of 256 later.

        Returns
        -------
        iterator of str, bytes or int32 (1)

        Raises
        ------
        TypeError, ValueError
            As in `sample`; at once, except for parameters that are out of range.
        """
        scorer = self._scorer(end=False, unknown=unknown)
        sampler = Sampler.checked(scorer, checks.MAX_WHOLE_NUMBER if n is None else n, prime, **options)
        return map(scorer.vocabulary.decode, sampler.symbols(checks.random_generator(rng)))

    def sample_many(
        self,
        count: int,
        n: int,
        prime: Text | None = None,
        *,
        unique: bool = False,
        rng: Any = None,
        unknown: str | float | None = None,
        **options: Unpack[SamplingOptions],
    ) -> list[Text]:
        """Generate many texts side by side; this takes a fraction of the time that one by one takes.

        Parameters
        ----------
        count
            How many texts.
        n, prime, unknown, options
            As in `sample`.
        unique
            Whether all texts are different: a text that is equal to an earlier one is left out, and another
            one is drawn.
        rng
            As in `sample`, but no ``RandomState``. Text i is ``sample(…, rng=numpy.random.default_rng(rng)
            .spawn(i + 1)[i])``, without ``unique``: it does not depend on how many texts there are.

        Returns
        -------
        list of str, bytes or int32 (n)

        Raises
        ------
        TypeError, ValueError
            As in `sample`; or ``unique`` is True, and 100 times as many texts have too few different ones.
        MemoryError
            The texts do not fit into memory.
        """
        memory.require(TEXT_BYTES * checks.whole_number("count", count, minimum=0), f"{count} texts")
        return list(self.sample_each(count, n, prime, unique=unique, rng=rng, unknown=unknown, **options))

    def sample_each(
        self,
        count: int,
        n: int,
        prime: Text | None = None,
        *,
        unique: bool = False,
        rng: Any = None,
        unknown: str | float | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Iterator[Text]:
        """Return the texts of `sample_many` one by one; some are drawn ahead. Internal."""
        count = checks.whole_number("count", count, minimum=0)
        unique = checks.flag("unique", unique)
        scorer = self._scorer(end=False, unknown=unknown)
        sampler = Sampler.checked(scorer, n, prime, **options)
        found = sampler.distinct_texts if unique else sampler.texts
        return map(scorer.vocabulary.decode, found(count, checks.random_generator(rng)))

    def beam_search(
        self,
        n: int,
        prime: Text | None = None,
        *,
        width: int = 8,
        count: int = 1,
        unknown: str | float | None = None,
        **constraints: Unpack[Constraints],
    ) -> list[tuple[Text, float]]:
        """Return the most probable texts that a beam search finds.

        After each symbol, the search keeps the ``width`` most probable texts that have not ended. A wider
        search may find more probable ones; if ``width`` is at least the number of texts of each length, it
        finds the most probable ones. There are no random draws.

        Parameters
        ----------
        n
            How many symbols. A text of a model of documents is shorter if the document ends.
        prime, unknown, constraints
            As in `sample`: ``allowed``, ``pattern`` and ``valid_utf8``.
        width
            How many texts are kept.
        count
            How many texts are returned, at most; at most ``width``.

        Returns
        -------
        list of (text, float)
            The texts without the prime, the most probable first, and the natural logarithm of each text's
            probability after the prime; with the document's end if the text has fewer than n symbols.

        Raises
        ------
        TypeError, ValueError
            As in `sample`; ``count`` is above ``width``.
        MemoryError
            The texts do not fit into memory.
        """
        scorer = self._scorer(end=False, unknown=unknown)
        found = beam.beam_search(scorer, n, prime, width=width, count=count, **constraints)
        return [(scorer.vocabulary.decode(ids), score) for ids, score in found]

    def verbatim_share(self, sample: Text, training_text: Any, *, length: int = 20) -> float:
        """Return the share of a sample's symbols that are copied from the training text.

        A symbol is copied if it is in a passage of at least ``length`` symbols that is in the training text.

        Parameters
        ----------
        sample
            A text. Unknown symbols count as themselves.
        training_text
            What the model was trained on: a text, a path (UTF-8, or the bytes of a model of bytes), or an
            iterable of texts, whose passages do not continue from one text to the next. A file is read in
            pieces, so its size does not matter.
        length
            The fewest symbols of a passage.

        Returns
        -------
        float
            From 0 to 1; 0 if the sample is shorter than ``length``.

        Raises
        ------
        TypeError, ValueError
            ``length`` is below 1; a text is not of the model's type; the file is not UTF-8.
        OSError
            The file cannot be read.
        """
        vocabulary = self._scorer(end=False, unknown=None).vocabulary
        return verbatim.verbatim_share(vocabulary, sample, training_text, length)
