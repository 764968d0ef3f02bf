"""A stream: a text of a model that comes in pieces.

n symbols · V vocabulary
"""

from __future__ import annotations

from typing import Any, Self

from fastrnn.data.vocabulary import Text
from fastrnn.inference.distribution import by_symbol
from fastrnn.inference.place import Place
from fastrnn.inference.reader import Reader, Trained
from fastrnn.inference.scoring import Floats, Scorer
from fastrnn.inference.stream_state import packed, unpacked


class Stream:
    """A text of a model that comes in pieces; `fastrnn.Model.stream` returns one.

    However a text is cut into pieces, its bits are those that `fastrnn.Model.surprisal` gives for the whole,
    bit for bit with the backends c and numba. An error leaves the stream as it was. Streams of one model can
    be used in several threads, each stream in one at a time.

    A stream reads with the parameters that the network had when the stream was made. Later changes of them
    do not reach it.

    Attributes
    ----------
    n_symbols
        The number of bits that were returned so far, over all texts. Those are the symbols that were scored,
        and the ends of documents.
    total_bits
        The sum of these bits, added in their order.
    unknown
        How a symbol that the model does not know is scored.
    """

    __slots__ = ("_place", "_reader")

    def __init__(self, reader: Reader, place: Place) -> None:
        self._reader, self._place = reader, place

    @classmethod
    def of(cls, model: Trained, *, unknown: str | float | None = None, state: bytes | None = None) -> Self:
        """The stream that `fastrnn.Model.stream` returns."""
        reader = Reader.of(model, unknown)
        if state is None:
            return cls(reader, reader.beginning)
        place, stored = unpacked(state, reader.identity, reader.beginning, reader.vocabulary.size)
        return cls(reader if unknown is not None else Reader.of(model, stored), place)

    @property
    def n_symbols(self) -> int:
        """How many bits were returned so far."""
        return self._place.n_symbols

    @property
    def total_bits(self) -> float:
        """The sum of the bits that were returned so far."""
        return self._place.total_bits

    @property
    def unknown(self) -> str | float:
        """How a symbol that the model does not know is scored."""
        return self._reader.scorer.unknown

    def feed(self, text: Text) -> Floats:
        """Read the next piece of the text.

        Parameters
        ----------
        text
            A str or bytes of UTF-8 for a model of characters, bytes for one of bytes, whole numbers (n) for
            one of tokens. A character of UTF-8, or CR LF, may be cut anywhere. With ``newlines="universal"``,
            CR is read as LF at once, and an LF after it belongs to it.

        Returns
        -------
        float64 (n)
            The bits of each symbol of the piece, given all symbols before it. The symbols of a character of
            UTF-8 that is not complete, and of the last segment of a text that the model normalizes, come with
            the next piece, or with `end`.

        Raises
        ------
        TypeError
            The text is not of the model's type.
        ValueError
            The text has a symbol that the model does not know, or bytes that are not UTF-8, and the stream
            was made with ``unknown="error"``. With another value, each such byte is an unknown symbol. Or a
            str follows bytes that end within a character; or bits are not finite, because the model's
            parameters are out of range.
        """
        bits, self._place = self._reader.read(self._place, text)
        return bits

    def end(self) -> Floats:
        """End the text, and begin the next one.

        Returns
        -------
        float64 (n)
            The bits of the symbols that were not complete, and, in a model of documents, of the document's
            end. In a model of one running text there are none if no symbol was left.

        Raises
        ------
        ValueError
            As in `feed`.
        """
        bits, self._place = self._reader.end(self._place)
        return bits

    def next_probabilities(self) -> Floats:
        """The probability of each symbol to be the next one, float64 (V), by id; their sum is 1.

        They are computed from the same logits as the bits, and have the same bits on every machine. What was
        fed and is not complete does not count. ``surprisal`` computes in the network's precision, so its bits
        may differ from ``-log2 p`` in the last digits. The unknown symbol and the end of a document follow
        the others.

        Raises
        ------
        ValueError
            The model's parameters are out of range: its state or its logits overflow.
        """
        return self._reader.next_probabilities(self._place)

    def next_distribution(self) -> dict[Any, float]:
        """The probabilities of `next_probabilities` by symbol, the most probable first.

        A symbol is a str or bytes of length 1, or the number of a token. ``"<unknown>"`` is the unknown
        symbol, and ``"<end>"`` the end of a document.
        """
        return by_symbol(self._reader.vocabulary, self.next_probabilities())

    def state(self) -> bytes:
        """Return what `fastrnn.Model.stream` needs to continue the stream elsewhere, also in another process.

        The bytes hold the network's state, what is not complete, the attributes, and digests of the model and
        of themselves: about 500 bytes and the numbers of the state. They are the same on every machine.
        """
        return packed(self._place, self.unknown, self._reader.identity)

    def copy(self) -> Stream:
        """Return a stream that continues this one on its own, for branching; this costs almost nothing."""
        return Stream(self._reader, self._place)

    __copy__ = copy

    def __deepcopy__(self, memo: object) -> Stream:
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_pickle, (self._reader.scorer, self.state())

    def __repr__(self) -> str:
        return f"<fastrnn.Stream: {self.n_symbols:,} symbols, {self.total_bits:.1f} bits>"


def _from_pickle(scorer: Scorer, state: bytes) -> Stream:
    return Stream.of(scorer, state=state)
