"""The bytes of a stream's place, for a file or a queue: what names the model, the place, and a digest.

The bytes are ``fastrnn stream 1`` and a line end, the first 16 bytes of the SHA-256 of all that follows, the
length of a header in 4 bytes, the header in JSON, and the network's state in little-endian floats. They are
the same on every machine.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from fastrnn.data.pieces import Rest
from fastrnn.errors import CheckpointError
from fastrnn.inference.place import Place
from fastrnn.inference.scoring import Scorer

KIND, VERSION = b"fastrnn stream ", b"1\n"
DIGEST_BYTES, LENGTH_BYTES = 16, 4

#: Counts of symbols are below this.
MAX_COUNT = 1 << 63

#: The most bytes of a character that is not complete.
MAX_DATA = 3


@dataclass(frozen=True)
class Identity:
    """What the bytes of a state say of its model: the network's configuration, and digests."""

    network: str
    symbols: str
    parameters: str

    @classmethod
    def of(cls, scorer: Scorer, digest: str) -> Self:
        """The identity of a scorer's model, whose parameters have this digest."""
        vocabulary = scorer.vocabulary
        reading = vocabulary.unit, vocabulary.boundary, vocabulary.newlines, vocabulary.normalization
        symbols = hashlib.sha256(repr((*reading, vocabulary.unknown)).encode())
        symbols.update(vocabulary.symbols.astype("<u4").tobytes())
        symbols.update(scorer.counts.astype("<i8").tobytes())
        shape = scorer.network.shape
        tied = ", tied" * shape.tied
        network = f"{shape.kind} {shape.L}x{shape.H}, {shape.V} symbols, embedding {shape.E}{tied}"
        return cls(f"{network}, {scorer.network.dtype}", symbols.hexdigest()[:32], digest[:32])


def packed(place: Place, unknown: str | float, identity: Identity) -> bytes:
    """The bytes of a place in a text of the model that ``identity`` names."""
    said = {**place._asdict(), "unknown": unknown, "model": asdict(identity)}
    said["rest"] = {**place.rest._asdict(), "data": place.rest.data.hex()}
    del said["state"]
    header = json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
    state = place.state.astype(place.state.dtype.newbyteorder("<")).tobytes()
    body = len(header).to_bytes(LENGTH_BYTES, "little") + header + state
    return KIND + VERSION + _digest(body) + body


def unpacked(data: Any, identity: Identity, beginning: Place, V: int) -> tuple[Place, str | float]:
    """The place that these bytes hold, and how its stream scores an unknown symbol.

    ``beginning`` is the place at the beginning of a text of the model, which has V symbols.

    Raises
    ------
    TypeError
        The state is not bytes.
    fastrnn.CheckpointError
        The bytes are damaged, not a stream's state, or of another model or version.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"state is {type(data).__name__}; it must be the bytes that Stream.state returned")
    header, state = _parts(bytes(data))
    _require_same(header.get("model"), identity)
    try:
        return _place(header, state, beginning, V), header["unknown"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError("state is damaged: its header is not one of a stream") from error


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:DIGEST_BYTES]


def _parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the bytes of the network's state."""
    start = len(KIND + VERSION)
    if not data.startswith(KIND):
        raise CheckpointError("state is not the state of a stream: Stream.state returns other bytes")
    if data[len(KIND) : start] != VERSION:
        raise CheckpointError("state has a format that this version of fastrnn cannot read")
    digest, body = data[start : start + DIGEST_BYTES], data[start + DIGEST_BYTES :]
    if digest != _digest(body):
        raise CheckpointError(
            f"state is damaged: its {len(data)} bytes do not have the digest that they state"
        )
    stop = LENGTH_BYTES + int.from_bytes(body[:LENGTH_BYTES], "little")
    try:
        header = json.loads(body[LENGTH_BYTES:stop])
    except (ValueError, RecursionError) as error:
        raise CheckpointError("state is damaged: its header is not JSON") from error
    if not isinstance(header, dict):
        raise CheckpointError("state is damaged: its header is not one of a stream")
    return header, body[stop:]


def _require_same(found: Any, identity: Identity) -> None:
    """Require the model of a state to be this one."""
    for name, own in asdict(identity).items():
        theirs = found.get(name) if isinstance(found, dict) else None
        if theirs != own:
            which = f": {theirs}, and this one is {own}" if name == "network" else ""
            raise CheckpointError(f"state is of a stream of another model: its {name} differs{which}")


def _place(header: dict[str, Any], data: bytes, beginning: Place, V: int) -> Place:
    """The place that a header and a network's state say; a value that none can have is a ``ValueError``."""
    shape, dtype = beginning.state.shape, beginning.state.dtype
    state = np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype).reshape(shape)
    rest = header["rest"]
    place = Place(
        header["before"],
        state,
        Rest(rest["begun"], rest["after_return"], bytes.fromhex(rest["data"]), rest["segment"]),
        *(header[name] for name in ("position", "n_symbols", "total_bits")),
    )
    typed = [type(value) for value in (place.before, *place[3:])] == [int, int, int, float]
    typed &= [type(value) for value in place.rest] == [bool, bool, bytes, str]
    if not (
        typed
        and min(beginning.before, 0) <= place.before < V
        and np.isfinite(state).all()
        and 0 <= place.position < MAX_COUNT
        and 0 <= place.n_symbols < MAX_COUNT
        and math.isfinite(place.total_bits)
        and len(place.rest.data) <= MAX_DATA
    ):
        raise ValueError("a value is out of range")
    return place
