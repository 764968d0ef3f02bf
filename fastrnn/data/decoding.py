"""Decodes a text that comes in pieces of bytes, and reads it by the rules of newlines and normalization."""

from __future__ import annotations

import codecs
import io

from fastrnn.data.normalization import Normalizer


class Decoder:
    """Decodes a text in pieces, reads newlines by their rule, and normalizes.

    Its state begins with the bytes that are not decoded yet, as that of each decoder of Python. ``errors`` is
    Python's word for what to do with bytes that are not in the encoding.
    """

    def __init__(
        self, encoding: str, newlines: str, normalization: str | None, errors: str = "strict"
    ) -> None:
        decoder = codecs.getincrementaldecoder(encoding)(errors)
        self._decoder = io.IncrementalNewlineDecoder(decoder, translate=newlines == "universal")
        self._normalizer = None if normalization is None else Normalizer(normalization)

    def decode(self, data: bytes, *, final: bool) -> str:
        """The next characters."""
        text = self._decoder.decode(data, final=final)
        return text if self._normalizer is None else self._normalizer.normalize(text, final=final)

    @property
    def newlines(self) -> str | tuple[str, ...] | None:
        """The line ends so far, as ``io.IncrementalNewlineDecoder`` has them."""
        return self._decoder.newlines

    def getstate(self) -> tuple[bytes, int, str]:
        """What was read and not returned yet, and the flags of the decoder."""
        return *self._decoder.getstate(), "" if self._normalizer is None else self._normalizer.rest

    def setstate(self, state: tuple[bytes, int, str]) -> None:
        """Take what `getstate` returned."""
        data, flags, rest = state
        self._decoder.setstate((data, flags))
        if self._normalizer is not None:
            self._normalizer.rest = rest
