"""Deterministic finite automata over the ids of a vocabulary: which symbols may follow in a sample.

Q states · V ids
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fastrnn.core import memory
from fastrnn.network.drawing import Automaton

#: In place of a state: the symbol may not follow.
NONE = -1

#: The most states, and the most elements of a table of transitions.
MAX_STATES, MAX_TRANSITIONS = 10_000, 1 << 25

State = TypeVar("State", bound=Hashable)

Ids = NDArray[np.int32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Dfa:
    """A deterministic automaton, which starts in state 0.

    Attributes
    ----------
    transitions
        int32 (Q, V): the state after each symbol, or NONE.
    accepting
        bool (Q): whether a text may end in the state.
    """

    transitions: Ids
    accepting: Flags

    @classmethod
    def of_any(cls, symbols: Flags) -> Dfa:
        """The automaton of all texts of these symbols (V)."""
        return cls(np.where(symbols, 0, NONE).astype(np.int32)[np.newaxis], np.ones(1, bool))

    def intersection(self, other: Dfa) -> Dfa:
        """The automaton of the texts that both accept. Its states are pairs of theirs."""

        def follow(pair: tuple[int, int]) -> Ids:
            first, second = self.transitions[pair[0]], other.transitions[pair[1]]
            return np.where(
                (first >= 0) & (second >= 0), first * np.int64(len(other.accepting)) + second, NONE
            )

        count = len(other.accepting)
        return explored(
            (0, 0),
            lambda pair: [divmod(code, count) if code >= 0 else None for code in follow(pair).tolist()],
            lambda pair: bool(self.accepting[pair[0]] and other.accepting[pair[1]]),
        )

    def with_end(self, end: int) -> Dfa:
        """The same, where the id ``end`` follows each accepting state, and nothing follows it."""
        transitions = np.append(self.transitions, np.full((1, self.transitions.shape[1]), NONE), axis=0)
        transitions[:-1, end] = np.where(self.accepting, len(self.accepting), NONE)
        return Dfa(transitions.astype(np.int32), np.append(self.accepting, True))

    def starting_at(self, state: int) -> Dfa:
        """The same, which starts in another state."""
        order = np.arange(len(self.accepting))
        order[[0, state]] = order[[state, 0]]
        moved = np.where(self.transitions >= 0, order[self.transitions], NONE)[order]
        return Dfa(moved.astype(np.int32), self.accepting[order])

    def after(self, ids: Iterable[int]) -> int:
        """The state after a text from state 0, or NONE."""
        state = 0
        for symbol in ids:
            state = int(self.transitions[state, symbol]) if state >= 0 else NONE
        return state

    def trimmed(self) -> Automaton | None:
        """The automaton without states that reach no accepting one; ``None`` if state 0 is such a state.

        The states keep their numbers; no transition leads to one that was removed.
        """
        unreachable = np.iinfo(np.int32).max
        distances = self._distances(unreachable)
        if distances[0] == unreachable:
            return None
        alive = (self.transitions >= 0) & (distances[self.transitions] < unreachable)
        return Automaton(np.where(alive, self.transitions, NONE).astype(np.int32), distances)

    def _distances(self, unreachable: int) -> Ids:
        """The fewest symbols from each state to an accepting one: a breadth-first search from those."""
        Q = len(self.accepting)
        sources, symbols = np.nonzero(self.transitions >= 0)
        before: list[list[int]] = [[] for _ in range(Q)]
        for edge in np.unique(self.transitions[sources, symbols] * np.int64(Q) + sources).tolist():
            before[edge // Q].append(edge % Q)
        distances = np.where(self.accepting, 0, unreachable).astype(np.int32)
        reached = np.flatnonzero(self.accepting).tolist()
        for state in reached:  # grows while it is read
            for source in before[state]:
                if distances[source] == unreachable:
                    distances[source] = distances[state] + 1
                    reached.append(source)
        return distances


def explored(
    start: State,
    follow: Callable[[State], Iterable[State | None]],
    accepts: Callable[[State], bool],
) -> Dfa:
    """The automaton of the states that can be reached from ``start``.

    ``follow`` returns the state after each symbol, or ``None``.

    Raises
    ------
    ValueError
        There are too many states.
    """
    numbers, states, rows = {start: 0}, [start], []
    for state in states:  # grows while it is read
        row = []
        for found in follow(state):
            if found is None:
                row.append(NONE)
                continue
            if found not in numbers:
                numbers[found] = len(states)
                states.append(found)
            row.append(numbers[found])
        rows.append(row)
        require_size(len(states), len(row))
    return Dfa(np.array(rows, np.int32), np.array([accepts(state) for state in states], bool))


def require_size(Q: int, V: int) -> None:
    """Refuse an automaton of so many states that it is too large."""
    if Q > MAX_STATES or Q * V > MAX_TRANSITIONS:
        raise ValueError(
            f"the automaton of the pattern has more than {min(MAX_STATES, MAX_TRANSITIONS // max(1, V)):,} "
            "states: make the pattern shorter, or its repetitions fewer"
        )
    memory.require(16 * Q * V, f"an automaton of {Q} states")


def utf_8() -> Dfa:
    """The automaton of valid UTF-8 over the 256 bytes (RFC 3629, section 4).

    State 0 is between characters. In states 1 to 3, so many continuation bytes are missing. The other states
    follow a first byte after which some second bytes are not allowed.
    """
    continuation = slice(0x80, 0xC0)
    transitions = np.full((8, 256), NONE, np.int32)
    transitions[0, 0x00:0x80] = 0
    transitions[0, 0xC2:0xE0] = 1
    transitions[0, 0xE1:0xF0] = 2
    transitions[0, 0xF1:0xF4] = 3
    for missing in (1, 2, 3):
        transitions[missing, continuation] = missing - 1
    limited = [
        (0xE0, 4, 0xA0, 0xC0, 1),
        (0xED, 5, 0x80, 0xA0, 1),
        (0xF0, 6, 0x90, 0xC0, 2),
        (0xF4, 7, 0x80, 0x90, 2),
    ]
    for first, state, lowest, end, missing in limited:
        transitions[0, first] = state
        transitions[state, lowest:end] = missing
    return Dfa(transitions, np.arange(8) == 0)
