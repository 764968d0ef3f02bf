"""The reference of the kernels of counts: a table is read as a dictionary of dictionaries."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn.core.constants import (
    BAD_SIZE,
    BAD_SYMBOL,
    CHILD,
    CLOCK,
    COLUMNS,
    COUNT,
    DISTINCT,
    FLOOR,
    LEVELS,
    LIMIT,
    MADE,
    OK,
    PARENT,
    READ,
    SEEN,
    SIBLING,
    SYMBOL,
    TABLE,
    TOTAL,
    USED,
)

Floats = NDArray[np.float64]
Ids = NDArray[np.int32]
Sizes = NDArray[np.int64]

MOST_ORDERS = COLUMNS - 1


@dataclass
class Table:
    """The arrays of a table, and the children of each node by symbol; the slots are not used."""

    nodes: Ids
    numbers: Sizes

    def __post_init__(self) -> None:
        self.children: dict[int, dict[int, int]] = {}
        for node in range(1, int(self.numbers[USED])):
            parent, symbol = map(int, self.nodes[node, [PARENT, SYMBOL]])
            self.children.setdefault(parent, {})[symbol] = node

    def total(self, node: int) -> int:
        return int(self.nodes[node, TOTAL])

    def child(self, node: int, symbol: int) -> int | None:
        return self.children.get(node, {}).get(symbol)

    def counted(self, node: int, symbol: int) -> int:
        child = self.child(node, symbol)
        return 0 if child is None else int(self.nodes[child, COUNT])

    def after(self, contexts: list[int], symbol: int, F: int) -> list[int]:
        """The nodes of the contexts after a symbol, the shortest first; a context without a node ends it."""
        found = [self.child(node, symbol) for node in contexts[:F]]
        return [0, *(node for node in found if node is not None)]

    def is_full(self, F: int) -> bool:
        return int(self.numbers[USED]) + F + 1 > len(self.nodes)

    def count(self, contexts: list[int], symbol: int) -> None:
        """Count a symbol in its contexts, until it has made so many nodes."""
        self.numbers[CLOCK] += 1
        last = self.numbers[USED] + self.numbers[MADE]
        for node in contexts:
            if self.numbers[USED] == last:
                break
            child = self.child(node, symbol) or self.make(node, symbol)
            self.nodes[child, COUNT] += 1
            self.nodes[child, SEEN] = self.numbers[CLOCK]
            self.nodes[node, TOTAL] += 1
            if self.nodes[node, TOTAL] >= self.numbers[LIMIT]:
                of_node = list(self.children[node].values())
                self.nodes[of_node, COUNT] = -(-self.nodes[of_node, COUNT] // 2)
                self.nodes[node, TOTAL] = self.nodes[of_node, COUNT].sum()

    def make(self, node: int, symbol: int) -> int:
        made = int(self.numbers[USED])
        self.numbers[USED] += 1
        self.children.setdefault(node, {})[symbol] = made
        self.nodes[made] = 0
        self.nodes[made, [PARENT, SYMBOL, SIBLING]] = node, symbol, self.nodes[node, CHILD]
        self.nodes[node, CHILD] = made
        self.nodes[node, DISTINCT] += 1
        return made


def level(number: int) -> int:
    """The level of a number: itself below 8, then four more in each octave."""
    halvings = max(0, number.bit_length() - 3)
    return 4 * halvings + (number >> halvings)


def longest_known(table: Table, contexts: list[int]) -> int:
    """The longest context that a table knows."""
    return max((k for k, node in enumerate(contexts) if k > 0 and table.total(node) > 0), default=0)


@dataclass
class Order:
    """A context that has been counted, and where its two weights are in the gate."""

    node: int
    places: tuple[tuple[int, ...], tuple[int, ...]]

    def weight(self, gate: Floats) -> float:
        z = gate[self.places[0]] + gate[self.places[1]]
        e = math.exp(-abs(z))
        return float((e if z < 0 else 1) / (1 + e))


def orders(table: Table, contexts: list[int], longest: int, learns: int) -> Iterator[Order]:
    """The orders of a table whose contexts have been counted, the shortest first."""
    for k, node in list(enumerate(contexts))[1:]:
        total = table.total(node)
        if total > 0:
            rarer = max((level(table.total(contexts[k - 1])) - level(total) + 1) // 2, 0)
            distinct = min(level(int(table.nodes[node, DISTINCT])), COLUMNS - 1)
            by_counts = (learns, k - 1, min(level(total), LEVELS - 1), distinct)
            by_length = (learns, k - 1, LEVELS + longest, min(rarer, COLUMNS - 1))
            yield Order(node, (by_counts, by_length))


def floored(p: Any, V: int) -> Any:
    """Probabilities that are at least 2^-FLOOR."""
    return 2.0**-FLOOR + (1 - V * 2.0**-FLOOR) * p


def bad_table(nodes: int, F: int) -> bool:
    """Whether a table has no size that can be, or contexts of no length that can be."""
    return not 1 <= nodes < 2**31 or not 1 <= F <= MOST_ORDERS


def bad_read(symbols: Ids, V: int) -> bool:
    """Whether a symbol is outside -1 … V-1."""
    return bool(symbols.size) and not -1 <= symbols.min() <= symbols.max() < V


def index_nodes(slots: Ids, nodes: Ids, table: Sizes, C: int) -> int:
    slots[:] = 0
    return BAD_SIZE if bad_table(C, 1) else OK


def read_contexts(contexts: Ids) -> list[int]:
    """The nodes of the contexts that exist."""
    return [0, *map(int, contexts[1 : 1 + np.count_nonzero(contexts[1:])])]


def count_symbols(
    nodes: Ids,
    slots: Ids,
    table: Sizes,
    contexts: Ids,
    inputs: Ids,
    targets: Ids,
    starts: NDArray[np.uint8],
    C: int,
    F: int,
    n: int,
) -> int:
    if n < 0 or bad_table(C, F):
        return BAD_SIZE
    if bad_read(inputs, 2**31 - 1) or bad_read(targets, 2**31 - 1):
        return BAD_SYMBOL
    counts, known = Table(nodes, table), read_contexts(contexts)
    table[READ] = 0
    for symbol, target, starts_anew in zip(inputs.tolist(), targets.tolist(), starts, strict=True):
        if counts.is_full(F):
            break
        known = [0] if starts_anew else known
        if symbol >= 0:
            known = counts.after(known, symbol, F)
        if target >= 0:
            counts.count(known, target)
        table[READ] += 1
    contexts[:] = 0
    contexts[: len(known)] = known
    return OK


def rank_nodes(keys: Sizes, nodes: Ids, table: Sizes, C: int) -> int:
    if bad_table(C, 1):
        return BAD_SIZE
    used = int(table[USED])
    old = nodes[:used, SEEN] == 0
    nodes[:used, COUNT][old] = (nodes[:used, COUNT][old] + 1) // 2
    keys[:] = -1
    keys[:used] = nodes[:used, COUNT].astype(np.int64) * 2**32 + nodes[:used, SEEN]
    for node in reversed(range(1, used)):
        ancestor = int(nodes[node, PARENT])
        while True:
            keys[ancestor] = max(keys[ancestor], keys[node])
            if ancestor == 0:
                break
            ancestor = int(nodes[ancestor, PARENT])
    return OK


def keep_nodes(numbers: Ids, nodes: Ids, table: Sizes, keys: Sizes, least: int, first: int, C: int) -> int:
    if bad_table(C, 1) or first < 0:
        return BAD_SIZE
    used = int(table[USED])
    kept = keys[:used] > least
    kept[np.flatnonzero(keys[1:used] == least)[:first] + 1] = True
    kept[0] = True
    old = nodes[:used][kept]
    numbers[:] = 0
    numbers[:used][kept] = np.arange(len(old))
    table[[USED, CLOCK]] = 1, 0
    counts = Table(nodes, table)
    nodes[0] = 0
    for parent, symbol, count, *_ in old[1:].tolist():
        now = int(numbers[parent])
        nodes[counts.make(now, symbol), COUNT] = count
        nodes[now, TOTAL] += count
    return OK


def mix_losses(
    losses: Floats,
    gate: Floats,
    squares: Floats,
    learning_nodes: Ids,
    learning_slots: Ids,
    learning_table: Sizes,
    contexts: Ids,
    nodes: Ids,
    slots: Ids,
    table: Sizes,
    inputs: Ids,
    targets: Ids,
    starts: NDArray[np.uint8],
    rate: float,
    learns: int,
    V: int,
    Y: int,
    C: int,
    F: int,
    n: int,
) -> int:
    if n < 0 or V < 1 or bad_table(C, F) or bad_table(Y, F):
        return BAD_SIZE
    if bad_read(inputs, V) or bad_read(targets, V):
        return BAD_SYMBOL
    tables = [Table(nodes, table), Table(learning_nodes, learning_table)][: 2 if learns else 1]
    known = [read_contexts(contexts[j]) for j in range(len(tables))]
    learning_table[READ] = 0
    for i, (symbol, target) in enumerate(zip(inputs.tolist(), targets.tolist(), strict=True)):
        if learns and tables[1].is_full(F):
            break
        if starts[i]:
            known = [[0] for _ in tables]
        if symbol >= 0:
            known = [t.after(nodes, symbol, F) for t, nodes in zip(tables, known, strict=True)]
        if target >= 0:
            losses[i] = _mixed(losses[i], tables, known, target, gate, squares, rate, V)
            if learns:
                tables[1].count(known[1], target)
        learning_table[READ] += 1
    for j, of_table in enumerate(known):
        contexts[j] = 0
        contexts[j, : len(of_table)] = of_table
    return OK


def _mixed(
    loss: float,
    tables: list[Table],
    known: list[list[int]],
    target: int,
    gate: Floats,
    squares: Floats,
    rate: float,
    V: int,
) -> float:
    """The loss of a symbol by network and counts; then a step of the gate's weights."""
    longest = longest_known(tables[0], known[0])
    mixed = [float(np.exp(-loss))]
    used: list[tuple[Order, float, float]] = []
    for j, (table, contexts) in enumerate(zip(tables, known, strict=True)):
        for order in orders(table, contexts, longest, j):
            share, weight = table.counted(order.node, target) / table.total(order.node), order.weight(gate)
            used.append((order, share, weight))
            mixed.append(weight * share + (1 - weight) * mixed[-1])
    p = mixed[-1]
    if rate != 0 and p > 0:
        rest = 1.0
        for i, (order, share, weight) in reversed(list(enumerate(used))):
            g = (share - mixed[i]) * rest / p * weight * (1 - weight)
            for place in order.places:
                squares[place] += g * g
                gate[place] += rate * g / math.sqrt(squares[place] + 0.01)
            rest *= 1 - weight
    return float(-np.log(floored(p, V)))


def mix_probabilities(
    probabilities: Floats,
    gate: Floats,
    learning_nodes: Ids,
    contexts: Ids,
    nodes: Ids,
    learns: int,
    V: int,
    Y: int,
    C: int,
    F: int,
) -> int:
    if V < 1 or bad_table(C, F) or bad_table(Y, F):
        return BAD_SIZE
    empty = np.ones(TABLE, np.int64)
    tables = [Table(nodes, empty), Table(learning_nodes, empty)][: 2 if learns else 1]
    known = [read_contexts(of_table) for of_table in contexts]
    longest = longest_known(tables[0], known[0])
    for j, table in enumerate(tables):
        for order in orders(table, known[j], longest, j):
            weight, shares = order.weight(gate), np.zeros(V)
            child = table.nodes[order.node, CHILD]
            while child != 0:
                _, symbol, count, *_ = table.nodes[child]
                if symbol < V:
                    shares[symbol] = count / table.total(order.node)
                child = table.nodes[child, SIBLING]
            probabilities[:] = weight * shares + (1 - weight) * probabilities
    probabilities[:] = floored(probabilities, V)
    return OK
