"""Counts of symbols in contexts, and their mixture with a network's probabilities."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numba.core import types

from fastrnn.backends.numba.constants import (
    BAD_SIZE,
    BAD_SYMBOL,
    BINS,
    CHILD,
    CLOCK,
    COLUMNS,
    COUNT,
    DISTINCT,
    FLOOR,
    KEY,
    LEVELS,
    LIMIT,
    MADE,
    NODE,
    OK,
    PARENT,
    READ,
    SEEN,
    SIBLING,
    SYMBOL,
    TOTAL,
    USED,
)
from fastrnn.backends.numba.elementary import exp, log, sigmoid
from fastrnn.backends.numba.jit import inlined, procedure, routine
from fastrnn.backends.numba.llvm import at, clear, leading_zeros

MOST_ORDERS = COLUMNS - 1
LARGEST = 2**31 - 1

#: The most orders of two tables, and one more for the probability after the last one.
ROOM = 2 * MOST_ORDERS + 1


class Table(NamedTuple):
    """Pointers to the arrays of a table of counts; its room for nodes, and the mask of a slot's number."""

    nodes: Any
    slots: Any
    numbers: Any
    room: int
    mask: int


class Orders(NamedTuple):
    """Pointers to what is known of the orders in which a symbol is looked up.

    An order's context has so many symbols (``of``); ``share`` is count / total; ``before`` the probability
    from the network and the orders before; ``first`` and ``second`` are the weights in the gate.
    """

    of: Any
    share: Any
    weight: Any
    before: Any
    first: Any
    second: Any


@inlined
def table_of(nodes, slots, numbers, room):
    """A table with room for so many nodes."""
    mask = (1 << (64 - leading_zeros(2 * room - 1))) - 1
    return Table(at(nodes, 0), at(slots, 0), at(numbers, 0), room, mask)


@routine
def slot_of(t, parent, symbol):
    """The slot of a child, or the empty one where it would be. No more than half of the slots are full."""
    x = (np.uint64(parent) << np.uint64(32) | np.uint64(symbol)) ^ np.uint64(t.numbers[KEY])
    x = (x ^ x >> np.uint64(32)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ x >> np.uint64(29)) * np.uint64(0xBF58476D1CE4E5B9)
    slot = np.int64((x ^ x >> np.uint64(32)) & np.uint64(t.mask))
    while True:
        node = np.int64(t.slots[slot])
        if node == 0 or (t.nodes[node * NODE + PARENT] == parent and t.nodes[node * NODE + SYMBOL] == symbol):
            return slot
        slot = (slot + 1) & t.mask


@procedure
def look_up(children, t, contexts, symbol, F):
    """Write the child for a symbol of each context, 0 for what does not exist."""
    for k in range(F + 1):
        if k == 0 or contexts[k] != 0:
            children[k] = t.slots[slot_of(t, np.int64(contexts[k]), symbol)]
        else:
            children[k] = 0


@procedure
def append(contexts, t, children, known, symbol, F):
    """Append a symbol to the contexts; ``known`` is the last one looked up, and has these children."""
    if symbol != known:
        look_up(children, t, contexts, symbol, F)
    for k in range(F):
        contexts[k + 1] = children[k]


@procedure
def halve(t, parent):
    """Halve the counts of the children of a node, rounded up."""
    total, child = 0, t.nodes[parent * NODE + CHILD]
    while child != 0:
        count = (t.nodes[child * NODE + COUNT] + 1) // 2
        t.nodes[child * NODE + COUNT] = count
        total += count
        child = t.nodes[child * NODE + SIBLING]
    t.nodes[parent * NODE + TOTAL] = total


@procedure
def adopt(t, node):
    """Make a node the first child of its parent, and add its count there."""
    parent = np.int64(t.nodes[node * NODE + PARENT])
    t.nodes[node * NODE + SIBLING] = t.nodes[parent * NODE + CHILD]
    t.nodes[parent * NODE + CHILD] = node
    t.nodes[parent * NODE + TOTAL] += t.nodes[node * NODE + COUNT]
    t.nodes[parent * NODE + DISTINCT] += 1


@procedure
def count(t, children, contexts, symbol, F):
    """Count a symbol in its contexts, and make the first children that do not exist."""
    t.numbers[CLOCK] += 1
    left = t.numbers[MADE]
    for k in range(F + 1):
        parent = np.int64(contexts[k])
        if (k > 0 and parent == 0) or left == 0:
            break
        if children[k] == 0:
            left -= 1
            made = t.numbers[USED]
            t.numbers[USED] += 1
            children[k] = made
            t.slots[slot_of(t, parent, symbol)] = made
            clear(at(t.nodes, made * NODE), NODE)
            t.nodes[made * NODE + PARENT] = parent
            t.nodes[made * NODE + SYMBOL] = symbol
            adopt(t, made)
        child = children[k]
        t.nodes[child * NODE + COUNT] += 1
        t.nodes[child * NODE + SEEN] = t.numbers[CLOCK]
        t.nodes[parent * NODE + TOTAL] += 1
        if t.nodes[parent * NODE + TOTAL] >= t.numbers[LIMIT]:
            halve(t, parent)


@routine
def is_full(t, F):
    """Whether a symbol may need more nodes than there is room for."""
    return np.int64(t.numbers[USED] + F + 1 > t.room)


@routine
def level(number):
    """The level of a number: itself below 8, then four more in each octave."""
    halvings = np.int64(0) if number < 8 else np.int64(61) - leading_zeros(number)
    return 4 * halvings + (number >> halvings)


@procedure
def bins(orders, i, row, t, context, shorter, longest):
    """Find the weights of an order in the gate; its weights begin at ``row``."""
    of_total = level(np.int64(t.nodes[context * NODE + TOTAL]))
    rarer = (level(np.int64(t.nodes[shorter * NODE + TOTAL])) - of_total + 1) >> 1
    distinct = min(level(np.int64(t.nodes[context * NODE + DISTINCT])), COLUMNS - 1)
    orders.first[i] = row + min(of_total, LEVELS - 1) * COLUMNS + distinct
    orders.second[i] = row + (LEVELS + longest) * COLUMNS + min(max(rarer, 0), COLUMNS - 1)


@routine
def longest_known(t, contexts, F):
    """The longest context that a table knows."""
    longest = 0
    for k in range(1, F + 1):
        if contexts[k] == 0:
            break
        if t.nodes[contexts[k] * NODE + TOTAL] > 0:
            longest = k
    return longest


@routine
def find_orders(orders, done, t, gate, contexts, first_row, longest, F):
    """Write the orders whose contexts have been counted, with their weights; return how many there are."""
    i = done
    for k in range(1, F + 1):
        if contexts[k] == 0:
            break
        if t.nodes[contexts[k] * NODE + TOTAL] == 0:
            continue
        bins(orders, i, first_row + (k - 1) * BINS * COLUMNS, t, contexts[k], contexts[k - 1], longest)
        orders.weight[i] = sigmoid(gate[orders.first[i]] + gate[orders.second[i]])
        orders.of[i] = k
        i += 1
    return i


@procedure
def mix(orders, begin, end, t, contexts, children):
    """Let the probability, in ``before`` at ``begin``, go through the orders up to ``end``."""
    for i in range(begin, end):
        k, weight = orders.of[i], orders.weight[i]
        counted = 0.0 if children[k] == 0 else np.float64(t.nodes[children[k] * NODE + COUNT])
        orders.share[i] = counted / np.float64(t.nodes[contexts[k] * NODE + TOTAL])
        orders.before[i + 1] = weight * orders.share[i] + (1.0 - weight) * orders.before[i]


@procedure
def learn(gate, squares, orders, p, rate, end):
    """Take a step of the gate's weights along the gradient of ln p."""
    rest = 1.0 / p
    for i in range(end - 1, -1, -1):
        weight, first, second = orders.weight[i], orders.first[i], orders.second[i]
        g = (orders.share[i] - orders.before[i]) * rest * weight * (1.0 - weight)
        squares[first] += g * g
        squares[second] += g * g
        gate[first] += rate * g / np.sqrt(squares[first] + 0.01)
        gate[second] += rate * g / np.sqrt(squares[second] + 0.01)
        rest *= 1.0 - weight


@partial(routine, result=types.float64)
def floored(p, V):
    """A probability that is at least 2^-FLOOR."""
    least = 1.0 / np.float64(1 << FLOOR)
    return least + (1.0 - np.float64(V) * least) * p


@routine
def bad_table(nodes, F):
    """Whether a table has no size that can be, or contexts of no length that can be."""
    return np.int64(nodes < 1 or nodes > LARGEST or F < 1 or F > MOST_ORDERS)


@procedure
def add_shares(p, t, context, weight, V):
    """Mix the shares of all symbols after a context with their probabilities."""
    total = np.float64(t.nodes[context * NODE + TOTAL])
    for v in range(V):
        p[v] *= 1.0 - weight
    child = np.int64(t.nodes[context * NODE + CHILD])
    while child != 0:
        symbol = t.nodes[child * NODE + SYMBOL]
        if symbol < V:
            p[symbol] += weight * (np.float64(t.nodes[child * NODE + COUNT]) / total)
        child = np.int64(t.nodes[child * NODE + SIBLING])


@routine
def bad_read(symbols, n, V):
    """Whether a symbol is outside -1 … V-1."""
    others = False
    for i in range(n):
        others |= (symbols[i] < -1) | (symbols[i] >= V)
    return np.int64(others)


@inlined
def orders_in(reals, places):
    """The orders in memory for three reals and three places of each."""
    return Orders(
        at(places, 0), at(reals, 0), at(reals, ROOM), at(reals, 2 * ROOM),
        at(places, ROOM), at(places, 2 * ROOM),
    )  # fmt: skip


@routine
def index_nodes(slots, nodes, table, C):
    if bad_table(C, 1):
        return BAD_SIZE
    t = table_of(nodes, slots, table, C)
    clear(t.slots, t.mask + 1)
    for node in range(1, table[USED]):
        slots[slot_of(t, np.int64(nodes[node, PARENT]), np.int64(nodes[node, SYMBOL]))] = node
    return OK


@routine
def count_symbols(nodes, slots, table, contexts, inputs, targets, starts, C, F, n):
    if n < 0 or bad_table(C, F):
        return BAD_SIZE
    if bad_read(inputs, n, LARGEST) or bad_read(targets, n, LARGEST):
        return BAD_SYMBOL
    t, known_contexts = table_of(nodes, slots, table, C), at(contexts, 0)
    memory = np.empty(MOST_ORDERS + 1, np.int32)
    children, known, i = at(memory, 0), np.int64(-1), 0
    while i < n and not is_full(t, F):
        if starts[i]:
            clear(known_contexts, F + 1)
            known = np.int64(-1)
        if inputs[i] >= 0:
            append(known_contexts, t, children, known, np.int64(inputs[i]), F)
        known = np.int64(targets[i])
        if known >= 0:
            look_up(children, t, known_contexts, known, F)
            count(t, children, known_contexts, known, F)
        i += 1
    table[READ] = i
    return OK


@routine
def rank_nodes(keys, nodes, table, C):
    if bad_table(C, 1):
        return BAD_SIZE
    used = table[USED]
    for node in range(C):
        if node < used and nodes[node, SEEN] == 0:
            nodes[node, COUNT] = (nodes[node, COUNT] + 1) // 2
        keys[node] = (np.int64(nodes[node, COUNT]) << 32) + nodes[node, SEEN] if node < used else np.int64(-1)
    for node in range(used - 1, 0, -1):  # children come after their parents
        parent = nodes[node, PARENT]
        keys[parent] = max(keys[parent], keys[node])
    return OK


@routine
def keep_nodes(numbers, nodes, table, keys, least, first, C):
    if bad_table(C, 1) or first < 0:
        return BAD_SIZE
    t = table_of(nodes, numbers, table, C)
    used = np.int64(1)
    numbers[:] = 0
    for node in range(table[USED]):
        parent, symbol, count = nodes[node, PARENT], nodes[node, SYMBOL], nodes[node, COUNT]
        if node > 0:
            first -= keys[node] == least
            if keys[node] < least or (keys[node] == least and first < 0):
                continue
        number = np.int64(0) if node == 0 else used
        used += node > 0
        numbers[node] = number
        nodes[number, :] = 0
        nodes[number, PARENT] = numbers[parent]
        nodes[number, SYMBOL] = symbol
        nodes[number, COUNT] = count
        if number > 0:
            adopt(t, number)
    table[USED] = used
    table[CLOCK] = 0
    return OK


@routine
def mix_losses(
    losses, gate, squares, learning_nodes, learning_slots, learning_table, contexts, nodes, slots, table,
    inputs, targets, starts, rate, learns, V, Y, C, F, n,
):  # fmt: skip
    if n < 0 or V < 1 or bad_table(C, F) or bad_table(Y, F):
        return BAD_SIZE
    if bad_read(inputs, n, V) or bad_read(targets, n, V):
        return BAD_SYMBOL
    fixed = table_of(nodes, slots, table, C)
    other = table_of(learning_nodes, learning_slots, learning_table, Y)
    of_fixed, of_other = at(contexts, 0), at(contexts, F + 1)
    weights, gradients = at(gate, 0), at(squares, 0)
    memory = np.empty((2, MOST_ORDERS + 1), np.int32)
    children, others = at(memory, 0), at(memory, MOST_ORDERS + 1)
    reals, places = np.empty((3, ROOM)), np.empty((3, ROOM), np.int64)
    orders = orders_in(reals, places)
    known, i = np.int64(-1), 0
    while i < n and not (learns and is_full(other, F)):
        if starts[i]:
            clear(of_fixed, 2 * (F + 1))
            known = np.int64(-1)
        if inputs[i] >= 0:
            append(of_fixed, fixed, children, known, np.int64(inputs[i]), F)
            if learns:
                append(of_other, other, others, known, np.int64(inputs[i]), F)
        known = np.int64(targets[i])
        if known >= 0:
            longest = longest_known(fixed, of_fixed, F)
            orders.before[0] = exp(-losses[i])
            look_up(children, fixed, of_fixed, known, F)
            middle = find_orders(orders, np.int64(0), fixed, weights, of_fixed, np.int64(0), longest, F)
            mix(orders, np.int64(0), middle, fixed, of_fixed, children)
            end = middle
            if learns:
                look_up(others, other, of_other, known, F)
                end = find_orders(orders, middle, other, weights, of_other, F * BINS * COLUMNS, longest, F)
                mix(orders, middle, end, other, of_other, others)
            p = orders.before[end]
            losses[i] = -log(floored(p, V))
            if rate != 0 and p > 0:
                learn(weights, gradients, orders, p, rate, end)
            if learns:
                count(other, others, of_other, known, F)
        i += 1
    learning_table[READ] = i
    return OK


@routine
def mix_probabilities(probabilities, gate, learning_nodes, contexts, nodes, learns, V, Y, C, F):
    if V < 1 or bad_table(C, F) or bad_table(Y, F):
        return BAD_SIZE
    none = np.empty(0, np.int64)
    reals, places = np.empty((3, ROOM)), np.empty((3, ROOM), np.int64)
    orders, p = orders_in(reals, places), at(probabilities, 0)
    longest = longest_known(table_of(nodes, contexts, none, C), at(contexts, 0), F)
    for j in range(2 if learns else 1):
        t = table_of(nodes if j == 0 else learning_nodes, contexts, none, C)
        known, row = at(contexts, j * (F + 1)), j * F * BINS * COLUMNS
        end = find_orders(orders, np.int64(0), t, at(gate, 0), known, row, longest, F)
        for i in range(end):
            add_shares(p, t, np.int64(known[orders.of[i]]), orders.weight[i], V)
    for v in range(V):
        p[v] = floored(p[v], V)
    return OK
