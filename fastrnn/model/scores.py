"""The scores that a model gives texts: bits of each symbol, and numbers that are computed from them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sized
from typing import overload

import numpy as np
from numpy.typing import NDArray

from fastrnn.core import checks
from fastrnn.core.progress_bar import counted
from fastrnn.data.vocabulary import Text
from fastrnn.inference import sums
from fastrnn.inference.mixture import adapting, require_no_counts
from fastrnn.inference.scoring import Named, Piece, Scorer
from fastrnn.model.model_file import ModelFile
from fastrnn.model.texts import named_texts


class Scores(checks.Sealed):
    """The part of a model that scores texts. Internal: `fastrnn.Model` extends it."""

    _model_file: ModelFile

    def _scorer(self, *, end: bool, unknown: str | float | None, bits: bool = True) -> Scorer:
        """The scorer of the network alone, for what does not know counts yet."""
        own = self._model_file
        require_no_counts(own.mixture)
        return Scorer.checked(own.network, own.vocabulary, own.counts, end=end, unknown=unknown, bits=bits)

    def _mixed_scorer(
        self,
        *,
        end: bool,
        unknown: str | float | None,
        bits: bool = True,
        adapt: str | None = None,
        carry: bool = False,
    ) -> Scorer:
        own = self._model_file
        parts, mixed = (own.network, own.vocabulary, own.counts), adapting(own.mixture, adapt, carry=carry)
        return Scorer.checked(*parts, end=end, unknown=unknown, bits=bits, mixture=mixed)

    def surprisal(
        self,
        text: Text,
        *,
        end: bool = False,
        unknown: str | float | None = None,
        adapt: str | None = None,
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
        adapt
            What goes on learning as the text is read: ``"counts"`` are those of a model with a
            ``count_order``, which then also counts what it reads, and whose gate learns on; the model itself
            does not change. No symbol is scored with knowledge of itself or of what follows. ``None``:
            nothing learns.

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
            symbol; ``adapt`` is given, and the model has no counts; or a symbol's bits are not finite,
            because the model's parameters are out of range.
        """
        return self._mixed_scorer(end=end, unknown=unknown, adapt=adapt).of_text(text)

    @overload
    def score_many(  # type: ignore[overload-overlap]  # a Collection is an Iterable too
        self,
        texts: Collection[Text],
        *,
        end: bool = ...,
        unknown: str | float | None = ...,
        adapt: str | None = ...,
        carry: bool = ...,
        progress: bool = ...,
    ) -> list[NDArray[np.float64]]: ...

    @overload
    def score_many(
        self,
        texts: Iterable[Text],
        *,
        end: bool = ...,
        unknown: str | float | None = ...,
        adapt: str | None = ...,
        carry: bool = ...,
        progress: bool = ...,
    ) -> Iterator[NDArray[np.float64]]: ...

    def score_many(
        self,
        texts: Iterable[Text],
        *,
        end: bool = False,
        unknown: str | float | None = None,
        adapt: str | None = None,
        carry: bool = False,
        progress: bool = False,
    ) -> list[NDArray[np.float64]] | Iterator[NDArray[np.float64]]:
        """Return the bits that `surprisal` returns for each of many texts; this is faster than one by one.

        Parameters
        ----------
        texts
            An iterable of texts, or a column of pandas, polars or Arrow. An open file gives its lines,
            without their ends.
        end, unknown, adapt
            As in `surprisal`. Each text is read with the model as it was trained.
        carry
            Whether what is learnt from a text, with ``adapt``, is carried on to those after it.
        progress
            Whether a bar on stderr counts the texts. Without a terminal or notebook, the log does.

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
        progress = checks.flag("progress", progress)
        values, named = named_texts("texts", texts, "text")
        scorer = self._mixed_scorer(end=end, unknown=unknown, adapt=adapt, carry=carry)
        if isinstance(texts, Sized) and not progress:
            return scorer.of_list(values, named)
        scores = scorer.of_iterator(values, named)
        if progress:
            scores = counted(scores, len(texts) if isinstance(texts, Sized) else None, "text")
        return list(scores) if isinstance(texts, Sized) else scores

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
        self._model_file.vocabulary.encode(text, unknown="skip")  # this checks its type
        return self._model_file.vocabulary.offsets(text)

    def score_pieces(
        self,
        pieces: Iterable[Piece],
        named: Named,
        *,
        unknown: str | float | None = None,
        adapt: str | None = None,
    ) -> Iterator[NDArray[np.float64]]:
        """Yield an array of bits for each piece of texts, with the ends of documents. Internal.

        What is learnt from a text, with ``adapt``, is carried on.
        """
        end, carry = self._model_file.vocabulary.boundary, adapt is not None
        return self._mixed_scorer(end=end, unknown=unknown, adapt=adapt, carry=carry).of_pieces(pieces, named)

    def log_prob(
        self,
        text: Text,
        *,
        end: bool = False,
        unknown: str | float | None = None,
        adapt: str | None = None,
    ) -> float:
        """Return the natural logarithm of the text's probability; arguments and errors as in `surprisal`."""
        scorer = self._mixed_scorer(end=end, unknown=unknown, bits=False, adapt=adapt)
        return 0 - sums.finite(sums.total(scorer.of_text(text)))

    def bits_per_symbol(
        self,
        text: Text,
        *,
        end: bool = False,
        unknown: str | float | None = None,
        adapt: str | None = None,
    ) -> float:
        """Return the mean bits of a text's symbols; arguments and errors as in `surprisal`.

        A text without symbols, or whose symbols are all skipped, is a ``ValueError``.
        """
        bits = self.surprisal(text, end=end, unknown=unknown, adapt=adapt)
        return sums.mean(bits, bits.size, text)

    def bits_per_byte(
        self,
        text: Text,
        *,
        end: bool = False,
        unknown: str | float | None = None,
        adapt: str | None = None,
    ) -> float:
        """Return the bits of a text, divided by the number of its bytes in UTF-8.

        The bytes are those of the text as the model reads it: a CR LF that is read as LF has one byte, and a
        symbol that is skipped has none. With ``end``, the document's end has one, as the end of a line.
        Arguments and errors are those of `bits_per_symbol`; tokens have no bytes, which is a ``ValueError``.
        """
        bits = self.surprisal(text, end=end, unknown=unknown, adapt=adapt)
        n_bytes = self._model_file.vocabulary.count_bytes(
            self._model_file.vocabulary.as_read(text), unknown=unknown
        )
        return sums.mean(bits, n_bytes + end, text)

    def perplexity(
        self,
        text: Text,
        *,
        end: bool = False,
        unknown: str | float | None = None,
        adapt: str | None = None,
    ) -> float:
        """Return ``2 ** bits_per_symbol``; arguments and errors as in `bits_per_symbol`."""
        return sums.perplexity(self.bits_per_symbol(text, end=end, unknown=unknown, adapt=adapt))
