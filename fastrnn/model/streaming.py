"""The texts of a model that come in pieces."""

from __future__ import annotations

from fastrnn.core import checks
from fastrnn.inference.streams import Stream
from fastrnn.model.model_file import ModelFile


class Streaming(checks.Sealed):
    """The part of a model that makes streams. Internal: `fastrnn.Model` extends it."""

    _model_file: ModelFile

    def stream(self, *, unknown: str | float | None = None, state: bytes | None = None) -> Stream:
        """Return a stream: a text that comes in pieces. `fastrnn.Streams` reads many side by side.

        Parameters
        ----------
        unknown
            How a symbol that the model does not know is scored, as in `surprisal`. ``None`` is what the
            stream of ``state`` did, and without a state as in `surprisal`.
        state
            What `Stream.state` returned: the stream continues there, with the same bits as if it had not
            stopped. ``None`` is the beginning of a text.

        Returns
        -------
        fastrnn.inference.streams.Stream
            Its method ``feed`` returns the bits of the next symbols, and ``next_probabilities`` the
            probabilities of the next one. It reads with the parameters that the network has now: later
            changes do not reach it.

        Raises
        ------
        TypeError, ValueError
            ``unknown`` is out of range, or ``state`` is not bytes.
        fastrnn.CheckpointError
            The state is damaged, or is of another model.
        """
        return Stream.of(self._model_file, unknown=unknown, state=state)
