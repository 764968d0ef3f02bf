r"""Regular expressions over a vocabulary, as deterministic automata.

Python's own parser reads the pattern, and `re` itself says which symbols each class of characters has, so a
pattern has the meaning that it has for `re.fullmatch`. From the syntax tree comes Thompson's automaton
(Thompson 1968), and from that the deterministic one by the subset construction (Rabin & Scott 1959). The
libraries for this (interegular, greenery) have parsers of their own, which read some patterns differently.

Supported: characters, classes, ``.``, escapes such as ``\d``, alternatives, groups, the repetitions ``*``,
``+``, ``?`` and ``{m,n}``, also lazy ones, the flags ``(?aiLsux)``, comments, and the anchors ``^``, ``$``,
``\A`` and ``\Z`` at the ends of the pattern. Backreferences, conditions, lookarounds, word boundaries,
atomic groups and possessive repetitions are refused.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.core import checks
from fastrnn.inference.automaton import MAX_STATES, Dfa, explored, require_size

# They have no stubs: since Python 3.11 they are the parts of the package re.
_parser: Any = importlib.import_module("re._parser")
_compiler: Any = importlib.import_module("re._compiler")

#: What is refused, by the name that the parser gives it.
REFUSED = {
    "ASSERT": "a lookahead or lookbehind, (?=…) or (?<=…)",
    "ASSERT_NOT": "a negative lookahead or lookbehind, (?!…) or (?<!…)",
    "GROUPREF": r"a backreference, \1 or (?P=name)",
    "GROUPREF_EXISTS": "a condition, (?(1)…|…)",
    "ATOMIC_GROUP": "an atomic group, (?>…)",
    "POSSESSIVE_REPEAT": "a possessive repetition, such as *+",
    "AT": r"^, $, \b or another anchor elsewhere than at the ends of the pattern",
}

#: The anchors that say nothing at the beginning and at the end of a pattern that matches a whole text.
BEGINNINGS, ENDS = {"AT_BEGINNING", "AT_BEGINNING_STRING"}, {"AT_END", "AT_END_STRING"}


def compiled(pattern: Any, symbols: Sequence[str] | Sequence[bytes], V: int) -> Dfa:
    """The automaton over V ids of the texts that match a whole pattern.

    Parameters
    ----------
    pattern
        A str or bytes as the symbols are, or what `re.compile` makes of it.
    symbols
        The symbols of the ids from 0 on; the other ids never follow.

    Raises
    ------
    TypeError
        The pattern is of another type.
    ValueError
        It is no regular expression; it has something that is not supported; its automaton is too large.
    """
    flags = 0
    if isinstance(pattern, re.Pattern):
        pattern, flags = pattern.pattern, pattern.flags
    kind = type(symbols[0]) if symbols else str
    if not isinstance(pattern, kind):
        raise TypeError(f"pattern={checks.shown(pattern)} must be {kind.__name__} or a compiled one of it")
    try:
        tree = _parser.parse(pattern, flags)
        return _Construction(pattern, symbols, V, tree.state.flags).of_tree(tree)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"pattern={checks.shown(pattern)} is no regular expression: {error}") from None
    except ValueError as error:
        raise ValueError(f"pattern={checks.shown(pattern)}: {error}") from None


class _Construction:
    """Thompson's automaton of a pattern: its states are numbers, and it has one start and one end."""

    def __init__(self, pattern: Any, symbols: Sequence[Any], V: int, flags: int) -> None:
        self._pattern, self._symbols, self._V, self._flags = pattern, symbols, V, flags
        self._classes: dict[str, int] = {}
        self._members: list[NDArray[np.bool_]] = []
        self._empty: list[list[int]] = []  # the states that each state reaches without a symbol
        self._edges: list[list[tuple[int, int]]] = []  # a class of symbols, and the state after it

    def of_tree(self, tree: Any) -> Dfa:
        """The deterministic automaton of the whole pattern."""
        items = list(tree)
        while items and str(items[0][0]) == "AT" and str(items[0][1]) in BEGINNINGS:
            items.pop(0)
        while items and str(items[-1][0]) == "AT" and str(items[-1][1]) in ENDS:
            items.pop()
        end = self._sequence(items, self._new_state(), self._flags)
        return self._determinized(end)

    def _new_state(self) -> int:
        self._empty.append([])
        self._edges.append([])
        if len(self._empty) > 2 * MAX_STATES:
            require_size(len(self._empty), self._V)
        return len(self._empty) - 1

    def _sequence(self, items: Any, state: int, flags: int) -> int:
        """Add items one after the other from a state; return the state after them."""
        for operator, argument in items:
            state = self._item(str(operator), argument, (operator, argument), state, flags)
        return state

    def _item(self, name: str, argument: Any, item: Any, state: int, flags: int) -> int:
        if name in REFUSED:
            raise ValueError(f"{REFUSED[name]}, is not supported")
        if name == "BRANCH":
            return self._joined([self._sequence(some, state, flags) for some in argument[1]])
        if name == "SUBPATTERN":
            _, added, removed, some = argument
            return self._sequence(some, state, (flags | added) & ~removed)
        if name in {"MAX_REPEAT", "MIN_REPEAT"}:
            lowest, highest, some = argument
            return self._repeated(lowest, highest, some, state, flags)
        after = self._new_state()
        self._edges[state].append((self._class_of(item, flags), after))
        return after

    def _repeated(self, lowest: int, highest: int, items: Any, state: int, flags: int) -> int:
        for _ in range(lowest):
            before, state = state, self._sequence(items, state, flags)
            if state == before:  # the items are empty
                return state
        if highest is _parser.MAXREPEAT:
            start = self._joined([state])
            self._empty[self._sequence(items, start, flags)].append(start)
            return start
        exits = [state]
        for _ in range(highest - lowest):
            exits.append(self._sequence(items, exits[-1], flags))
            if exits[-1] == exits[-2]:
                return state
        return self._joined(exits)

    def _joined(self, states: list[int]) -> int:
        """A new state that these reach without a symbol."""
        joined = self._new_state()
        for state in states:
            self._empty[state].append(joined)
        return joined

    def _class_of(self, item: Any, flags: int) -> int:
        """The number of a class of symbols: those that `re` says the item matches."""
        key = f"{item} {flags}"
        if key not in self._classes:
            state = _parser.State()
            state.flags, state.str = flags, self._pattern
            matches = _compiler.compile(_parser.SubPattern(state, [item])).fullmatch
            members = np.zeros(self._V, bool)
            members[: len(self._symbols)] = [matches(symbol) is not None for symbol in self._symbols]
            self._classes[key] = len(self._members)
            self._members.append(members)
        return self._classes[key]

    def _determinized(self, end: int) -> Dfa:
        """The subset construction. Symbols that are in the same classes share a column."""
        members = np.array(self._members).reshape(len(self._members), self._V)
        kinds, column = np.unique(members, axis=1, return_inverse=True)
        closed = _Closure(self._empty)

        def follow(states: frozenset[int]) -> list[frozenset[int] | None]:
            edges = [edge for state in states for edge in self._edges[state]]
            found = []
            for k in range(kinds.shape[1]):
                after = [target for number, target in edges if kinds[number, k]]
                found.append(closed.of(after) if after else None)
            return found

        narrow = explored(closed.of([0]), follow, lambda states: end in states)
        require_size(len(narrow.accepting), self._V)
        return Dfa(narrow.transitions[:, column.reshape(-1)], narrow.accepting)


class _Closure:
    """The sets of states that some states reach without a symbol."""

    def __init__(self, empty: list[list[int]]) -> None:
        self._empty = empty

    def of(self, states: Sequence[int]) -> frozenset[int]:
        found, left = set(states), list(states)
        while left:
            new = [state for state in self._empty[left.pop()] if state not in found]
            found.update(new)
            left.extend(new)
        return frozenset(found)
