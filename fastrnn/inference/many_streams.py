"""Many streams of a model, whose states are in one array and which are read side by side.

B streams of a call · C streams that fit · Z arrays of a state · L layers · H hidden units
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from fastrnn.core import checks, memory
from fastrnn.data.pieces import BEGUN, NOTHING, Rest
from fastrnn.data.vocabulary import Text
from fastrnn.inference.place import Place, added
from fastrnn.inference.reader import Reader, Trained
from fastrnn.inference.scoring import Floats, Ids
from fastrnn.inference.stream_state import unpacked
from fastrnn.inference.streams import Stream
from fastrnn.inference.sums import finite
from fastrnn.network.execution import Array

#: The room that is made for streams at first; it doubles when it is full.
FIRST_ROOM = 16

#: Bytes of a stream's last symbol and counts.
BYTES_OF_COUNTS = 4 + 4 * 8

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """The places of C streams, as arrays; see `Place`. The rests are elsewhere.

    Attributes
    ----------
    states
        (Z, L, 2C, H): two places for each stream, of which one has its state. The other is for the next one.
    side
        int64 (C): which of the two places has the state, 0 or 1.
    before
        int32 (C).
    position, n_symbols
        int64 (C).
    total_bits
        float64 (C).
    """

    states: Array
    side: Numbers
    before: Ids
    position: Numbers
    n_symbols: Numbers
    total_bits: Floats

    @classmethod
    def empty(cls, beginning: Place) -> Self:
        """Room for no stream."""
        numbers = np.empty(0, np.int64)
        states, before = beginning.state[:, :, :0], np.empty(0, np.int32)
        return cls(states, numbers, before, numbers, numbers, np.empty(0))

    @property
    def room(self) -> int:
        """C."""
        return len(self.before)

    def with_room(self, room: int) -> Rows:
        """A copy with more room."""
        more = room - self.room
        Z, L, _, H = self.states.shape
        memory.require(room * (2 * Z * L * H * self.states.itemsize + BYTES_OF_COUNTS), f"{room:,} streams")
        states = np.concatenate([self.states, np.zeros((Z, L, 2 * more, H), self.states.dtype)], axis=2)
        others = self.side, self.before, self.position, self.n_symbols, self.total_bits
        return Rows(states, *(np.concatenate([array, np.zeros(more, array.dtype)]) for array in others))

    def places_of_states(self, slots: Numbers) -> Numbers:
        """Where the states of some streams are."""
        return 2 * slots + self.side[slots]

    def place(self, slot: int, rest: Rest) -> Place:
        """The place of one stream."""
        at = 2 * slot + int(self.side[slot])
        state = np.ascontiguousarray(self.states[:, :, at : at + 1])
        counted = int(self.position[slot]), int(self.n_symbols[slot]), float(self.total_bits[slot])
        return Place(int(self.before[slot]), state.copy(), rest, *counted)

    def put(self, slot: int, place: Place) -> None:
        """Set the place of one stream."""
        self.states[:, :, 2 * slot + self.side[slot]] = place.state[:, :, 0]
        self.before[slot], self.position[slot] = place.before, place.position
        self.n_symbols[slot], self.total_bits[slot] = place.n_symbols, place.total_bits


class Streams:
    """Many texts of a model that come in pieces, each with a key; they are read side by side.

    The bits are those of a `Stream` for each text, bit for bit with the backends c and numba. Many streams
    that are fed in one call take much less time than one by one. An error leaves all streams as they were.
    Several threads can use one object; their calls run one after the other. As in a `Stream`, later changes
    of the network's parameters do not reach the streams.

    Parameters
    ----------
    model
        A `fastrnn.Model`.
    unknown
        As in `fastrnn.Model.surprisal`, for all streams.

    Raises
    ------
    TypeError
        ``model`` is no model, or ``unknown`` is of the wrong type.
    ValueError
        ``unknown`` is out of range.

    Notes
    -----
    ``len(streams)`` is how many are open, ``key in streams`` whether one is, and iterating gives their keys.
    A stream takes as much memory as the network's state and about 200 bytes.
    """

    def __init__(self, model: Trained, *, unknown: str | float | None = None) -> None:
        if not isinstance(model, Trained):
            raise TypeError(f"model is {type(model).__name__}; it must be a fastrnn.Model")
        self._reader = Reader.of(model, unknown)
        self._lock = Lock()
        self._slots: dict[Hashable, int] = {}
        self._free: list[int] = []
        #: What each stream has left, by slot, if it is not `BEGUN`.
        self._rests: dict[int, Rest] = {}
        self._rows = Rows.empty(self._reader.beginning)

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, key: object) -> bool:
        return key in self._slots

    def __iter__(self) -> Iterator[Hashable]:
        return iter(list(self._slots))

    def add(self, key: Hashable, *, state: bytes | None = None) -> None:
        """Open a stream at the beginning of a text, or where a `state` was stored.

        Parameters
        ----------
        key
            Any hashable value that no open stream has.
        state
            What `state` or `Stream.state` returned. How it scored an unknown symbol is not taken from it.

        Raises
        ------
        TypeError
            The key is not hashable, or the state is not bytes.
        ValueError
            A stream with this key is open.
        fastrnn.CheckpointError
            The state is damaged, or of another model.
        MemoryError
            The stream does not fit into memory.
        """
        reader, place = self._reader, self._reader.beginning
        if state is not None:
            place, _ = unpacked(state, reader.identity, reader.beginning, reader.vocabulary.size)
        with self._lock:
            if key in self._slots:
                raise ValueError(f"key={checks.shown(key)} is that of an open stream; drop it first")
            if not self._free:
                room = self._rows.room
                self._rows = self._rows.with_room(max(FIRST_ROOM, 2 * room))
                self._free = list(range(self._rows.room - 1, room - 1, -1))
            self._slots[key] = slot = self._free.pop()
            self._rows.put(slot, place)
            self._keep_rests([slot], [place.rest])

    def __copy__(self) -> NoReturn:
        raise TypeError("Streams cannot be copied; `stream` and `state` copy one of them")

    def __reduce__(self) -> NoReturn:
        raise TypeError("Streams cannot be pickled; `state` gives the bytes of one, which `add` takes")

    def drop(self, key: Hashable) -> None:
        """Close a stream. A key that no open stream has is a ``ValueError``."""
        with self._lock:
            slot = int(self._slots_of([key])[0])
            del self._slots[key]
            self._rests.pop(slot, None)
            self._free.append(slot)

    def feed(self, texts: Mapping[Hashable, Text]) -> dict[Hashable, Floats]:
        """Read the next piece of some of the texts.

        Parameters
        ----------
        texts
            A mapping from the keys of open streams to their next pieces, each as in `Stream.feed`. They may
            have different lengths.

        Returns
        -------
        dict of float64 (n)
            What `Stream.feed` returns for each piece, by key, in the order of ``texts``.

        Raises
        ------
        TypeError, ValueError
            As in `Stream.feed`; the message begins with the key. ``texts`` is no mapping, or has a key that
            no open stream has.
        """
        if not isinstance(texts, Mapping):
            raise TypeError(f"texts is {type(texts).__name__}; it must be a mapping from keys to texts")
        with self._lock:
            keys = list(texts)
            slots = self._slots_of(keys)
            return self._read(keys, slots, *self._encoded(keys, slots, list(texts.values())))

    def end(self, keys: Iterable[Hashable]) -> dict[Hashable, Floats]:
        """End some of the texts, and begin the next ones; returns what `Stream.end` returns, by key.

        A key that no open stream has is a ``ValueError``.
        """
        if isinstance(keys, str | bytes) or not isinstance(keys, Iterable):
            raise TypeError(f"keys={checks.shown(keys)} must be an iterable of keys, such as a list")
        with self._lock:
            keys = list(dict.fromkeys(keys))
            slots = self._slots_of(keys)
            beginning = self._reader.beginning
            nothing = self._reader.vocabulary.joined([])
            ids, lengths, rests = self._encoded_each(keys, slots, [nothing] * len(keys), final=True)
            boundary = self._reader.vocabulary.boundary_id
            if boundary is not None:
                ids, lengths = np.insert(ids, np.cumsum(lengths), boundary), lengths + 1
            found = self._read(keys, slots, ids, lengths, rests)
            self._rows.before[slots], self._rows.position[slots] = beginning.before, 0
            self._rows.states[:, :, self._rows.places_of_states(slots)] = 0
            self._keep_rests(slots.tolist(), [NOTHING] * len(slots))
            return found

    def stream(self, key: Hashable) -> Stream:
        """Return a `Stream` that continues a text on its own.

        A key that no open stream has is a ``ValueError``.
        """
        with self._lock:
            slot = int(self._slots_of([key])[0])
            return Stream(self._reader, self._rows.place(slot, self._rests.get(slot, BEGUN)))

    def state(self, key: Hashable) -> bytes:
        """Return what `add` and `fastrnn.Model.stream` need to continue a text; see `Stream.state`."""
        return self.stream(key).state()

    def _slots_of(self, keys: list[Hashable]) -> Numbers:
        """The slot of each key (B)."""
        try:
            return np.fromiter(map(self._slots.__getitem__, keys), np.int64, len(keys))
        except KeyError as error:
            raise ValueError(
                f"{checks.shown(error.args[0])} is the key of no open stream; add it first"
            ) from None

    def _keep_rests(self, slots: list[int], rests: list[Rest]) -> None:
        for slot, rest in zip(slots, rests, strict=True):
            if rest is BEGUN:
                self._rests.pop(slot, None)
            else:
                self._rests[slot] = rest

    def _encoded(
        self, keys: list[Hashable], slots: Numbers, texts: list[Any]
    ) -> tuple[Ids, Numbers, list[Rest]]:
        """The ids of some texts, joined; how many each has; what each leaves, or nothing if it is `BEGUN`."""
        vocabulary = self._reader.vocabulary
        if vocabulary.unit != "character" or self._are_read_as_they_are(slots):
            try:
                joined: Any = vocabulary.joined(texts)
                lengths = np.fromiter(map(len, texts), np.int64, len(texts))
                returns = vocabulary.newlines == "universal" and isinstance(joined, str) and "\r" in joined
                if not returns and len(joined) == lengths.sum():
                    return vocabulary.encode_as_is(joined, unknown=self._reader.scorer.unknown), lengths, []
            except (TypeError, ValueError):
                pass  # the error comes below, with the key
        return self._encoded_each(keys, slots, texts)

    def _are_read_as_they_are(self, slots: Numbers) -> bool:
        """Whether texts of characters without CR are read as they are, and leave nothing."""
        if self._reader.vocabulary.normalization is not None:
            return False
        return not self._rests or self._rests.keys().isdisjoint(slots.tolist())

    def _encoded_each(
        self, keys: list[Hashable], slots: Numbers, texts: list[Any], *, final: bool = False
    ) -> tuple[Ids, Numbers, list[Rest]]:
        """Do `_encoded` one by one; ``final`` ends the texts."""
        found, rests = [np.empty(0, np.int32)], []
        positions = self._rows.position[slots].tolist()
        for key, slot, text, position in zip(keys, slots.tolist(), texts, positions, strict=True):
            try:
                ids, rest = self._reader.encode(text, self._rests.get(slot, BEGUN), position, final=final)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{checks.shown(key)}: {error}") from None
            found.append(ids)
            rests.append(rest)
        return np.concatenate(found), np.array([len(ids) for ids in found[1:]], np.int64), rests

    def _read(
        self, keys: list[Hashable], slots: Numbers, ids: Ids, lengths: Numbers, rests: list[Rest]
    ) -> dict[Hashable, Floats]:
        """The bits of some texts, whose places then change."""
        reader, rows = self._reader, self._rows
        known, known_lengths, ends = ids, lengths, np.cumsum(lengths)
        if reader.scorer.unknown not in {"error", "symbol"}:
            is_known = ids >= 0
            so_far = np.append(0, np.cumsum(is_known))
            known, known_lengths = ids[is_known], so_far[ends] - so_far[ends - lengths]
        bits, totals, before = self._bits(slots, known, known_lengths)
        bits = reader.with_unknown(bits, ids)
        scored = known_lengths if reader.scorer.unknown == "skip" else lengths
        each = _cut(bits, scored)
        if len(bits) > len(known):
            earlier = rows.total_bits[slots].tolist()
            totals = np.array([added(total, some) for total, some in zip(earlier, each, strict=True)])
        if not np.isfinite(totals).all():
            self._refuse(keys, slots, np.split(ids, ends[:-1]), totals)
        rows.before[slots], rows.total_bits[slots] = before, totals
        rows.side[slots] ^= 1
        rows.position[slots] += lengths
        rows.n_symbols[slots] += scored
        if rests:
            self._keep_rests(slots.tolist(), rests)
        return dict(zip(keys, each, strict=True))

    def _bits(self, slots: Numbers, ids: Ids, lengths: Numbers) -> tuple[Floats, Floats, Ids]:
        """The bits of known ids, joined; by stream, the totals and the last ids."""
        reader, rows = self._reader, self._rows
        before, totals, bits = rows.before[slots], rows.total_bits[slots], np.empty(len(ids))
        ends = np.cumsum(lengths)
        begins, last = ends - lengths, lengths > 0
        fresh = (before < 0) & last  # the beginnings of running texts
        heads = ids[begins[fresh]]
        bits[begins[fresh]], before[fresh] = reader.first_bits[heads], heads
        totals[fresh] += reader.first_bits[heads]
        places = rows.places_of_states(slots)
        reader.snapshot.read_rows(
            bits, totals, before, rows.states, places, ids, begins + fresh, lengths - fresh
        )
        before[last] = ids[ends[last] - 1]
        return bits, totals, before

    def _refuse(self, keys: list[Hashable], slots: Numbers, ids: list[Ids], totals: Floats) -> None:
        """Raise the error of the first stream whose bits are not finite."""
        at = int(np.argmin(np.isfinite(totals)))
        try:
            self._reader.read_ids(self._rows.place(int(slots[at]), BEGUN), ids[at], BEGUN)
            finite(totals[at])
        except ValueError as error:
            raise ValueError(f"{checks.shown(keys[at])}: {error}") from None


def _cut(bits: Floats, lengths: Numbers) -> list[Floats]:
    """Cut an array into parts of these lengths."""
    if (lengths == 1).all():
        return list(bits[:, np.newaxis])
    stops = np.cumsum(lengths).tolist()
    return [bits[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]
